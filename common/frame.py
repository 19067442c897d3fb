"""A recorded frame: its image bytes, its boxes and who recorded it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from common.errors import BoxError

__all__ = ["Box", "Frame", "FrameIdentity", "content_digest", "in_validation_block"]

DEFAULT_CLASS = "object"
"""Class name of the boxes of single-object tracks, which name no class."""


MAX_EDGE = 1e7
"""Largest coordinate of a box's edge, pixels: far beyond any image, and safe to compute with."""


def content_digest(data: bytes) -> bytes:
    """SHA-256 of ``data`` (32 bytes): the content hash used for frames, packets and blobs."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class Box:
    """An object region, half-open, 0-based, in pixels of the image that it belongs to.

    Attributes:
        x0, y0: Left and top edge, pixels; may lie outside the image.
        x1, y1: Right and bottom edge, pixels, greater than x0 and y0.
        name: Class name.

    Raises:
        BoxError: An edge is NaN, infinite or beyond MAX_EDGE, or the size is not positive.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    name: str = DEFAULT_CLASS

    def __post_init__(self) -> None:
        edges = (self.x0, self.y0, self.x1, self.y1)
        if not all(math.isfinite(v) for v in edges):
            raise BoxError(f"box {edges} has an edge that is not a finite number")
        if max(map(abs, edges)) > MAX_EDGE:
            raise BoxError(f"box {edges} has an edge beyond {MAX_EDGE:,.0f} pixels")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise BoxError(f"box {edges} has no positive width and height")

    def scaled(self, sx: float, sy: float) -> Box:
        """The same box in an image ``sx`` times as wide and ``sy`` times as high."""
        return Box(self.x0 * sx, self.y0 * sy, self.x1 * sx, self.y1 * sy, self.name)

    def region(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Pixels covered in an image of this size: (x0, y0, x1, y1), half-open; None if outside.

        Edges are floored (left, top) and ceiled (right, bottom), then clipped.
        """
        x0, y0 = max(0, math.floor(self.x0)), max(0, math.floor(self.y0))
        x1, y1 = min(width, math.ceil(self.x1)), min(height, math.ceil(self.y1))
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


@dataclass(frozen=True, slots=True)
class FrameIdentity:
    """Who recorded a frame and which one it is; never reused.

    Attributes:
        device: The device's CURVE public key, 40 characters of Z85.
        epoch: Random unsigned 64-bit number drawn when the device was installed.
        number: Frame number in the device's durable outbox, unsigned 64 bit, from 0.
    """

    device: str
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as every reader gives it.

    Attributes:
        name: Stem of the source file, or a six-digit number for a video frame.
        image: Encoded image; the original bytes when the source is a still image file.
        width, height: Size of the decoded image (after EXIF rotation), pixels.
        labelled: Whether the boxes are known; a labelled frame with no box is a true negative.
        boxes: Object regions in pixels of this image; may reach over its edges.
        identity: Set once a device has numbered the frame.
        validation: Held out: no node trains on it.
        priority: Of its source, 0 to 9: frames of higher priority travel and are encoded first. It says how
            urgent a frame is, not what it is: two frames that differ in it alone are equal.
    """

    name: str
    image: bytes
    width: int
    height: int
    labelled: bool = False
    boxes: tuple[Box, ...] = ()
    identity: FrameIdentity | None = None
    validation: bool = False
    priority: int = field(default=0, compare=False)
    # Not a field of the constructor, so that a frame made with another image has its own hash.
    _digest: bytes | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def digest(self) -> bytes:
        """Content hash of the encoded image, 32 bytes; hashed once."""
        digest = self._digest
        if digest is None:
            digest = content_digest(self.image)
            object.__setattr__(self, "_digest", digest)
        return digest


def in_validation_block(number: int, *, block: int = 100, held_out: int = 20) -> bool:
    """Whether frame ``number`` is one of the last ``held_out`` of its block of ``block`` frames.

    Contiguous blocks keep near-duplicate neighbours out of both sides of the split.
    """
    return number % block >= block - held_out
