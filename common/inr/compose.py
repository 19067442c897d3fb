"""From networks to pixels: backgrounds, plus the residual of each object inside its box.

A pixel covered by several boxes that have a network belongs to the smallest of them (the later one among
equals), and only its owner's residual is added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.inr.siren import SirenStack
from common.inr.tiles import TILE, Regions, evaluate_tiles, run_tiles
from common.inr.workers import run_pieces

__all__ = [
    "BackgroundPart",
    "Canvas",
    "ObjectPart",
    "PixelTiles",
    "Placed",
    "add_residuals",
    "compose",
    "owners",
    "paint",
    "to_bytes",
]


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
    base: Tensor | None = None,
) -> Tensor:
    """Decode a batch at any resolution.

    Args:
        canvas: Where the frames go.
        backgrounds: What fills them.
        objects: What is added inside their boxes.
        chunk: Tiles evaluated at a time; by default :func:`common.inr.tiles.run_tiles`.
        base: (B, 3, height, width) float32, what lies below; by default ``fill`` everywhere.

    Returns:
        (B, 3, height, width) float32 RGB, *not* clamped; the same bits for any batch or chunk. An image
        without a background part stays at ``fill``.
    """
    count = len(canvas.content)
    if base is None:
        out = torch.full((count * canvas.height * canvas.width, 3), canvas.fill, device=canvas.content.device)
    else:
        out = base.permute(0, 2, 3, 1).reshape(-1, 3).clone()
    for part in backgrounds:
        box = canvas.content[part.frames]
        step = 2.0 / box[:, [3, 2]].double()
        rows = torch.arange(len(box), device=box.device)
        regions = Regions(rows, box[:, 2:], step / 2 - 1, step)
        placed = Placed(rows, regions, part.frames, box[:, :2], (canvas.height, canvas.width))
        placed.evaluate(part.stack, chunk, partial(paint, out))
    add_residuals(out, [(part, _place(canvas, part)) for part in objects], chunk)
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
    """Clamp float RGB to [0, 1] and round to uint8 grey levels (ties to even); same shape, NaN is black."""
    # What a cast makes of NaN differs between devices.
    return pixels.nan_to_num(0.0).clamp_(0, 1).mul_(255).round_().to(torch.uint8)


def paint(out: Tensor, flat: Tensor, region: Tensor, values: Tensor) -> None:
    """Put background outputs ``values`` (P, 3) at ``flat`` (P,) into ``out`` (pixels, 3), in [0, 1]."""
    out[flat] = values.mul_(0.5).add_(0.5)


@dataclass(frozen=True, slots=True)
class PixelTiles(ABC):
    """R regions of frames, each evaluated by one network, as tiles of output pixels.

    Attributes:
        rows: (R,) int64, the network of each region in its stack.
    """

    rows: Tensor

    @abstractmethod
    def pixels(self, tiles: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Runs of at most so many tiles.

        Yields:
            Flat output index (T, TILE), region (T,), network coordinates (T, 2, TILE) float32; the last tile
            of a region is padded by its last pixel.
        """

    def evaluate(
        self, stack: SirenStack, chunk: int | None, use: Callable[[Tensor, Tensor, Tensor], None]
    ) -> None:
        """Evaluate everything, run by run, several runs at once where torch may use several threads.

        Args:
            stack: The networks.
            chunk: Tiles a run; by default :func:`common.inr.tiles.run_tiles`.
            use: What to do with the flat output index (P,), region (T,) and network output (P, 3) of a run of
                T tiles. A tile's padding repeats its last pixel, so the same index may come twice, with the
                same values.
        """

        def work(run: tuple[Tensor, Tensor, Tensor]) -> None:
            flat, region, coordinates = run
            values = evaluate_tiles(stack, self.rows[region], coordinates)
            use(flat.flatten(), region, values.transpose(1, 2).reshape(-1, 3))

        run_pieces(work, self.pixels(run_tiles(stack, chunk)))


@dataclass(frozen=True, slots=True)
class Placed(PixelTiles):
    """Regions that are rectangles of output pixels.

    Attributes:
        regions: R of them.
        frames: (R,) int64 image of the batch.
        corner: (R, 2) int64 top, left of each region in its output image.
        size: Height and width of an output image, pixels.
    """

    regions: Regions
    frames: Tensor
    corner: Tensor
    size: tuple[int, int]

    def pixels(self, tiles: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """See :meth:`PixelTiles.pixels`."""
        regions, firsts = self.regions.tiles()
        for at in range(0, len(regions), tiles):
            region = regions[at : at + tiles]
            y, x = self.regions.pixels(region, firsts[at : at + tiles])
            row = self.frames[region, None] * self.size[0] + self.corner[region, :1] + y
            flat = row * self.size[1] + self.corner[region, 1:] + x
            yield flat, region, self.regions.coordinates(region, y, x)


def _place(canvas: Canvas, part: ObjectPart) -> Placed:
    """The output pixels whose centres lie in each object's region; objects without any are left out."""
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
    regions = Regions(rows, size, start, step)
    return Placed(rows, regions, part.frames[rows], corner, (canvas.height, canvas.width))


def add_residuals(
    out: Tensor, placed: Sequence[tuple[ObjectPart, PixelTiles]], chunk: int | None = None
) -> None:
    """Add to ``out`` (pixels, 3), at each pixel, the residual of the object that owns it.

    Args:
        out: (pixels, 3) float32, all output images; changed in place.
        placed: Objects of each size, and where they lie; ``rows`` are objects of the part.
        chunk: Tiles evaluated at a time; by default :func:`common.inr.tiles.run_tiles`.
    """
    if not placed:
        return
    sides = torch.cat([p.regions[:, 2:] - p.regions[:, :2] for p, _ in placed])
    boxes = torch.cat([p.boxes for p, _ in placed])
    # The owner is the highest rank: larger areas come first, then the order of the boxes.
    order = torch.argsort(boxes, stable=True)
    order = order[torch.argsort(sides.prod(1)[order], descending=True, stable=True)]
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device)
    by_part = torch.split(ranks, [len(p.boxes) for p, _ in placed])
    owner = torch.full((len(out),), -1, dtype=torch.int64, device=out.device)
    for (part, where), rank in zip(placed, by_part, strict=True):
        for flat, region, _ in where.pixels(run_tiles(part.stack, chunk)):
            mine = rank[where.rows[region], None].expand_as(flat)
            owner.scatter_reduce_(0, flat.flatten(), mine.flatten(), "amax")
    for (part, where), rank in zip(placed, by_part, strict=True):

        def add(
            flat: Tensor,
            region: Tensor,
            values: Tensor,
            part: ObjectPart = part,
            networks: Tensor = where.rows,
            rank: Tensor = rank,
        ) -> None:
            rows = networks[region].repeat_interleave(TILE)
            keep = owner[flat] == rank[rows]
            kept = flat[keep]
            out[kept] += values[keep] * part.scales[rows[keep], None]

        where.evaluate(part.stack, chunk, add)
