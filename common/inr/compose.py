"""From networks to pixels: backgrounds, plus the residual of each object inside its box.

A pixel covered by several boxes that have a network belongs to the smallest of them (the later one among
equals), and only its owner's residual is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.inr.siren import SirenStack
from common.inr.tiles import Regions, evaluate_tiles

__all__ = ["BackgroundPart", "Canvas", "ObjectPart", "compose", "owners", "to_bytes"]


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where B frames go in one output batch.

    Attributes:
        height, width: Size of every output image, pixels.
        content: (B, 4) int64 top, left, height, width of the frame inside its output image (letterbox).
        coded: (B, 2) int64 coded height and width of each frame, pixels.
        fill: Value in [0, 1] of the pixels outside the content.
    """

    height: int
    width: int
    content: Tensor
    coded: Tensor
    fill: float = 114 / 255

    @classmethod
    def full(cls, height: int, width: int, coded: Tensor) -> Canvas:
        """Each frame of ``coded`` (B, 2) fills its whole output image."""
        content = torch.tensor([0, 0, height, width], device=coded.device).repeat(len(coded), 1)
        return cls(height, width, content, coded)


@dataclass(frozen=True, slots=True)
class BackgroundPart:
    """Backgrounds of one size: ``frames`` (N,) int64 says which image of the batch each network fills."""

    stack: SirenStack
    frames: Tensor


@dataclass(frozen=True, slots=True)
class ObjectPart:
    """Object residuals of one size.

    Attributes:
        stack: M networks.
        frames: (M,) int64 image of the batch.
        regions: (M, 4) int64 x0, y0, x1, y1 in coded pixels, half-open, inside the frame.
        scales: (M,) float32 residual_scale.
        boxes: (M,) int64 index of the object's box in its frame; decides between boxes of one area.
    """

    stack: SirenStack
    frames: Tensor
    regions: Tensor
    scales: Tensor
    boxes: Tensor


def compose(
    canvas: Canvas,
    backgrounds: Sequence[BackgroundPart],
    objects: Sequence[ObjectPart] = (),
    chunk: int | None = None,
) -> Tensor:
    """Decode a batch at any resolution.

    Returns:
        (B, 3, height, width) float32 RGB, *not* clamped; the same bits for any batch or chunk. An image
        without a background part stays at ``fill``.
    """
    count = len(canvas.content)
    out = torch.full((count, canvas.height * canvas.width, 3), canvas.fill, device=canvas.content.device)
    for part in backgrounds:
        box = canvas.content[part.frames]
        step = 2.0 / box[:, [3, 2]].double()
        regions = Regions(torch.arange(len(box), device=box.device), box[:, 2:], step / 2 - 1, step)
        flat, values, _ = _evaluate(canvas, part.stack, regions, part.frames, box[:, :2], chunk)
        out.view(-1, 3)[flat] = values * 0.5 + 0.5
    found = [(part, *_place(canvas, part)) for part in objects]
    placed = [entry for entry in found if len(entry[2])]
    if placed:
        _add_residuals(canvas, out.view(-1, 3), placed, chunk)
    return out.view(count, canvas.height, canvas.width, 3).permute(0, 3, 1, 2)


def owners(regions: Sequence[tuple[int, int, int, int]], height: int, width: int) -> npt.NDArray[np.int64]:
    """Which of ``regions`` (x0, y0, x1, y1) owns each coded pixel: (height, width), -1 for none."""
    owner = np.full((height, width), -1)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in regions]
    for index in sorted(range(len(regions)), key=lambda i: (-areas[i], i)):
        x0, y0, x1, y1 = regions[index]
        owner[y0:y1, x0:x1] = index
    return owner


def to_bytes(pixels: Tensor) -> Tensor:
    """Clamp float RGB to [0, 1] and round to uint8 grey levels (ties to even); same shape."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


def _place(canvas: Canvas, part: ObjectPart) -> tuple[Regions, Tensor, Tensor]:
    """Regions of the output pixels whose centres lie in each object's region; empty ones are left out.

    Returns the regions, their objects (R,) in ``part`` and their corners (R, 2): top, left in the output.
    """
    content, coded = canvas.content[part.frames].double(), canvas.coded[part.frames].double()
    scale = content[:, [3, 2]] / coded[:, [1, 0]]  # output pixels a coded pixel, (x, y)
    low, high = part.regions[:, :2].double(), part.regions[:, 2:].double()
    first = (low * scale - 0.5).ceil()
    last = (high * scale - 0.5).ceil()
    rows = ((last > first).all(1)).nonzero()[:, 0]
    low, high, first, last, scale = (t[rows] for t in (low, high, first, last, scale))
    step = 2 / (scale * (high - low))
    start = ((first + 0.5) / scale - low) * 2 / (high - low) - 1
    size = (last - first).long()[:, [1, 0]]
    corner = first.long()[:, [1, 0]] + canvas.content[part.frames[rows], :2]
    return Regions(rows, size, start, step), rows, corner


def _evaluate(
    canvas: Canvas, stack: SirenStack, regions: Regions, frames: Tensor, corner: Tensor, chunk: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Flat output index (P,), network output (P, 3) and region (P,) of every pixel of the regions."""
    region, first = regions.tiles()
    y, x, valid = regions.pixels(region, first)
    values = evaluate_tiles(stack, regions.rows[region], regions.coordinates(region, y, x), chunk)
    flat = _flat(canvas, frames[region, None], corner[region, :1] + y, corner[region, 1:] + x)
    return flat[valid], values.permute(0, 2, 1)[valid], region[:, None].expand_as(valid)[valid]


def _flat(canvas: Canvas, frame: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return (frame * canvas.height + y) * canvas.width + x


def _add_residuals(
    canvas: Canvas,
    out: Tensor,
    placed: Sequence[tuple[ObjectPart, Regions, Tensor, Tensor]],
    chunk: int | None,
) -> None:
    """Add to ``out`` (pixels, 3), at each pixel, the residual of the object that owns it."""
    parts = []
    for part, regions, rows, corner in placed:
        flat, values, region = _evaluate(canvas, part.stack, regions, part.frames[rows], corner, chunk)
        parts.append((flat, values * part.scales[rows][region, None], rows[region]))
    sides = torch.cat([p.regions[:, 2:] - p.regions[:, :2] for p, *_ in placed])
    boxes = torch.cat([p.boxes for p, *_ in placed])
    # The owner is the highest rank: larger areas come first, then the order of the boxes.
    order = torch.argsort(boxes, stable=True)
    order = order[torch.argsort(sides.prod(1)[order], descending=True, stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    owner = torch.full((len(out),), -1, dtype=torch.int64, device=out.device)
    offset, ranks = 0, []
    for (part, *_), (flat, _, rows) in zip(placed, parts, strict=True):
        ranks.append(rank[offset + rows])
        owner.scatter_reduce_(0, flat, ranks[-1], "amax")
        offset += part.stack.count
    for (flat, values, _), mine in zip(parts, ranks, strict=True):
        keep = owner[flat] == mine
        out[flat[keep]] += values[keep]
