"""The protocol of every rate-distortion figure: which frames, which pixels, which targets, which bytes.

A frame is scaled to 640 pixels wide (area filter, height round(H * 640 / W)). PSNR is over 8-bit RGB, at
most 99 dB. A box covers floor(x0 * s) .. ceil((x0 + w) * s), clipped, half-open; the background is every
pixel outside all boxes; a frame is on target when its background and each of its boxes are. Bytes are those
of the file on disk, and quality is that of what a decoder makes of the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from common.datasets import open_source
from common.errors import DatasetError, UsageError
from common.frame import Frame
from common.images import Rgb, decode_image, scale_to_width
from common.quality import Region

__all__ = ["TARGETS", "WIDTH", "ListedFrame", "Target", "every_nth", "parse_targets", "pixels", "read_frames"]

T = TypeVar("T")

WIDTH = 640
"""Coded width of every figure, pixels."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What a frame must reach, dB: ``background`` outside every box, ``object`` inside each."""

    background: float
    object: float

    def reached(self, background: float | None, objects: Sequence[float]) -> bool:
        """Whether a frame of this quality is on target; a background of None has no pixel."""
        outside = background is None or background >= self.background
        return outside and all(db >= self.object for db in objects)

    def __str__(self) -> str:
        return f"{self.background:g},{self.object:g}"


TARGETS = (Target(28, 33), Target(30, 35), Target(32, 37))
"""The targets at which the figures are stated."""


@dataclass(frozen=True, slots=True)
class ListedFrame:
    """A frame of the list.

    Attributes:
        path: As it stands in the list, relative to it.
        frame: Image bytes and boxes in pixels of the source frame.
    """

    path: str
    frame: Frame

    @property
    def source(self) -> str:
        """The data set it comes from: the first folder of its path, ``.`` when it lies beside the list."""
        parts = PurePosixPath(self.path).parts
        return parts[0] if len(parts) > 1 else "."


def read_frames(frames_csv: Path, every: int = 1) -> list[ListedFrame]:
    """Frames of a CSV ``frame,x0,y0,w,h``, in the order of their first row; of these each ``every``-th.

    Raises:
        UsageError: The path is no CSV file.
        DatasetError: The list or a frame of it cannot be read.
    """
    if not frames_csv.is_file():
        raise UsageError(f"{frames_csv} is no file; name a CSV with the columns frame,x0,y0,w,h")
    frames = every_nth(list(open_source(frames_csv, "csv")), every)
    rows = csv.DictReader(io.StringIO(frames_csv.read_text(encoding="utf-8-sig"), newline=""))
    paths = every_nth(list(dict.fromkeys(row["frame"].strip() for row in rows)), every)
    if len(paths) != len(frames):
        raise DatasetError(f"{frames_csv} names {len(paths)} frames, of which {len(frames)} can be read")
    return [ListedFrame(path, frame) for path, frame in zip(paths, frames, strict=True)]


def every_nth(items: Sequence[T], every: int) -> list[T]:
    """Each ``every``-th item, from the first."""
    return list(items[::every])


def pixels(frame: Frame, width: int = WIDTH) -> tuple[Rgb, list[Region]]:
    """(image (H, W, 3) uint8 scaled to ``width``, pixel regions of the boxes that lie in it)."""
    image, scale = scale_to_width(decode_image(frame.image), width)
    height = image.shape[0]
    scaled = (box.scaled(scale, scale) for box in frame.boxes)
    return image, [region for box in scaled if (region := box.region(width, height)) is not None]


def parse_targets(words: Sequence[str]) -> tuple[Target, ...]:
    """Targets written as ``28,33``.

    Raises:
        UsageError: A word is not two numbers.
    """
    found = []
    for word in words:
        try:
            background, inside = (float(part) for part in word.strip("()").split(","))
        except ValueError as error:
            raise UsageError(
                f"target {word!r} is not two numbers in dB; write background and object PSNR as 28,33"
            ) from error
        found.append(Target(background, inside))
    return tuple(found)
