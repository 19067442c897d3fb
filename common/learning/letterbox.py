"""Letterbox: a frame scaled into a square, centred, the rest grey; as Ultralytics does it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["FILL", "letterbox_boxes", "letterbox_content"]

FILL = 114
"""Grey level around the frame (Ultralytics' LetterBox)."""


def letterbox_content(sizes: Tensor, imgsz: int) -> Tensor:
    """Where frames lie inside square images.

    Args:
        sizes: (B, 2) int64 height and width of the frames, pixels.
        imgsz: Side of the square, pixels.

    Returns:
        (B, 4) int64 top, left, height, width.
    """
    scaled = sizes.double() * (imgsz / sizes.amax(1, keepdim=True).double())
    content = scaled.round().long().clamp(min=1)
    # Ultralytics gives an odd pixel of padding to the bottom and the right: round(d / 2 - 0.1).
    corner = ((imgsz - content).double() / 2 - 0.1).round().long()
    return torch.cat([corner, content], 1)


def letterbox_boxes(boxes: Tensor, content: Tensor, imgsz: int) -> Tensor:
    """Boxes as shares of the square image.

    Args:
        boxes: (L, 4) float32 x centre, y centre, width, height as shares of each box's frame.
        content: (L, 4) int64, :func:`letterbox_content` of each box's frame.
        imgsz: Side of the square, pixels.

    Returns:
        (L, 4) float32 x centre, y centre, width, height.
    """
    top, left, height, width = content.float().unbind(1)
    x, y, w, h = boxes.unbind(1)
    return torch.stack([left + x * width, top + y * height, w * width, h * height], 1) / imgsz
