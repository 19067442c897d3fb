"""Training batches from pictures in memory, in the place of packets: same views, same boxes, same reading."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.images import Rgb
from common.inr.compose import to_bytes
from common.inr.resample import show_frame
from common.learning.batches import TrainingBatch, batch_of, jittered
from common.learning.letterbox import FILL
from common.learning.resident import ResidentStore
from common.learning.view_maps import view_maps
from common.learning.views import View

__all__ = ["PictureViews"]


class PictureViews:
    """May stand for ``common.learning.batches.decode_views`` in ``train(..., decode=)``.

    A view is read from the picture of its frame as it would be read from the frame's decoded pyramid, and its
    boxes are those of the store: two trainings differ in nothing but pixels.

    Args:
        pictures: (H, W, 3) uint8 RGB by number of the frame, of the coded sizes of the store's frames.
    """

    def __init__(self, pictures: Sequence[Rgb]) -> None:
        self._pictures = pictures

    def __call__(
        self, store: ResidentStore, views: Sequence[View], imgsz: int, *, supersample: int = 1
    ) -> TrainingBatch:
        """As :func:`common.learning.batches.decode_views`; ``supersample`` is not used."""
        numbers = [number for view in views for number in view.frames]
        rows = store.frame_rows(torch.tensor(numbers))
        maps = view_maps(views, rows[:, 6:], imgsz)
        sampling = maps.sampling.to(store.device)
        out = torch.full((len(views), 3, imgsz, imgsz), FILL / 255, device=store.device)
        for piece, number in enumerate(numbers):
            image = torch.from_numpy(self._pictures[number]).to(store.device).permute(2, 0, 1).float() / 255
            show_frame(out, image, sampling, piece)
        return batch_of(store, views, rows, maps, to_bytes(jittered(out, views)).contiguous())
