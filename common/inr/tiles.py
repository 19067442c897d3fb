"""Evaluation in tiles: fixed runs of pixels, each of one network, batched a few at a time.

A tile always holds :data:`TILE` pixels, the last one of a region padded by repeating its last pixel, so
every tile is one matrix product of the same shape whatever the batch or chunk: results do not depend on how
tiles are put together. Small tiles keep all activations of a chunk in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from common.inr.siren import OUTPUTS, SirenStack

__all__ = ["TILE", "Regions", "default_chunk", "evaluate_tiles", "tile_runs"]

TILE = 512
"""Pixels a tile; part of the definition of a decode path, so not a setting."""


def default_chunk(device: torch.device, width: int) -> int:
    """Tiles at a time: 16 on a CPU (cache), as many as fit 256 MiB of activations on a GPU."""
    if device.type == "cpu":
        return 16
    return max(1, (256 << 20) // (3 * 4 * width * TILE))


@dataclass(frozen=True, slots=True)
class Regions:
    """R rectangles of output pixels, each evaluated by one network; flattened into tiles row by row.

    Attributes:
        rows: (R,) int64, the network of each region in its stack.
        size: (R, 2) int64, height and width of each region, output pixels, >= 1.
        start: (R, 2) float64, network coordinate (x, y) of the centre of the top-left pixel.
        step: (R, 2) float64, network coordinate between neighbouring pixels (x, y).
    """

    rows: Tensor
    size: Tensor
    start: Tensor
    step: Tensor

    def tiles(self) -> tuple[Tensor, Tensor]:
        """Region (T,) of each tile, and index (T,) of its first pixel in that region, both int64."""
        return tile_runs(self.size.prod(1))

    def pixels(self, region: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Row y and column x (T, TILE) int64 of each pixel of these tiles; padding repeats the last pixel."""
        height, width = self.size[region].unbind(1)
        index = first[:, None] + torch.arange(TILE, device=first.device)
        index = index.minimum((height * width - 1)[:, None])
        y = index // width[:, None]
        return y, index - y * width[:, None]

    def coordinates(self, region: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Network coordinates (T, 2, TILE) float32 of the pixels (y, x) of each tile's region."""
        start, step = self.start[region], self.step[region]
        cx = start[:, :1] + step[:, :1] * x
        cy = start[:, 1:] + step[:, 1:] * y
        return torch.stack([cx, cy], 1).float()


def tile_runs(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Cut runs of ``pixels`` (R,) int64 into tiles: run (T,) and first pixel there (T,) of each, int64."""
    counts = (pixels + TILE - 1) // TILE
    run = torch.repeat_interleave(counts)
    first = torch.arange(len(run), device=run.device) - (counts.cumsum(0) - counts)[run]
    return run, first * TILE


def evaluate_tiles(stack: SirenStack, rows: Tensor, coordinates: Tensor, chunk: int | None = None) -> Tensor:
    """Outputs of network ``rows[t]`` on tile ``t``, for every tile.

    Args:
        stack: Networks of one architecture.
        rows: (T,) int64.
        coordinates: (T, 2, TILE) float32.
        chunk: Tiles at a time, bounding memory; by default :func:`default_chunk`.

    Returns:
        (T, 3, TILE) float32, unclamped; the same bits for any chunk.
    """
    chunk = chunk or default_chunk(stack.device, stack.architecture.width)
    out = coordinates.new_empty(len(rows), OUTPUTS, coordinates.shape[2])
    with torch.no_grad():
        for at in range(0, len(rows), chunk):
            part = slice(at, at + chunk)
            out[part] = stack.select(rows[part]).forward(coordinates[part])
    return out
