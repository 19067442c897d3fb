"""The peer of coordinate-space augmentation: decode frames at their coded size, then augment their pixels.

:class:`DecodeThenAugment` may stand for ``common.learning.batches.decode_views`` in ``train(..., decode=)``:
the views are the same, so that two trainings see the same frames in the same places with the same boxes;
only how the pixels come about differs. It resamples twice (to the training size, then through the matrix),
as Ultralytics does, with Ultralytics' own classes and bilinear interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from common.inr.compose import to_bytes
from common.inr.sampling import Sampling
from common.learning.batches import TrainingBatch, batch_of, sample_frames
from common.learning.letterbox import FILL
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.view_maps import view_maps
from common.learning.views import View
from common.learning.yolo_environment import prepare_yolo

Rgb = npt.NDArray[np.uint8]


class DecodeThenAugment:
    """Makes training batches of views in two steps.

    Args:
        settings: Of the training. Colours change by its gains, but by other random numbers.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        prepare_yolo(settings.threads)
        from ultralytics.data.augment import RandomHSV, RandomPerspective

        given = settings.augmentation
        self._colours = RandomHSV(given.hsv_h, given.hsv_s, given.hsv_v)
        self._warp = RandomPerspective(perspective=given.perspective)
        np.random.seed(settings.seed)  # RandomHSV draws from it

    def __call__(
        self, store: ResidentStore, views: Sequence[View], imgsz: int, *, supersample: int = 1
    ) -> TrainingBatch:
        """As :func:`common.learning.batches.decode_views`; ``supersample`` is not used."""
        rows = store.frame_rows(torch.tensor([n for view in views for n in view.frames]))
        maps = view_maps(views, rows[:, 6:], imgsz)
        numbers, which = rows.unique(dim=0, return_inverse=True)
        pictures = coded_pictures(store, numbers)
        frames = iter(which.tolist())
        images = [self._image(view, [pictures[next(frames)] for _ in view.frames], imgsz) for view in views]
        img = torch.from_numpy(np.stack(images)).to(store.device).permute(0, 3, 1, 2).contiguous()
        return batch_of(store, views, rows, maps, img)

    def _image(self, view: View, frames: list[Rgb], imgsz: int) -> Rgb:
        labels: dict[str, Any] = {"img": _canvas(view, frames, imgsz)}
        if view.moved:
            labels = self._warp.apply_image(labels, {"M": view.matrix, "size": (imgsz, imgsz)})
        labels["img"] = np.ascontiguousarray(labels["img"][..., ::-1])
        image = self._colours.apply_image(labels)["img"][..., ::-1]
        image = image[:, ::-1] if view.mirror[0] else image
        return np.ascontiguousarray(image[::-1] if view.mirror[1] else image, dtype=np.uint8)


def coded_pictures(store: ResidentStore, rows: torch.Tensor) -> list[Rgb]:
    """Frames of index rows (P, 8) at their coded sizes, (height, width, 3) each, on the host."""
    pictures: list[Rgb] = [np.empty((0, 0, 3), np.uint8)] * len(rows)
    for size in rows[:, 6:].unique(dim=0).tolist():
        members = (rows[:, 6:] == torch.tensor(size)).all(1).nonzero()[:, 0]
        coded = rows[members, 6:]
        content = torch.cat([torch.zeros_like(coded), coded], 1)
        sampling = Sampling.letterbox(*size, coded, content)
        decoded = to_bytes(sample_frames(store, rows[members], sampling)).permute(0, 2, 3, 1).cpu().numpy()
        for member, picture in zip(members.tolist(), decoded, strict=True):
            pictures[member] = picture
    return pictures


def _canvas(view: View, frames: list[Rgb], imgsz: int) -> Rgb:
    """The letterbox of a frame, or the mosaic of four on a square of twice the side."""
    resized = []
    for frame in frames:
        share = imgsz / max(frame.shape[:2])
        size = max(1, round(frame.shape[1] * share)), max(1, round(frame.shape[0] * share))
        resized.append(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR))
    side = imgsz if view.centre is None else 2 * imgsz
    canvas = np.full((side, side, 3), FILL, np.uint8)
    for place, frame in enumerate(resized):
        height, width = frame.shape[:2]
        if view.centre is None:
            left, top = (round((imgsz - length) / 2 - 0.1) for length in (width, height))
        else:
            x, y = view.centre
            left, top = (x if place % 2 else x - width), (y - height if place < 2 else y)
        x0, y0 = max(0, left), max(0, top)
        x1, y1 = min(side, left + width), min(side, top + height)
        canvas[y0:y1, x0:x1] = frame[y0 - top : y1 - top, x0 - left : x1 - left]
    return canvas
