"""Train on several devices at once: a process a device, which torch.distributed starts.

Ultralytics' own launcher pickles the trainer and its model. Here every process is given the path of a plan:
it builds its own resident store from the packets' files or from the node's store, and reads the start weights
from a safetensors file. The rest (process group, averaged gradients, the end of epochs) is Ultralytics'.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import LearningError
from common.learning.checkpoint import CHECKPOINT, read_checkpoint
from common.learning.hooks import TrainerHooks
from common.learning.settings import TrainingSettings
from common.learning.trainer import TrainingResult, loss_labels, round_identity
from common.learning.weights import DetectorWeights, encode_weights, read_weights, write_durably
from common.learning.yolo_environment import prepare_yolo

__all__ = ["PLAN", "ParallelPlan", "read_plan", "train_parallel"]

PLAN, START, LOG = "plan.json", "start.safetensors", "parallel.log"
PROGRESS, STOP, RESULT, ERROR = "progress.json", "stop", "result.json", "error.txt"
PAUSE = "pause"
"""Files by which the processes and the one that started them tell each other what is going on."""
ROUND = "round.json"
LOOK_S = 0.2
"""Seconds between two looks at the progress."""
PATIENCE_S = 60.0
"""Seconds that processes get to end after one of them has failed, or after they were told to stop twice."""
TRIES = 3
"""Times in a row that the processes are started, from the newest checkpoint, when one of them is killed or
ends without a word: as often as a node starts a trainer that crashes in one round."""

_ENDED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
"""What ``torch.distributed.run`` logs of the process that ended first."""


@dataclass(frozen=True, slots=True)
class ParallelPlan:
    """What each process needs to know.

    Attributes:
        settings: The node's; ``devices`` has one for each process.
        folder: Where the processes' files are.
        round_id: Names the training in its checkpoint.
        packets: Files of packets to train on; empty when there is a store.
        store: Folder of the node's store.
        position: Packets up to this position of the store are trained on.
        parent: Id of the process that started them; they stop when it has gone.
    """

    settings: TrainingSettings
    folder: Path
    round_id: str = ""
    packets: tuple[Path, ...] = ()
    store: Path | None = None
    position: int = 0
    parent: int = 0

    def to_json(self) -> bytes:
        """For the plan's file."""
        return json.dumps(
            {
                "settings": self.settings.model_dump(mode="json"),
                "round_id": self.round_id,
                "packets": [str(path.absolute()) for path in self.packets],
                "store": None if self.store is None else str(self.store.absolute()),
                "position": self.position,
                "parent": self.parent,
            }
        ).encode()

    def start(self) -> DetectorWeights:
        """The weights to start from."""
        return read_weights(self.folder / START)


def read_plan(path: Path) -> ParallelPlan:
    """The plan in a file that :func:`train_parallel` wrote.

    Raises:
        LearningError: There is none, or it is damaged.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
        return ParallelPlan(
            TrainingSettings.model_validate(value["settings"]),
            path.parent,
            value["round_id"],
            tuple(Path(item) for item in value["packets"]),
            None if value["store"] is None else Path(value["store"]),
            value["position"],
            value["parent"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LearningError(f"{path} is no plan of a training on several devices: {error}") from error


def train_parallel(
    settings: TrainingSettings,
    start: DetectorWeights,
    work_dir: Path,
    hooks: TrainerHooks | None = None,
    *,
    packets: Sequence[Path] = (),
    store: Path | None = None,
    position: int = 0,
) -> TrainingResult:
    """Train with a process for each of ``settings.devices``, as :func:`common.learning.trainer.train` does.

    A batch is shared out among the processes. Frames that arrive meanwhile wait for the next round, and there
    is no evaluation between epochs. A training that was stopped goes on from the checkpoint in ``work_dir``;
    so does one of whose processes one was killed, a few times.

    Args:
        settings: As for the node.
        start: Weights to start from.
        work_dir: Folder for the checkpoint and the processes' files.
        hooks: ``on_step``, ``should_stop`` and ``busy`` are asked, a few times a second.
        packets: Files to train on, or:
        store: The node's store.
        position: Up to which its packets are trained on.

    Raises:
        LearningError: As of one process, or processes ended unexpectedly again and again.
    """
    hooks = hooks or TrainerHooks()
    prepare_yolo(settings.threads)
    folder = work_dir.absolute() / "parallel"
    round_id = round_identity(settings, start)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for rank in range(len(settings.devices)):
        (folder / f"rank{rank}").mkdir()
        if (work_dir / ROUND).exists():
            shutil.copyfile(work_dir / ROUND, folder / f"rank{rank}" / ROUND)
    plan = ParallelPlan(settings, folder, round_id, tuple(packets), store, position, os.getpid())
    write_durably(folder / START, encode_weights(start))
    write_durably(folder / PLAN, plan.to_json())
    _run(plan, hooks)
    return _result(plan, start, work_dir / CHECKPOINT)


def _run(plan: ParallelPlan, hooks: TrainerHooks) -> None:
    """Run the processes to their end, again from the checkpoint when one of them was killed."""
    for number in range(1, TRIES + 1):
        code = _once(plan, hooks)
        if code == 0 and (plan.folder / RESULT).exists():
            return
        said = plan.folder / ERROR
        if said.exists():
            raise LearningError(said.read_text(encoding="utf-8"))
        sentence = _ending(plan, code)
        if number == TRIES:
            raise LearningError(f"{sentence}, and the training was begun {TRIES} times; {_advice(plan)}")
        sys.stderr.write(f"trainer: {sentence}; the training is tried again from its newest checkpoint\n")


def _once(plan: ParallelPlan, hooks: TrainerHooks) -> int:
    """Run the processes to their end; returns the exit code of what started them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command += [
        str(len(plan.settings.devices)),
        "-m",
        "common.learning.parallel_worker",
        str(plan.folder / PLAN),
    ]
    # A folder named common where the node was started must not take the place of ours.
    environment = os.environ | {"OMP_NUM_THREADS": str(plan.settings.threads), "PYTHONSAFEPATH": "1"}
    with (plan.folder / LOG).open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            last = -1
            while process.poll() is None:
                time.sleep(LOOK_S)
                with contextlib.suppress(OSError, ValueError):
                    step, steps, loss = json.loads((plan.folder / PROGRESS).read_bytes())
                    if step != last:
                        last = step
                        hooks.on_step(step, steps, loss)
                if hooks.should_stop():
                    (plan.folder / STOP).touch()
                if hooks.busy():
                    (plan.folder / PAUSE).touch()
                else:
                    (plan.folder / PAUSE).unlink(missing_ok=True)
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE_S)
                process.kill()
            process.wait()
    return process.returncode


def _ending(plan: ParallelPlan, code: int) -> str:
    """How the processes ended without a word, as the beginning of a sentence."""
    devices = plan.settings.devices
    ended = _ENDED.search((plan.folder / LOG).read_text(errors="replace"))
    if ended is None:
        return f"the training on {', '.join(devices)} ended {_by(code)}"
    which = f"process {int(ended[2]) + 1} of {len(devices)} of the training on {', '.join(devices)}"
    return (
        f"{which} was ended {_by(int(ended[1]))}"
        if int(ended[1]) < 0
        else f"{which} ended {_by(int(ended[1]))}"
    )


def _by(code: int) -> str:
    try:
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    except ValueError:
        return f"by signal {-code}"


def _advice(plan: ParallelPlan) -> str:
    return (
        "the system kills processes when memory runs out: lower batch, imgsz or memory_bytes, or see "
        f"{plan.folder / LOG}"
    )


def _result(plan: ParallelPlan, start: DetectorWeights, path: Path) -> TrainingResult:
    value = json.loads((plan.folder / RESULT).read_bytes())
    point = read_checkpoint(path, plan.round_id)
    if point is None:
        raise LearningError(f"the training left no checkpoint at {path}; look at {plan.folder / LOG}")
    settings = plan.settings
    weights = DetectorWeights(start.model, settings.classes, settings.imgsz, dict(point.ema))
    losses = loss_labels(point.losses)
    curve = point.curve if len(point.curve) else torch.empty(0, len(losses))
    shutil.rmtree(plan.folder, ignore_errors=True)
    return TrainingResult(
        weights, point.steps, value["epochs"], point.seconds, curve, losses, value["interrupted"]
    )
