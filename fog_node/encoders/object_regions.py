"""Which parts of a frame are objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from common.bitstream.packet import Region
from common.frame import Box

__all__ = ["WholeFrame", "object_regions"]

WholeFrame: TypeAlias = Literal["object", "label"]
"""What a box that covers its whole frame is."""


def object_regions(
    boxes: Sequence[Box], width: int, height: int, whole_frame: WholeFrame = "object"
) -> list[Region]:
    """Pixels of each box inside a frame: x0, y0, x1, y1, half-open.

    Args:
        boxes: In pixels of the frame.
        width: Of the frame, pixels.
        height: Of the frame, pixels.
        whole_frame: "label": there is no object where every box covers the whole frame, as the label of an
            image does; then the background alone is the frame.
    """
    regions = [region for box in boxes if (region := box.region(width, height)) is not None]
    if whole_frame == "label" and all(region == (0, 0, width, height) for region in regions):
        return []
    return regions
