"""Train a detector on the resident store with Ultralytics' own trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from common.errors import LearningError
from common.learning.batches import ViewDecoder, decode_views
from common.learning.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint
from common.learning.detector import load_detector, snapshot
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.weights import DetectorWeights, encode_weights
from common.learning.yolo_environment import prepare_yolo

if TYPE_CHECKING:
    # Importing it imports Ultralytics, which must be prepared first.
    from common.learning.resident_trainer import ResidentTrainer

__all__ = [
    "TrainingResult",
    "discard_checkpoint",
    "loss_labels",
    "round_identity",
    "set_momentum",
    "train",
]

_LOSSES = {"box_loss": "box", "cls_loss": "class", "dfl_loss": "distribution"}
"""What Ultralytics' loss items are called here."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The end of a training.

    Attributes:
        weights: Averaged (EMA) weights.
        steps: Optimizer steps, those before a resumption included.
        epochs: Epochs begun.
        seconds: Time in training steps, decoding included, evaluation excluded.
        curve: (steps, L) float32: each loss item of every step.
        losses: What they are called: box, class and distribution, or as Ultralytics calls them.
        interrupted: Stopped by ``should_stop``; the checkpoint is kept and the same training goes on from it.
        decode_frames_per_second: Frames decoded a second while training; None when nothing was decoded now.
        training_frames_per_second: Frames trained on a second in the time that decoding leaves of a training:
            both rates together say how long one takes, also where decoding runs beside the steps; None
            likewise.
    """

    weights: DetectorWeights
    steps: int
    epochs: int
    seconds: float
    curve: Tensor
    losses: tuple[str, ...]
    interrupted: bool = False
    decode_frames_per_second: float | None = None
    training_frames_per_second: float | None = None


def round_identity(settings: TrainingSettings, start: DetectorWeights) -> str:
    """Names a training by what it starts from: a checkpoint of another one is not resumed."""
    relevant = settings.model_dump_json(
        exclude={
            "device",
            "threads",
            "memory_bytes",
            "decode_ahead",
            "nice",
            "yield_s",
            "check_frames",
            "host_bytes",
            "disk_bytes",
            "when_full",
            "keep",
            "hardness_steps",
            "validation_images",
            "gate",
            "checkpoint_seconds",
        }
    )
    return hashlib.sha256(relevant.encode() + encode_weights(start)).hexdigest()


def discard_checkpoint(work_dir: Path) -> None:
    """The result of a training is safe: its checkpoint is of no more use."""
    (work_dir / CHECKPOINT).unlink(missing_ok=True)


def train(
    store: ResidentStore,
    settings: TrainingSettings,
    start: DetectorWeights,
    work_dir: Path,
    hooks: TrainerHooks | None = None,
    decode: ViewDecoder | None = None,
) -> TrainingResult:
    """Train until the epochs, the steps or the seconds of the settings are used up.

    A training that was killed goes on from its last checkpoint in ``work_dir`` when it is started again with
    the same settings and start weights. The checkpoint stays until :func:`discard_checkpoint`, so that a kill
    before the result is safe costs little.

    Args:
        store: Frames to train on.
        settings: As for the node.
        start: Weights to start from.
        work_dir: Folder for the checkpoint and Ultralytics' own files.
        hooks: What happens around steps.
        decode: What makes a batch of views; by default :func:`common.learning.batches.decode_views`. A
            benchmark gives a peer.

    Raises:
        LearningError: Nothing to train on, the weights fit another class list, the loss became NaN, or the
            device's memory is too small.
    """
    if len(store) == 0:
        raise LearningError(
            "there is no frame to train on: none is labelled and outside the validation blocks"
        )
    if start.classes != settings.classes:
        raise LearningError(
            f"the start weights know the classes {list(start.classes)}, "
            f"the settings list {list(settings.classes)}; use weights of this deployment"
        )
    prepare_yolo(settings.threads)
    from common.learning.resident_trainer import ResidentTrainer

    work_dir.mkdir(parents=True, exist_ok=True)
    round_id = round_identity(settings, start)
    point = read_checkpoint(work_dir / CHECKPOINT, round_id)
    detector = load_detector(start)
    set_momentum(detector, settings)
    try:
        trainer = ResidentTrainer(
            detector,
            store,
            settings,
            work_dir,
            round_id,
            hooks or TrainerHooks(),
            point,
            decode or decode_views,
        )
        finished = point is not None and (
            point.next_epoch >= trainer.epochs or trainer.steps >= trainer.planned_steps
        )
        if finished and point is not None:
            detector.load_state_dict(dict(point.ema))
            epochs = point.next_epoch
        else:
            trainer.train()
            detector, epochs = trainer.ema.ema, trainer.epoch + 1
    except torch.OutOfMemoryError as error:
        raise LearningError(
            f"the training does not fit into the memory of {store.device}: lower batch, imgsz or memory_bytes"
        ) from error
    losses = loss_labels(trainer.loss_names)
    curve = torch.stack(trainer.curve).float().cpu() if trainer.curve else torch.empty(0, len(losses))
    weights = snapshot(detector, start.model, settings.classes, settings.imgsz)
    return TrainingResult(
        weights,
        trainer.steps,
        epochs,
        trainer.seconds,
        curve,
        losses,
        trainer.interrupted,
        *_speeds(trainer, point),
    )


def loss_labels(names: Sequence[str]) -> tuple[str, ...]:
    """What Ultralytics' loss items are called here; of an earlier version's checkpoint there are none."""
    return tuple(_LOSSES.get(name, name) for name in names or _LOSSES)


def set_momentum(model: torch.nn.Module, settings: TrainingSettings) -> None:
    """Give batch normalization the momentum of the settings."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = settings.batchnorm_momentum


def _speeds(trainer: ResidentTrainer, point: Checkpoint | None) -> tuple[float | None, float | None]:
    """Frames decoded a second and, decoding left out, trained on, both since this process began."""
    loader = getattr(trainer, "train_loader", None)
    if loader is None or not loader.decoding.frames:
        return None, None
    rest = trainer.seconds - (point.seconds if point else 0.0) - loader.decoding.seconds()
    return loader.decoding.frames_per_second(), loader.decoding.frames / rest if rest > 0 else None
