"""The linear part of the synthesis: an orthonormal colour transform and the CDF 9/7 wavelet.

Grids of level l hold one value for each 2^l x 2^l pixels and orientation. The wavelet is computed by lifting
(Daubechies and Sweldens, 1998) with symmetric extension, scaled so that its functions have nearly unit norm:
a squared error of a grid is a squared error of the picture. Lifting consists of additions and products by
constants, element by element, so the pixels of an image do not depend on what else is in a batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "COLOURS",
    "ORIENTATIONS",
    "analyse",
    "from_colours",
    "grid_sizes",
    "levels_for",
    "synthesise",
    "synthesise_window",
]

COLOURS = 3
"""Luma and two colour differences, orthonormal."""
ORIENTATIONS = ("across", "down", "both")
"""Detail grids of a level: horizontal detail, vertical detail, both."""
MAX_LEVELS = 6
_SMALLEST = 8
"""A side below this is not halved again, pixels."""
# The lifting steps of CDF 9/7: predict, update, predict, update, and the gain of the low-pass branch.
_STEPS = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
_GAIN = 1.230174104914001
_REACH = 4
"""Half-size samples beyond its own that a part of a picture depends on, or one more."""
_R2, _R3, _R6 = math.sqrt(2), math.sqrt(3), math.sqrt(6)
_COLOUR_ROWS = ((1 / _R3, 1 / _R3, 1 / _R3), (1 / _R2, 0.0, -1 / _R2), (-1 / _R6, 2 / _R6, -1 / _R6))


def levels_for(height: int, width: int) -> int:
    """How often a region of this size is halved, 0 to :data:`MAX_LEVELS`."""
    levels, side = 0, min(height, width)
    while side >= _SMALLEST and levels < MAX_LEVELS:
        side = -(-side // 2)
        levels += 1
    return levels


def grid_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the low-pass picture after 0, 1, .. levels halvings."""
    sizes = [(height, width)]
    for _ in range(levels_for(height, width)):
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def from_colours(planes: Tensor, inverse: bool = False) -> Tensor:
    """(..., 3, H, W) luma and colour differences to RGB; RGB to them with ``inverse``."""
    rows = _COLOUR_ROWS if inverse else tuple(zip(*_COLOUR_ROWS, strict=True))
    parts = planes.unbind(-3)
    return torch.stack([sum_of(row, parts) for row in rows], -3)


def sum_of(factors: tuple[float, ...], parts: tuple[Tensor, ...]) -> Tensor:
    """The sum of ``parts`` times ``factors``, in this order."""
    total = parts[0] * factors[0]
    for factor, part in zip(factors[1:], parts[1:], strict=True):
        total = total + part * factor
    return total


def analyse(planes: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    """Grids of (..., H, W) planes.

    Returns:
        The coarsest low-pass grid, and for every level, finest first, its three detail grids in the order of
        :data:`ORIENTATIONS`.
    """
    details = []
    for _ in range(levels_for(*planes.shape[-2:])):
        low, across = _split(planes, -1)
        planes, down = _split(low, -2)
        across, both = _split(across, -2)
        details.append((across, down, both))
    return planes, details


def synthesise_window(
    low: Tensor, details: list[tuple[Tensor, Tensor, Tensor]], window: tuple[int, int, int, int]
) -> Tensor:
    """Part of what :func:`synthesise` gives, with the same bits; little but that part is computed.

    Args:
        low: The coarsest grid.
        details: Detail grids, finest first.
        window: x0, y0, x1, y1, half-open, inside the picture.

    Returns:
        (..., y1 - y0, x1 - x0).
    """
    x0, y0, x1, y1 = window
    parts = [((y0, y1), (x0, x1))]
    for across, down, _ in details:
        rows, columns = (
            (max(0, first // 2 - _REACH), min(length, -(-last // 2) + _REACH))
            for (first, last), length in zip(parts[-1], (across.shape[-2], down.shape[-1]), strict=True)
        )
        parts.append((rows, columns))
    low = _part(low, *parts[-1])
    for level in reversed(range(len(details))):
        rows, columns = parts[level + 1]
        across, down, both = (_part(grid, rows, columns) for grid in details[level])
        low = _join(_join(low, down, -2), _join(across, both, -2), -1)
        (top, bottom), (left, right) = parts[level]
        first_row, first_column = 2 * rows[0], 2 * columns[0]
        low = _part(low, (top - first_row, bottom - first_row), (left - first_column, right - first_column))
    return low


def _part(grid: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    return grid[..., rows[0] : rows[1], columns[0] : columns[1]]


def synthesise(low: Tensor, details: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The planes of which :func:`analyse` gives these grids."""
    for across, down, both in reversed(details):
        low = _join(_join(low, down, -2), _join(across, both, -2), -1)
    return low


def _split(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Low-pass (ceil of half the length) and detail (floor) of ``x`` along ``dim``, -1 or -2."""
    if x.shape[dim] == 1:
        return x * _R2, x.narrow(dim, 0, 0)
    even, odd = (part.clone() for part in _phases(x, dim))
    odd += _around_odd(even, odd.shape[dim], dim).mul_(_STEPS[0])
    even += _around_even(odd, even.shape[dim], dim).mul_(_STEPS[1])
    odd += _around_odd(even, odd.shape[dim], dim).mul_(_STEPS[2])
    even += _around_even(odd, even.shape[dim], dim).mul_(_STEPS[3])
    return even.mul_(_R2 / _GAIN), odd.mul_(_GAIN / _R2)


def _join(low: Tensor, high: Tensor, dim: int) -> Tensor:
    if low.shape[dim] + high.shape[dim] == 1:
        return low / _R2
    even, odd = low * (_GAIN / _R2), high * (_R2 / _GAIN)
    even -= _around_even(odd, even.shape[dim], dim).mul_(_STEPS[3])
    odd -= _around_odd(even, odd.shape[dim], dim).mul_(_STEPS[2])
    even -= _around_even(odd, even.shape[dim], dim).mul_(_STEPS[1])
    odd -= _around_odd(even, odd.shape[dim], dim).mul_(_STEPS[0])
    shape = list(even.shape)
    shape[dim] += odd.shape[dim]
    out = even.new_empty(shape)
    for part, phase in zip((even, odd), _phases(out, dim), strict=True):
        phase.copy_(part)
    return out


def _phases(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Views of the even and the odd samples along ``dim``, -1 or -2."""
    return (x[..., 0::2], x[..., 1::2]) if dim == -1 else (x[..., 0::2, :], x[..., 1::2, :])


def _around_odd(even: Tensor, count: int, dim: int) -> Tensor:
    """Sum of the two even neighbours of each of ``count`` odd samples; the last is mirrored."""
    length = even.shape[dim]
    inner = even.narrow(dim, 0, length - 1) + even.narrow(dim, 1, length - 1)
    if length > count:
        return inner
    return torch.cat([inner, even.narrow(dim, length - 1, 1) * 2], dim)


def _around_even(odd: Tensor, count: int, dim: int) -> Tensor:
    """Sum of the two odd neighbours of each of ``count`` even samples; the ends are mirrored."""
    length = odd.shape[dim]
    parts = [odd.narrow(dim, 0, 1) * 2, odd.narrow(dim, 0, length - 1) + odd.narrow(dim, 1, length - 1)]
    if count > length:
        parts.append(odd.narrow(dim, length - 1, 1) * 2)
    return torch.cat(parts, dim)
