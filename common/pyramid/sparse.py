"""The integers of a pyramid in few bytes: the form in which frames wait in memory for their turn.

Most integers are zero. What is kept is a list of entries of two bytes, a skip and a value: an entry lies
``skip`` places after the one before it, and its value is added to the integer of that place. Gaps above 255
and integers above 127 take several entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import PacketFormatError
from common.pyramid.grids import Grids, detail_sizes
from common.pyramid.wavelet import COLOURS, grid_sizes

__all__ = ["SparseGrids", "grid_views", "scatter", "sparse_grids"]

_LONGEST_SKIP = 255
_LARGEST_VALUE = 127
_ENTRIES_PER_INTEGER = 4
"""Bound on the entries, as a multiple of the region's integers; real pictures stay far below one."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseGrids:
    """Quantized grids of a region.

    Attributes:
        height, width: Of the region, pixels.
        entries: (N, 2) uint8, skip and value (two's complement), on any device. Places are counted through
            the coarsest picture and then the detail grids, coarse to fine, each (3, h, w) in C order.
    """

    height: int
    width: int
    entries: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the entries."""
        return self.entries.nbytes

    def to(self, device: torch.device | str) -> SparseGrids:
        """The same on another device."""
        return SparseGrids(self.height, self.width, self.entries.to(device))


def sparse_grids(grids: Grids, height: int, width: int) -> SparseGrids:
    """The sparse form of ``grids`` of a region of this size, on the CPU.

    Raises:
        PacketFormatError: Their integers are so large that no picture can have made them.
    """
    ordered = [grids.low, *(grid for level in reversed(grids.details) for grid in level)]
    flat = np.concatenate([grid.reshape(-1) for grid in ordered])
    places = np.flatnonzero(flat)
    sizes = np.abs(flat[places])
    gaps = np.diff(places, prepend=0)
    fillers = np.maximum(0, (gaps - 1) // _LONGEST_SKIP)
    counts = fillers + -(-sizes // _LARGEST_VALUE)
    total = int(counts.sum())
    if total > _ENTRIES_PER_INTEGER * flat.size:
        raise PacketFormatError(
            f"a pyramid of {width}x{height} pixels holds larger integers than a picture can have"
        )
    owner = np.repeat(np.arange(len(places)), counts)
    part = np.arange(total) - (np.cumsum(counts) - counts)[owner] - fillers[owner]
    rest = (gaps - _LONGEST_SKIP * fillers)[owner]
    entries = np.empty((total, 2), np.uint8)
    entries[:, 0] = np.where(part < 0, _LONGEST_SKIP, np.where(part == 0, rest, 0))
    values = np.clip(sizes[owner] - _LARGEST_VALUE * part, 0, _LARGEST_VALUE) * np.sign(flat[places])[owner]
    entries[:, 1] = np.where(part < 0, 0, values).astype(np.int8).view(np.uint8)
    return SparseGrids(height, width, torch.from_numpy(entries))


def scatter(grids: Sequence[SparseGrids]) -> tuple[Tensor, Tensor]:
    """The integers of regions of one size on one device.

    Returns:
        All integers, (B * 3 * height * width,) float32, region by region; and where the entries lie in them,
        (N,) int64. A place may occur several times.
    """
    size = COLOURS * grids[0].height * grids[0].width
    entries = torch.cat([grid.entries for grid in grids])
    counts = torch.tensor([len(grid.entries) for grid in grids])
    reached = torch.cat([entries.new_zeros(1, dtype=torch.int64), entries[:, 0].cumsum(0)])
    first = reached[(counts.cumsum(0) - counts).to(entries.device)]
    shift = torch.arange(len(grids), device=entries.device) * size - first
    places = reached[1:] + shift.repeat_interleave(counts.to(entries.device), output_size=len(entries))
    integers = torch.zeros(len(grids) * size, device=entries.device)
    # Sums of integers below 2^24 are exact, so their order does not matter.
    return integers.index_add_(0, places, entries[:, 1].view(torch.int8).float()), places


def grid_views(flat: Tensor, height: int, width: int) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """The grids in ``flat`` (B, 3 * height * width), whose values lie in the order of the entries.

    Returns:
        The coarsest picture (B, 3, h, w) and the detail grids, levels finest first, as
        :func:`common.pyramid.wavelet.synthesise` takes them.
    """
    begin = 0

    def take(size: tuple[int, int]) -> Tensor:
        nonlocal begin
        end = begin + COLOURS * size[0] * size[1]
        begin, grid = end, flat[:, begin:end]
        return grid.view(len(flat), COLOURS, *size)

    low = take(grid_sizes(height, width)[-1])
    levels = []
    for across, down, both in reversed(detail_sizes(height, width)):
        levels.append((take(across), take(down), take(both)))
    return low, levels[::-1]
