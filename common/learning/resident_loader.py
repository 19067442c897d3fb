"""Training batches straight from the resident store, in the shape of a torch data loader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import TrainingBatch, ViewDecoder, decode_views
from common.learning.decode_meter import DecodeMeter
from common.learning.prefetch import Prefetch
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.views import View, draw_views

__all__ = ["ResidentLoader"]

_VIEWS = 2
"""Third word of the seed of views, so that they are drawn from other random numbers than the order."""


class _Frames:
    """What the trainer asks of a data set."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler
        # The trainer looks here for the largest number of boxes, to raise its bound on detections an image.
        self.labels: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._sampler)


class ResidentLoader:
    """Batches of decoded views, in the shape of a torch data loader.

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
        self._last_mosaic = last_mosaic

    def __len__(self) -> int:
        return self.sampler.batches

    def __iter__(self) -> Iterator[TrainingBatch]:
        settings, epoch = self._settings, self.epoch
        self.left = len(self)
        augmentation = self._augmentation
        if epoch >= self._last_mosaic:
            augmentation = augmentation.model_copy(update={"mosaic": 0.0})
        pool = self.sampler.order(epoch).sort().values.numpy()
        seed = (settings.seed, epoch, _VIEWS)
        drawn = (
            draw_views(augmentation, settings.imgsz, seed, frames.tolist(), pool)
            for frames in self.sampler.epoch(epoch)
        )
        for batch in self.prefetch.batches(drawn):
            self.left -= 1
            # A frame may have been evicted since its view was drawn.
            here = self.sampler.resident(torch.tensor([view.frames[0] for view in batch])).tolist()
            views = [self._of_residents(view) for view, kept in zip(batch, here, strict=True) if kept]
            if not views:
                continue
            self.shown = tuple(view.frames[0] if len(view.frames) == 1 else None for view in views)
            decode = partial(
                self._decode, self.sampler.store, views, settings.imgsz, supersample=settings.supersample
            )
            yield self.decoding.measure(len(views), decode)

    def reset(self) -> None:
        """Nothing is kept between epochs."""

    def _of_residents(self, view: View) -> View:
        """In a mosaic, the first frame takes the place of one that was evicted since the epoch began."""
        if len(view.frames) == 1:
            return view
        here = self.sampler.resident(torch.tensor(view.frames)).tolist()
        frames = tuple(n if kept else view.frames[0] for n, kept in zip(view.frames, here, strict=True))
        return replace(view, frames=frames)
