"""Networks to pixels through maps of coordinates: each is evaluated only at the points that are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from common.inr.compose import BackgroundPart, ObjectPart, PixelTiles, Placed, add_residuals, paint
from common.inr.fused import fused_samples, is_fusible
from common.inr.sampling import PixelRun, Sampling, whole_frames
from common.inr.tiles import TILE, Regions, tile_runs

__all__ = ["compose_samples", "stacked_samples"]


def compose_samples(
    sampling: Sampling,
    backgrounds: Sequence[BackgroundPart],
    objects: Sequence[ObjectPart] = (),
    chunk: int | None = None,
) -> Tensor:
    """Decode pieces of frames, by the fused kernel where it can (:mod:`common.inr.fused`), else as stacks.

    As stacks, a plain letterbox has the pixels of :func:`common.inr.compose.compose`.

    Args:
        sampling: What is shown where.
        backgrounds: Networks; ``frames`` are *pieces*.
        objects: What is added inside boxes; ``frames`` are *pieces*.
        chunk: Tiles evaluated at a time; by default :func:`common.inr.tiles.run_tiles`. Not for the kernel,
            which needs no memory beside its output.

    Returns:
        (B, 3, height, width) float32 RGB, *not* clamped; the same bits for any batch or chunk on one path.
    """
    if is_fusible(sampling, backgrounds, objects):
        return fused_samples(sampling, backgrounds, objects)
    return stacked_samples(sampling, backgrounds, objects, chunk)


def stacked_samples(
    sampling: Sampling,
    backgrounds: Sequence[BackgroundPart],
    objects: Sequence[ObjectPart] = (),
    chunk: int | None = None,
) -> Tensor:
    """:func:`compose_samples` on any device: one batched product a layer and size."""
    device = sampling.maps.device
    out = torch.full((sampling.count * sampling.height * sampling.width, 3), sampling.fill, device=device)
    for part in backgrounds:
        for placed in _place(sampling, part.frames, whole_frames(sampling.coded[part.frames])):
            placed.evaluate(part.stack, chunk, partial(paint, out))
    placed_objects = [
        (part, placed) for part in objects for placed in _place(sampling, part.frames, part.regions.double())
    ]
    add_residuals(out, placed_objects, chunk)
    return out.view(sampling.count, sampling.height, sampling.width, 3).permute(0, 3, 1, 2)


def _place(sampling: Sampling, pieces: Tensor, regions: Tensor) -> Iterator[PixelTiles]:
    """Where regions (R, 4) of pieces (R,) are shown; network r of the stack covers region r."""
    straight = sampling.straight[pieces]
    rows = straight.nonzero()[:, 0]
    if len(rows):
        yield _rectangles(sampling, rows, pieces[rows], regions[rows])
    if len(rows) < len(pieces):
        rows = (~straight).nonzero()[:, 0]
        yield _Scattered(rows, sampling, pieces[rows], regions[rows])


def _rectangles(sampling: Sampling, rows: Tensor, pieces: Tensor, regions: Tensor) -> Placed:
    windows = sampling.windows(pieces, regions)
    some = (windows[:, 2:] > windows[:, :2]).all(1).nonzero()[:, 0]
    rows, pieces, regions, windows = rows[some], pieces[some], regions[some], windows[some]
    scale = sampling.maps[pieces][:, [0, 1], [0, 1]]
    offset = sampling.maps[pieces][:, :2, 2]
    sides = regions[:, 2:] - regions[:, :2]
    first = scale * (windows[:, :2].double() + 0.5) + offset
    start = (first - regions[:, :2]) * 2 / sides - 1
    corner, size = windows[:, [1, 0]], (windows[:, 2:] - windows[:, :2]).flip(1)
    placed = Regions(torch.arange(len(rows), device=rows.device), size, start, scale * 2 / sides)
    return Placed(rows, placed, sampling.images[pieces], corner, (sampling.height, sampling.width))


@dataclass(frozen=True, slots=True)
class _Scattered(PixelTiles):
    """Regions that are no rectangles in the output: their pixels are listed.

    Attributes:
        sampling: What is shown where.
        pieces: (R,) int64.
        regions: (R, 4) float64 x0, y0, x1, y1, coded coordinates.
    """

    sampling: Sampling
    pieces: Tensor
    regions: Tensor

    def pixels(self, tiles: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """See :meth:`common.inr.compose.PixelTiles.pixels`."""
        for run in self.sampling.pixels(self.pieces, self.regions):
            if len(run.region):
                yield from self._tiles(run, tiles)

    def _tiles(self, run: PixelRun, tiles: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        region, counts = torch.unique_consecutive(run.region, return_counts=True)
        starts = counts.cumsum(0) - counts
        owner, firsts = tile_runs(counts)
        for at in range(0, len(owner), tiles):
            mine = owner[at : at + tiles]
            index = firsts[at : at + tiles, None] + torch.arange(TILE, device=mine.device)
            places = starts[mine, None] + index.minimum(counts[mine, None] - 1)
            area = self.regions[region[mine], None]
            inner = (run.points[places] - area[..., :2]) * 2 / (area[..., 2:] - area[..., :2]) - 1
            yield run.flat[places], region[mine], inner.transpose(1, 2).float()
