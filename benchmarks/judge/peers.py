"""The classic codecs as peers: what JPEG, WebP and AVIF need to bring a frame on target.

Two ways a codec. ``full``: one file of the whole frame whose quality meets both targets. ``roi``: a file of
the whole frame that meets the background target, and for each box that it leaves below the object target the
cheapest file of that crop that meets it, with 12 bytes a box for its place; of all such sums the cheapest.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from common.images import Rgb
from common.quality import Region, frame_quality, psnr
from judge.protocol import Target

__all__ = ["PEERS", "PLACE_BYTES", "Choice", "Point", "Sweep", "choose", "sweep"]

QUALITIES = {"jpeg": range(2, 97, 3), "webp": range(0, 101, 4), "avif": range(4, 97, 4)}
"""Qualities that are tried, in the units of each codec."""
OPTIONS: dict[str, dict[str, Any]] = {"jpeg": {"optimize": True}, "webp": {"method": 6}, "avif": {"speed": 6}}
"""Pillow's options: what makes each codec's files small at a bearable speed."""
PEERS = tuple(QUALITIES)
"""Names of the peers."""
PLACE_BYTES = 12
"""What a region file is charged for the place of a box, bytes."""


@dataclass(frozen=True, slots=True)
class Point:
    """One file: its ``bytes``, and the PSNR it gives outside the boxes and inside each, dB.

    For the file of a crop ``background`` is None and ``objects`` has one value.
    """

    bytes: int
    background: float | None
    objects: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """All files of one frame that were tried.

    Attributes:
        full: Of the whole frame, by rising quality.
        crops: Of each box, by rising quality; empty for a crop too small for the codec.
        seconds: Time spent on encoding and decoding all of them.
    """

    full: tuple[Point, ...]
    crops: tuple[tuple[Point, ...], ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Sweep:
        """From what :meth:`to_json` gave."""
        return cls(
            tuple(_point(point) for point in value["full"]),
            tuple(tuple(_point(point) for point in crop) for crop in value["crops"]),
            float(value["seconds"]),
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest way to a target: ``bytes`` in all, and the PSNR that the frame then has, dB."""

    bytes: int
    background: float | None
    objects: tuple[float, ...]


def sweep(image: Rgb, regions: Sequence[Region], codec: str) -> Sweep:
    """Encode and decode ``image`` and each of its regions at every quality of ``codec``."""
    begin = time.perf_counter()
    full = []
    for quality in QUALITIES[codec]:
        size, decoded = _round_trip(image, codec, quality)
        background, objects = frame_quality(decoded, image, regions)
        full.append(Point(size, background, tuple(objects)))
    crops = tuple(
        _crop_points(np.ascontiguousarray(image[y0:y1, x0:x1]), codec) for x0, y0, x1, y1 in regions
    )
    return Sweep(tuple(full), crops, time.perf_counter() - begin)


def choose(tried: Sweep, target: Target) -> tuple[Choice | None, Choice | None]:
    """(full, roi): the cheapest way to ``target``, None where no quality reaches it."""
    full = [
        Choice(point.bytes, point.background, point.objects)
        for point in tried.full
        if target.reached(point.background, point.objects)
    ]
    regions = [
        choice
        for point in tried.full
        if target.reached(point.background, ()) and (choice := _with_crops(point, tried.crops, target))
    ]
    return min(full, key=_bytes, default=None), min(regions, key=_bytes, default=None)


def _with_crops(point: Point, crops: Sequence[Sequence[Point]], target: Target) -> Choice | None:
    """``point`` with the cheapest crops that bring its boxes on target; None where one cannot be."""
    total, objects = point.bytes, []
    for db, crop in zip(point.objects, crops, strict=True):
        if db >= target.object:
            objects.append(db)
            continue
        good = [tried for tried in crop if tried.objects[0] >= target.object]
        if not good:
            return None
        cheapest = min(good, key=lambda tried: tried.bytes)
        total += PLACE_BYTES + cheapest.bytes
        objects.append(cheapest.objects[0])
    return Choice(total, point.background, tuple(objects))


def _bytes(choice: Choice) -> int:
    return choice.bytes


def _crop_points(crop: Rgb, codec: str) -> tuple[Point, ...]:
    points = []
    for quality in QUALITIES[codec]:
        try:
            size, decoded = _round_trip(crop, codec, quality)
        except (OSError, ValueError):  # a crop too small for the codec
            continue
        points.append(Point(size, None, (psnr(crop, decoded),)))
    return tuple(points)


def _round_trip(image: Rgb, codec: str, quality: int) -> tuple[int, Rgb]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, codec, quality=quality, **OPTIONS[codec])
    with Image.open(io.BytesIO(file.getvalue())) as decoded:
        return len(file.getvalue()), np.array(decoded.convert("RGB"), dtype=np.uint8)


def _point(value: dict[str, Any]) -> Point:
    return Point(value["bytes"], value["background"], tuple(value["objects"]))
