"""Training batches from the resident store, in the shape of a torch data loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch

from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import TrainingBatch, ViewDecoder, decode_views
from common.learning.decode_ahead import DecodeAhead
from common.learning.decode_meter import DecodeMeter
from common.learning.prefetch import Prefetch
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.views import View, draw_views

__all__ = ["ResidentLoader"]

_VIEWS = 2
"""Third word of the seed of views, so that they are drawn from other random numbers than the order."""

_Made: TypeAlias = tuple[tuple[int | None, ...], TrainingBatch] | None
"""What a batch shows, and the batch; None when all of its frames were evicted since they were drawn."""


class _Frames:
    """What the trainer asks of a data set."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler
        # The trainer looks here for the largest number of boxes, to raise its bound on detections an image.
        self.labels: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._sampler)


class ResidentLoader:
    """Batches of decoded views.

    On a CPU the next batch is decoded beside the training step (``decode_ahead`` of the settings): after
    :meth:`settle`, and until the next batch is asked for, the store may be changed.

    Args:
        sampler: Which frames come when.
        settings: As for the node.
        augmentation: How much the views vary.
        decode: What makes a batch of views.
        last_mosaic: Epochs from this one on are without mosaic.
    """

    num_workers = 0
    drop_last = False

    def __init__(
        self,
        sampler: EpochSampler,
        settings: TrainingSettings,
        augmentation: AugmentationSettings,
        decode: ViewDecoder = decode_views,
        last_mosaic: int = 0,
    ) -> None:
        self.sampler = sampler
        self.dataset = _Frames(sampler)
        self.batch_size = sampler.batch
        self.epoch = 0
        self.left = 0
        """Batches still to come in this epoch."""
        self.decoding = DecodeMeter(sampler.store.device)
        self.prefetch = Prefetch(sampler.store)
        self.shown: tuple[int | None, ...] = ()
        """Of each image of the newest batch: its frame; None when it shows several."""
        self._settings = settings
        self._augmentation = augmentation
        self._decode = decode
        self.last_mosaic = last_mosaic
        self._ahead = DecodeAhead(self._made)
        # Work of another thread would only queue behind the step's on an accelerator.
        self._is_ahead = settings.decode_ahead and sampler.store.device.type == "cpu"

    def __len__(self) -> int:
        return self.sampler.batches

    def __iter__(self) -> Iterator[TrainingBatch]:
        self.left = len(self)
        staged = self.prefetch.batches(self._drawn())
        for made in self._ahead.each(staged) if self._is_ahead else map(self._made, staged):
            self.left -= 1
            if made is not None:
                self.shown, batch = made
                yield batch

    def settle(self) -> None:
        """Return when the store is not read any more, until the next batch is asked for."""
        self._ahead.settle()

    def reset(self) -> None:
        """Nothing is kept between epochs."""

    def _drawn(self) -> Iterator[list[View]]:
        """Views of the batches of this epoch."""
        settings, epoch, augmentation = self._settings, self.epoch, self._augmentation
        if epoch >= self.last_mosaic:
            augmentation = augmentation.model_copy(update={"mosaic": 0.0})
        pool = self.sampler.order(epoch).sort().values.numpy()
        seed = (settings.seed, epoch, _VIEWS)
        for frames in self.sampler.epoch(epoch):
            yield draw_views(augmentation, settings.imgsz, seed, frames.tolist(), pool)

    def _made(self, drawn: Sequence[View]) -> _Made:
        # A frame may have been evicted since its view was drawn.
        here = self.sampler.resident(torch.tensor([view.frames[0] for view in drawn])).tolist()
        views = [self._of_residents(view) for view, kept in zip(drawn, here, strict=True) if kept]
        if not views:
            return None
        settings = self._settings
        decode = partial(
            self._decode, self.sampler.store, views, settings.imgsz, supersample=settings.supersample
        )
        shown = tuple(view.frames[0] if len(view.frames) == 1 else None for view in views)
        return shown, self.decoding.measure(len(views), decode)

    def _of_residents(self, view: View) -> View:
        """In a mosaic, the first frame takes the place of one that was evicted since the epoch began."""
        if len(view.frames) == 1:
            return view
        here = self.sampler.resident(torch.tensor(view.frames)).tolist()
        frames = tuple(n if kept else view.frames[0] for n, kept in zip(view.frames, here, strict=True))
        return replace(view, frames=frames)
