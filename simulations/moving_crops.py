"""Clips made from a photograph by moving a crop over it, with the boxes of its objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from common.errors import DatasetError
from common.frame import Box, Frame
from common.images import Rgb, decode_image, encode_jpeg
from simulations.loopback_scenario import ClipSettings, Waypoint

__all__ = ["Crop", "crop_at", "crop_boxes", "make_clip", "photograph"]

Crop = tuple[int, int, int, int]
"""Pixels (x0, y0, x1, y1) of the photograph, half-open, inside it."""


def photograph(name: str) -> Rgb:
    """A photograph that ships inside ultralytics, or any image file.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: There is no such file.
        ImageError: It is no image.
    """
    path = Path(name)
    if not path.exists():
        path = _assets() / name
    try:
        return decode_image(path.read_bytes())
    except OSError as error:
        raise DatasetError(
            f"cannot read the photograph {name!r}: it is neither a file nor one of ultralytics' assets"
        ) from error


def _assets() -> Path:
    # Found without importing ultralytics, which takes seconds and writes a settings file.
    from importlib.util import find_spec

    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise DatasetError("the demo's photographs ship inside the ultralytics package; install it")
    return Path(spec.origin).parent / "assets"


def crop_at(path: Sequence[Waypoint], moment: float, width: int, height: int) -> Crop:
    """The crop at ``moment`` in [0, 1] of the path, 16:9, moved and shrunk to fit the photograph.

    The waypoints are passed in equal times; the speed falls to zero at each, as a hand-held camera's does.
    """
    place = moment * (len(path) - 1)
    first = min(int(place), max(0, len(path) - 2))
    share = place - first
    share = share * share * (3 - 2 * share)
    a, b = path[first], path[min(first + 1, len(path) - 1)]
    x, y, w = ((1 - share) * p + share * q for p, q in ((a.x, b.x), (a.y, b.y), (a.width, b.width)))
    w = min(w, width, height * 16 / 9)
    side_x, side_y = max(1, round(w)), max(1, round(w * 9 / 16))
    x0 = min(max(0, round(x - side_x / 2)), width - side_x)
    y0 = min(max(0, round(y - side_y / 2)), height - side_y)
    return x0, y0, x0 + side_x, y0 + side_y


def crop_boxes(boxes: Sequence[Box], crop: Crop, scale: float, min_visible: float) -> tuple[Box, ...]:
    """The boxes as they lie in the scaled crop, clipped to it.

    Args:
        boxes: In pixels of the photograph.
        crop: The crop.
        scale: Pixels of the result a pixel of the crop.
        min_visible: A box with a smaller share of its area inside the crop is dropped, 0..1.
    """
    x0, y0, x1, y1 = crop
    kept = []
    for box in boxes:
        left, top = max(box.x0, x0), max(box.y0, y0)
        right, bottom = min(box.x1, x1), min(box.y1, y1)
        if right <= left or bottom <= top:
            continue
        visible = (right - left) * (bottom - top) / ((box.x1 - box.x0) * (box.y1 - box.y0))
        if visible >= min_visible:
            inside = Box(left - x0, top - y0, right - x0, bottom - y0, box.name)
            kept.append(inside.scaled(scale, scale))
    return tuple(kept)


def make_clip(
    clip: ClipSettings, count: int, width: int, quality: int, min_visible: float
) -> Iterator[Frame]:
    """``count`` frames of a clip, ``width`` pixels across and 9/16 of that high, labelled.

    Args:
        clip: Photograph, boxes and path.
        count: Frames, at least 1.
        width: Pixels.
        quality: libjpeg's, 1 to 100.
        min_visible: As in :func:`crop_boxes`.

    Raises:
        DatasetError: There is no such photograph.
    """
    image = photograph(clip.photograph)
    boxes = [Box(b.x0, b.y0, b.x1, b.y1, b.name) for b in clip.boxes]
    height = round(width * 9 / 16)
    for index in range(count):
        moment = index / max(1, count - 1)
        crop = crop_at(clip.path, moment, image.shape[1], image.shape[0])
        x0, y0, x1, y1 = crop
        pixels = cv2.resize(image[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_AREA)
        yield Frame(
            name=f"{clip.name}_{index:04d}",
            image=encode_jpeg(np.ascontiguousarray(pixels, dtype=np.uint8), quality),
            width=width,
            height=height,
            labelled=True,
            boxes=_clipped(crop_boxes(boxes, crop, width / (x1 - x0), min_visible), width, height),
        )


def _clipped(boxes: Sequence[Box], width: int, height: int) -> tuple[Box, ...]:
    """Undo what rounding the crop's height to whole pixels adds below the frame."""
    return tuple(Box(b.x0, b.y0, min(b.x1, width), min(b.y1, height), b.name) for b in boxes)
