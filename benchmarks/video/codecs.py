"""x264, x265 and SVT-AV1 at the quality that a stream is held to, by PyAV (extra ``bench``)."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec

import numpy as np

from common.images import Rgb
from common.quality import Region, frame_quality

__all__ = ["CODECS", "VideoPoint", "available", "cheapest"]

FRAMES_A_SECOND = 10
GROUP = 16
"""Frames from one keyframe to the next: random access as often as a stream's keyframes give it."""


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder of FFmpeg.

    Attributes:
        name: FFmpeg's name.
        options: Besides the quality.
        best, worst: Bounds of its ``crf``.
    """

    name: str
    options: dict[str, str]
    best: int
    worst: int


CODECS = {
    "x264": Codec("libx264", {"preset": "slow"}, 0, 51),
    "x265": Codec("libx265", {"preset": "slow", "x265-params": f"keyint={GROUP}:log-level=none"}, 0, 51),
    "SVT-AV1": Codec("libsvtav1", {"preset": "4", "svtav1-params": f"keyint={GROUP}"}, 1, 63),
}


@dataclass(frozen=True, slots=True)
class VideoPoint:
    """A clip at one quality.

    Attributes:
        crf: The encoder's quality.
        bytes: Of each coded frame, in coding order; no container.
        background_psnr_db: Mean over the frames.
        object_psnr_db: Mean over all boxes; None without boxes.
    """

    crf: int
    bytes: tuple[int, ...]
    background_psnr_db: float
    object_psnr_db: float | None


def available() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


def cheapest(
    codec: str,
    images: Sequence[Rgb],
    regions: Sequence[Sequence[Region]],
    background_db: float,
    object_db: float | None = None,
) -> VideoPoint | None:
    """The coarsest quality whose mean PSNR reaches the targets; None when none does.

    Args:
        codec: A key of CODECS.
        images: Frames, (H, W, 3) uint8.
        regions: Boxes of each.
        background_db: Mean over the frames outside the boxes.
        object_db: Mean over all boxes; None asks for no quality there.
    """
    low, high = CODECS[codec].best, CODECS[codec].worst
    found: VideoPoint | None = None
    while low <= high:
        middle = (low + high) // 2
        point = _measured(codec, middle, images, regions)
        enough = point.background_psnr_db >= background_db
        if enough and (object_db is None or (point.object_psnr_db or 99.0) >= object_db):
            found, low = point, middle + 1
        else:
            high = middle - 1
    return found


def _measured(codec: str, crf: int, images: Sequence[Rgb], regions: Sequence[Sequence[Region]]) -> VideoPoint:
    sizes, decoded = _round_trip(CODECS[codec], crf, images)
    pairs = zip(decoded, images, regions, strict=True)
    qualities = [frame_quality(shown, image, boxes) for shown, image, boxes in pairs]
    backgrounds = [background for background, _ in qualities if background is not None]
    objects = [db for _, inside in qualities for db in inside]
    return VideoPoint(
        crf, tuple(sizes), float(np.mean(backgrounds)), float(np.mean(objects)) if objects else None
    )


def _round_trip(codec: Codec, crf: int, images: Sequence[Rgb]) -> tuple[list[int], list[Rgb]]:
    """Bytes of every coded frame, and the frames as they are decoded."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it prints its settings otherwise
    import av

    height, width = images[0].shape[:2]
    file = io.BytesIO()
    sizes: list[int] = []
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream(codec.name, rate=FRAMES_A_SECOND)
        if not isinstance(stream, av.VideoStream):
            raise TypeError(f"{codec.name} is no video codec")
        # Chroma at half size needs even sides.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FRAMES_A_SECOND)
        stream.options = {**codec.options, "crf": str(crf)}
        stream.gop_size = GROUP
        for image in images:
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            for packet in stream.encode(frame):
                sizes.append(packet.size)
                output.mux(packet)
        for packet in stream.encode():
            sizes.append(packet.size)
            output.mux(packet)
    file.seek(0)
    decoded: list[Rgb] = []
    with av.open(file, "r") as source:
        for frame in source.decode(video=0):
            shown = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            decoded.append(np.ascontiguousarray(shown[:height, :width]))
    return sizes, decoded
