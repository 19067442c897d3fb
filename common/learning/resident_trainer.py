"""Ultralytics' own detection trainer, fed from the resident store.

Importing this module imports Ultralytics: :mod:`common.learning.trainer` does so after preparing it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import unwrap_model

from common.errors import LearningError
from common.learning.batches import ViewDecoder, decode_views
from common.learning.checkpoint import CHECKPOINT, Checkpoint, load_optimizer, write_checkpoint
from common.learning.detector import Detector
from common.learning.frame_losses import FrameLosses
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.resident_loader import ResidentLoader
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.views import NO_AUGMENTATION

__all__ = ["ResidentTrainer"]


class ResidentTrainer(DetectionTrainer):
    """DetectionTrainer on device-resident tensors: no image file, no pickle, no download.

    Args:
        detector: Model to train, with its start weights.
        store: Frames to train on.
        settings: As for the node.
        work_dir: Folder for the checkpoint and Ultralytics' own files.
        round_id: Names the training in its checkpoint.
        hooks: What happens around steps.
        resume: Checkpoint to go on from.
        decode: What makes a batch of views.
    """

    # Ultralytics sets these while it sets itself up and declares them as None or as a path.
    model: Any
    ema: Any
    optimizer: Any
    loss_items: Any
    loss_names: Any
    lf: Any
    scheduler: Any
    train_loader: Any
    device_override: Mapping[str, str] = MappingProxyType({})
    """The device as Ultralytics names it, when that is not the store's."""

    def __init__(
        self,
        detector: Detector,
        store: ResidentStore,
        settings: TrainingSettings,
        work_dir: Path,
        round_id: str,
        hooks: TrainerHooks,
        resume: Checkpoint | None,
        decode: ViewDecoder = decode_views,
    ) -> None:
        self.frames = store
        self.decode = decode
        self.settings = settings
        self.hooks = hooks
        self.round_id = round_id
        self.checkpoint_path = work_dir / CHECKPOINT
        self.resume_point = resume
        self.steps = resume.steps if resume else 0
        self.seconds = resume.seconds if resume else 0.0
        self.curve: list[Tensor] = list(resume.curve) if resume else []
        self.interrupted = False
        self._limit_reached = False
        self._last_checkpoint = self._last_report = time.monotonic()
        per_epoch = EpochSampler(store, settings.batch, settings.seed, settings.replay_share).batches
        epochs = settings.epochs
        if settings.max_steps is not None:
            epochs = min(epochs, math.ceil(settings.max_steps / per_epoch))
        self.planned_steps = min(epochs * per_epoch, settings.max_steps or epochs * per_epoch)
        overrides = _overrides(settings, store.device, work_dir, epochs)
        super().__init__(overrides=overrides | dict(self.device_override))
        self.model = detector
        self.add_callback("on_train_start", _before_training)
        self.add_callback("on_train_epoch_start", _before_epoch)
        self.add_callback("on_train_batch_end", _after_batch)
        self.add_callback("on_fit_epoch_end", _after_epoch)

    def get_dataset(self) -> dict[str, Any]:
        """Class names; the frames are resident, so there are no paths."""
        names = dict(enumerate(self.settings.classes))
        return {"train": "", "val": "", "names": names, "nc": len(names), "channels": 3}

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> ResidentLoader:
        """Batches straight from the resident store; for validation too, since it is done elsewhere."""
        settings = self.settings
        sampler = EpochSampler(self.frames, batch_size, settings.seed, settings.replay_share)
        augmentation = settings.augmentation if mode == "train" else NO_AUGMENTATION
        last_mosaic = self.epochs - augmentation.close_mosaic
        return ResidentLoader(sampler, settings, augmentation, self.decode, last_mosaic)

    def validate(self) -> tuple[dict[str, float], None]:
        """Evaluation belongs to :mod:`common.learning.validation`, on original images."""
        return {}, None

    def final_eval(self) -> None:
        """As :meth:`validate`."""

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """The loss curve is kept in memory and in the checkpoint."""

    def save_model(self) -> bool:
        """Write a safetensors checkpoint when one is due; Ultralytics' own pickled one is never written."""
        due = time.monotonic() - self._last_checkpoint >= self.settings.checkpoint_seconds
        if due or self.interrupted:
            write_checkpoint(self.checkpoint_path, self.checkpoint())
            self._last_checkpoint = time.monotonic()
        return False

    def checkpoint(self) -> Checkpoint:
        """Where the training stands; an epoch that was cut short is begun again."""
        cut_short = self.interrupted and self.train_loader.left > 0
        state = self.optimizer.state_dict()["state"]
        tensors = {i: {k: v for k, v in s.items() if isinstance(v, Tensor)} for i, s in state.items()}
        return Checkpoint(
            round_id=self.round_id,
            next_epoch=self.epoch if cut_short else self.epoch + 1,
            steps=self.steps,
            seconds=self.seconds,
            ema_updates=self.ema.updates,
            model=unwrap_model(self.model).state_dict(),
            ema=self.ema.ema.state_dict(),
            optimizer=tensors,
            curve=torch.stack(self.curve).float() if self.curve else torch.empty(0, 0),
            losses=tuple(self.loss_names),
        )

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from the checkpoint, if there is one."""
        point = self.resume_point
        if point is None:
            return
        unwrap_model(self.model).load_state_dict(dict(point.model))
        self.ema.ema.load_state_dict(dict(point.ema))
        self.ema.updates = point.ema_updates
        load_optimizer(self.optimizer, point.optimizer)
        self.start_epoch = point.next_epoch
        self.loss_names = point.losses

    def _setup_scheduler(self) -> None:
        """Linear, by the share of the planned steps that is done.

        Frames that join a training lengthen its epochs but not the training, so that epochs alone would end
        it at a high learning rate.
        """
        last = self.settings.final_learning_rate

        def factor(epoch: int) -> float:
            done = max(self.steps / self.planned_steps, float(epoch / self.epochs))
            return max(1 - done, 0.0) * (1.0 - last) + last

        self.lf = factor
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lr_lambda=factor)

    def close_mosaic(self) -> None:
        """The last epochs are without mosaic; which they are is known better from epoch to epoch."""
        left = math.ceil((self.planned_steps - self.steps) / max(1, len(self.train_loader)))
        last = min(self.epochs, self.epoch + left)
        self.train_loader.last_mosaic = last - self.settings.augmentation.close_mosaic

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Stop where Ultralytics would reload its pickled checkpoint."""
        if self.loss is not None and not bool(self.loss.isfinite().all()):
            # Gone on from, it would lead here again.
            self.checkpoint_path.unlink(missing_ok=True)
            raise LearningError(
                f"the training loss became NaN or infinite in epoch {epoch + 1}; lower learning_rate"
            )
        return False

    def count_step(self) -> None:
        """Book a step: loss, hooks and the limits."""
        # Hooks change the store, which must not be read meanwhile; waiting for that is training time.
        self.train_loader.settle()
        self.steps += 1
        self.curve.append(torch.stack([v.detach().float().reshape(()) for v in self.loss_items.values()]))
        now = time.monotonic()
        self.seconds += now - self._clock
        limit = self.settings.max_seconds
        self._limit_reached = self.steps >= self.planned_steps or (
            limit is not None and self.seconds >= limit
        )
        if now - self._last_report >= 0.5 or self._limit_reached:
            self._last_report = now
            self.hooks.on_step(self.steps, self.planned_steps, float(self.curve[-1].sum()))
        self.hooks.between_batches()
        self.interrupted = not self._limit_reached and self.hooks.should_stop()
        if self._limit_reached or self.interrupted:
            self.stop = True
        self.start_clock()

    def watch_frames(self) -> None:
        """Find out now and then how hard each frame is."""
        model: Any = unwrap_model(self.model)
        model.criterion = model.init_criterion()
        if hasattr(model.criterion, "update"):
            # Detectors with two heads weigh their losses by the epochs done.
            for _ in range(self.start_epoch):
                model.criterion.update()
        if self.settings.hardness_steps:
            model.criterion = FrameLosses(model.criterion, self.settings.hardness_steps, self._learned)

    def _learned(self, losses: Sequence[float]) -> None:
        shown = zip(self.train_loader.shown, losses, strict=True)
        self.frames.useful.learned({frame: loss for frame, loss in shown if frame is not None})

    def start_clock(self) -> None:
        """Training time counts from here; what hooks take does not count."""
        self._clock = time.monotonic()


def _overrides(
    settings: TrainingSettings, device: torch.device, work_dir: Path, epochs: int
) -> dict[str, Any]:
    """Arguments of Ultralytics' trainer."""
    return {
        "task": "detect",
        "mode": "train",
        "model": "yolov8n.yaml",  # never read: the model is set as an object
        "data": "",
        "device": "cpu" if device.type == "cpu" else str(device.index or 0),
        "project": str(work_dir.absolute()),
        "name": "ultralytics",
        "exist_ok": True,
        "epochs": epochs,
        "batch": settings.batch,
        "nbs": settings.batch,  # one optimizer step a batch: the default accumulates to 64 frames
        "imgsz": settings.imgsz,
        "optimizer": settings.optimizer,
        "lr0": settings.learning_rate,
        "lrf": settings.final_learning_rate,
        "momentum": 0.9,  # beta1 of AdamW
        "weight_decay": settings.weight_decay,
        "warmup_epochs": 0,  # the default warms up for three epochs, longer than small trainings last
        "close_mosaic": 0,
        "workers": 0,
        "seed": settings.seed,
        "deterministic": False,
        "amp": False,  # its self-test wants a download
        "val": False,
        "plots": False,
        "verbose": False,
        "patience": 0,
        "save": True,
    }


def _before_training(trainer: ResidentTrainer) -> None:
    # Packets that arrive lengthen an epoch, and Ultralytics counts steps by its first length: without this it
    # would skip optimizer steps until its count had caught up.
    trainer.accumulate = -(1 << 60)
    trainer.watch_frames()
    trainer.start_clock()


def _before_epoch(trainer: ResidentTrainer) -> None:
    trainer.train_loader.epoch = trainer.epoch
    trainer.close_mosaic()
    trainer.start_clock()


def _after_batch(trainer: ResidentTrainer) -> None:
    trainer.count_step()


def _after_epoch(trainer: ResidentTrainer) -> None:
    trainer.hooks.on_epoch(trainer.epoch + 1, trainer.ema.ema)
    trainer.start_clock()
