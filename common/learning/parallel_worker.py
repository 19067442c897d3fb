"""One process of a training on several devices, which ``torch.distributed.run`` starts.

It builds its own resident store by path, from the packets or from the node's store.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from common.bitstream import decode_packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.errors import LearningError, ResidualInrError
from common.learning.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from common.learning.detector import load_detector, resolve_device
from common.learning.hooks import TrainerHooks
from common.learning.node_trainer import NodeTrainer
from common.learning.parallel import ERROR, PAUSE, PROGRESS, RESULT, STOP, ParallelPlan, read_plan
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.trainer import set_momentum
from common.learning.weights import write_durably
from common.learning.yolo_environment import prepare_yolo
from common.node.niceness import session_makes_way
from common.store import open_training_view

__all__ = ["main"]

PACKETS_AT_A_TIME = 64
PAUSE_LOOK_S = 0.02
"""Seconds between two looks whether a pause has ended."""


def main() -> int:
    """Train as the plan says; 0 when it was done or stopped, 1 after an error, which is written down."""
    plan = read_plan(Path(sys.argv[1]))
    rank = int(os.environ["LOCAL_RANK"])
    if plan.store is not None:
        # The trainer's niceness is inherited; that of its session is not, since each process leads its own.
        session_makes_way(plan.settings.nice)
    try:
        _train(plan, rank)
    except ResidualInrError as error:
        write_durably(plan.folder / ERROR, " ".join(str(error).split()).encode())
        return 1
    return 0


def _train(plan: ParallelPlan, rank: int) -> None:
    # What makes a frame useful is the business of the store that outlives this training.
    changes = {"device": plan.settings.devices[rank], "hardness_steps": 0}
    settings = TrainingSettings.model_validate(plan.settings.model_dump() | changes)
    prepare_yolo(settings.threads)
    store = _store(plan, settings, plan.folder / f"rank{rank}")
    if len(store) == 0:
        raise LearningError(
            "there is no frame to train on: none is labelled and outside the validation blocks"
        )
    from common.learning.parallel_trainer import ParallelTrainer

    checkpoint = plan.folder.parent / CHECKPOINT
    detector = load_detector(plan.start())
    set_momentum(detector, settings)
    hooks = _hooks(plan, os.getppid()) if rank == 0 else TrainerHooks()
    point = read_checkpoint(checkpoint, plan.round_id)
    trainer = ParallelTrainer(
        detector,
        store,
        settings,
        plan.folder.parent if rank == 0 else plan.folder / f"rank{rank}",
        plan.round_id,
        hooks,
        point,
        devices=plan.settings.devices,
    )
    finished = point is not None and (
        point.next_epoch >= trainer.epochs or trainer.steps >= trainer.planned_steps
    )
    if not finished:
        trainer.train()
        if rank == 0:
            write_checkpoint(checkpoint, trainer.checkpoint())
    if rank == 0:
        epochs = point.next_epoch if finished and point is not None else trainer.epoch + 1
        answer = {"epochs": epochs, "interrupted": trainer.interrupted}
        write_durably(plan.folder / RESULT, json.dumps(answer).encode())


def _store(plan: ParallelPlan, settings: TrainingSettings, folder: Path) -> ResidentStore:
    """The same frames in the same order in every process."""
    if plan.store is not None:
        node = NodeTrainer(open_training_view(plan.store), folder, settings)
        node.catch_up(until=plan.position)
        return node.store
    store = ResidentStore(
        resolve_device(settings.device), settings.memory_bytes, settings, settings.when_full, folder
    )
    for at in range(0, len(plan.packets), PACKETS_AT_A_TIME):
        files = plan.packets[at : at + PACKETS_AT_A_TIME]
        store.add([decode_packet(file.read_bytes()) for file in files], KeyframeFiles(files[0].parent))
    return store


def _hooks(plan: ParallelPlan, starter: int) -> TrainerHooks:
    """What the first process tells and asks; it stops all of them when what started them has gone."""

    def on_step(step: int, steps: int, loss: float) -> None:
        write_durably(plan.folder / PROGRESS, json.dumps([step, steps, loss]).encode())

    def should_stop() -> bool:
        alone = os.getppid() != starter or not Path(f"/proc/{plan.parent}").exists()
        return alone or (plan.folder / STOP).exists()

    def give_way() -> None:
        # The others wait for this process at the end of the step.
        end = time.monotonic() + plan.settings.yield_s
        while (plan.folder / PAUSE).exists() and not should_stop() and time.monotonic() < end:
            time.sleep(PAUSE_LOOK_S)

    return TrainerHooks(between_batches=give_way, on_step=on_step, should_stop=should_stop)


if __name__ == "__main__":
    raise SystemExit(main())
