"""Evaluation in tiles: fixed runs of pixels, each of one network, in blocks of a fixed number of tiles.

A tile always holds :data:`TILE` pixels, the last one of a region padded by repeating its last pixel, and a
block always holds :func:`block_tiles` tiles, the last one padded too. So every product has one shape,
whatever the batch or chunk, and a matrix library takes one path for it (with two threads, one tile alone
differs in its last bits from the same tile among others): pixels do not depend on how tiles are put together.
Small tiles keep all activations of a block in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from common.inr.sine import sine_
from common.inr.siren import OUTPUTS, SirenStack

__all__ = ["TILE", "Regions", "block_tiles", "evaluate_tiles", "run_tiles", "tile_runs"]

TILE = 512
"""Pixels a tile; part of the definition of a decode path, so not a setting."""


RUN_BLOCKS = 4
"""Blocks of a run on a CPU: their coordinates and pixels still fit its second-level cache."""
BLOCK_BYTES = 256 << 20
"""Bound on the activations of a block on a GPU, bytes."""


def block_tiles(device: torch.device, width: int) -> int:
    """Tiles of a block: 16 on a CPU (cache), as many as fit :data:`BLOCK_BYTES` on a GPU, at most 1,024."""
    if device.type == "cpu":
        return 16
    return max(1, min(1024, BLOCK_BYTES // (3 * 4 * width * TILE)))


def run_tiles(stack: SirenStack, chunk: int | None = None) -> int:
    """Tiles whose coordinates are made together: ``chunk``, or a few blocks on a CPU and one on a GPU."""
    block = block_tiles(stack.device, stack.architecture.width)
    return chunk or (RUN_BLOCKS * block if stack.device.type == "cpu" else block)


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


def evaluate_tiles(stack: SirenStack, rows: Tensor, coordinates: Tensor) -> Tensor:
    """Outputs of network ``rows[t]`` on tile ``t``, for every tile.

    Args:
        stack: Networks of one architecture.
        rows: (T,) int64.
        coordinates: (T, 2, TILE) float32.

    Returns:
        (T, 3, TILE) float32, unclamped; the bits of a tile do not depend on the others.
    """
    count = len(rows)
    width = stack.architecture.width
    block = block_tiles(stack.device, width)
    out = coordinates.new_empty(count, OUTPUTS, coordinates.shape[2])
    # Two layers take turns in the same memory, which so stays in the cache.
    layers = [coordinates.new_empty(block, width, coordinates.shape[2]) for _ in range(2)]
    with torch.no_grad():
        weights = [stack.w0 * weight for weight in stack.weights[:-1]]
        biases = [stack.w0 * bias for bias in stack.biases[:-1]]
        for at in range(0, count, block):
            index = torch.arange(at, at + block, device=rows.device).clamp_(max=count - 1)
            chosen, x = rows[index], coordinates[index]
            for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                y = layers[depth % 2]
                torch.baddbmm(bias[chosen], weight[chosen], x, out=y)
                x = sine_(y)
            values = torch.baddbmm(stack.biases[-1][chosen], stack.weights[-1][chosen], x)
            out[at : at + block] = values[: count - at]
    return out
