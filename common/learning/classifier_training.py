"""Train a classifier on the resident store, as Rapid-INR does: images are decoded batch by batch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.errors import LearningError
from common.learning.batches import TrainingBatch, decode_views
from common.learning.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    load_optimizer,
    read_checkpoint,
    write_checkpoint,
)
from common.learning.classifier import Classifier, load_classifier, normalized
from common.learning.detector import snapshot
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.resident_loader import ResidentLoader
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.trainer import TrainingResult, round_identity, set_momentum
from common.learning.views import View
from common.learning.weights import DetectorWeights

__all__ = ["decode_classified", "optimizer_of", "train_classifier"]

MOMENTUM = 0.9
"""Of SGD, and beta1 of AdamW, as for detectors."""


def decode_classified(
    store: ResidentStore, views: Sequence[View], imgsz: int, *, supersample: int = 1
) -> TrainingBatch:
    """As :func:`common.learning.batches.decode_views`, with one class an image: (B, 1) in ``cls``.

    A frame's class is that of its first box, whatever the view shows of it; its box covers the whole frame.
    """
    batch = decode_views(store, views, imgsz, supersample=supersample)
    rows = store.frame_rows(torch.tensor([view.frames[0] for view in views]))
    batch["cls"] = store.label_rows(rows[:, 4])[:, :1].to(store.device)
    return batch


def train_classifier(
    store: ResidentStore,
    settings: TrainingSettings,
    start: DetectorWeights,
    work_dir: Path,
    hooks: TrainerHooks | None = None,
) -> TrainingResult:
    """Train until the epochs, the steps or the seconds of the settings are used up.

    A training that was killed goes on from its last checkpoint, as a detector's does. Mosaics would mix
    classes, so there are none.

    Args:
        store: Frames to train on, each with one class.
        settings: As for the node; ``augmentation.mosaic`` is not used.
        start: Weights to start from.
        work_dir: Folder for the checkpoint.
        hooks: What happens around steps.

    Raises:
        LearningError: Nothing to train on, the weights fit another class list, or the loss became NaN.
    """
    if len(store) == 0:
        raise LearningError(
            "there is no image to train on: none has a class and is outside the validation blocks"
        )
    if start.classes != settings.classes:
        raise LearningError("the start weights know other classes than the settings list; use one class list")
    torch.set_num_threads(settings.threads)
    work_dir.mkdir(parents=True, exist_ok=True)
    round_id = round_identity(settings, start)
    run = _Run(store, settings, start, work_dir / CHECKPOINT, round_id, hooks or TrainerHooks())
    try:
        run.train()
    except torch.OutOfMemoryError as error:
        raise LearningError(
            f"the training does not fit into the memory of {store.device}: lower batch, imgsz or memory_bytes"
        ) from error
    return run.result(start)


class _Run:
    """One training under way."""

    def __init__(
        self,
        store: ResidentStore,
        settings: TrainingSettings,
        start: DetectorWeights,
        path: Path,
        round_id: str,
        hooks: TrainerHooks,
    ) -> None:
        self._store, self._settings, self._hooks = store, settings, hooks
        self._path, self._round_id = path, round_id
        self._model: Classifier = load_classifier(start).to(store.device)
        set_momentum(self._model, settings)
        sampler = EpochSampler(store, settings.batch, settings.seed, settings.replay_share)
        augmentation = settings.augmentation.model_copy(update={"mosaic": 0.0})
        self._loader = ResidentLoader(sampler, settings, augmentation, decode_classified, settings.epochs)
        self._optimizer = optimizer_of(self._model, settings)
        self._curve: list[Tensor] = []
        self._steps, self._epoch, self._seconds = 0, 0, 0.0
        self._interrupted = False
        self._loaded_seconds = 0.0
        self._last_checkpoint = self._last_report = time.monotonic()
        self._resume()
        planned = settings.epochs * sampler.batches
        self._planned = min(planned, settings.max_steps or planned)

    def train(self) -> None:
        settings = self._settings
        while self._epoch < settings.epochs and self._steps < self._planned and not self._out_of_time():
            share = self._epoch / settings.epochs
            rate = settings.learning_rate * (1 - share * (1 - settings.final_learning_rate))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            if not self._train_epoch():
                break
            self._epoch += 1
            due = time.monotonic() - self._last_checkpoint >= settings.checkpoint_seconds
            if due or self._interrupted:
                self._write_checkpoint()
            self._hooks.on_epoch(self._epoch, self._model)
            if self._interrupted:
                return
        if self._interrupted:
            self._write_checkpoint()

    def result(self, start: DetectorWeights) -> TrainingResult:
        meter = self._loader.decoding
        rest = self._seconds - self._loaded_seconds - meter.seconds()
        return TrainingResult(
            snapshot(self._model, start.model, start.classes, self._settings.imgsz),
            self._steps,
            self._epoch + (1 if self._loader.left else 0),
            self._seconds,
            torch.stack(self._curve).cpu()[:, None] if self._curve else torch.empty(0, 1),
            ("class",),
            self._interrupted,
            meter.frames_per_second() if meter.frames else None,
            meter.frames / rest if meter.frames and rest > 0 else None,
        )

    def _train_epoch(self) -> bool:
        """Whether the epoch came to its end."""
        self._loader.epoch = self._epoch
        self._model.train()
        begin = time.monotonic()
        for batch in self._loader:
            images, classes = normalized(batch["img"]), batch["cls"][:, 0].long()
            loss = cross_entropy(self._model(images), classes)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            # Hooks change the store, which must not be read meanwhile; waiting for that is training time.
            self._loader.settle()
            self._steps += 1
            self._curve.append(loss.detach().float())
            self._seconds += time.monotonic() - begin
            self._tell()
            self._hooks.between_batches()
            done = self._steps >= self._planned or self._out_of_time()
            self._interrupted = not done and self._hooks.should_stop()
            if (done or self._interrupted) and self._loader.left:
                return False
            begin = time.monotonic()
        if self._curve and not math.isfinite(float(self._curve[-1])):
            raise LearningError(
                f"the training loss became NaN or infinite in epoch {self._epoch + 1}; lower learning_rate"
            )
        return True

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._last_report >= 0.5 or self._steps == self._planned:
            self._last_report = now
            self._hooks.on_step(self._steps, self._planned, float(self._curve[-1]))

    def _out_of_time(self) -> bool:
        limit = self._settings.max_seconds
        return limit is not None and self._seconds >= limit

    def _resume(self) -> None:
        point = read_checkpoint(self._path, self._round_id)
        if point is None:
            return
        self._model.load_state_dict(dict(point.model))
        load_optimizer(self._optimizer, point.optimizer)
        self._curve = list(point.curve)
        self._steps, self._epoch = point.steps, point.next_epoch
        self._seconds = self._loaded_seconds = point.seconds

    def _write_checkpoint(self) -> None:
        """An epoch that was cut short is begun again."""
        state = self._optimizer.state_dict()["state"]
        write_checkpoint(
            self._path,
            Checkpoint(
                round_id=self._round_id,
                next_epoch=self._epoch,
                steps=self._steps,
                seconds=self._seconds,
                ema_updates=0,
                model=self._model.state_dict(),
                ema={},
                optimizer={
                    i: {k: v for k, v in s.items() if isinstance(v, Tensor)} for i, s in state.items()
                },
                curve=torch.stack(self._curve) if self._curve else torch.empty(0),
                losses=("class",),
            ),
        )
        self._last_checkpoint = time.monotonic()


def optimizer_of(model: Classifier, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimizer of the settings, with weight decay for weights only, not for biases or scales."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimizer == "SGD":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(MOMENTUM, 0.999))
