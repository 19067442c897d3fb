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

__all__ = ["COLOURS", "ORIENTATIONS", "analyse", "from_colours", "grid_sizes", "levels_for", "synthesise"]

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


def synthesise(low: Tensor, details: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The planes of which :func:`analyse` gives these grids."""
    for across, down, both in reversed(details):
        low = _join(_join(low, down, -2), _join(across, both, -2), -1)
    return low


def _split(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Low-pass (ceil of half the length) and detail (floor) of ``x`` along ``dim``."""
    x = x.transpose(dim, -1)
    if x.shape[-1] == 1:
        return (x * _R2).transpose(dim, -1), x[..., :0].transpose(dim, -1)
    even, odd = x[..., 0::2], x[..., 1::2]
    odd = odd + _STEPS[0] * _around_odd(even, odd.shape[-1])
    even = even + _STEPS[1] * _around_even(odd, even.shape[-1])
    odd = odd + _STEPS[2] * _around_odd(even, odd.shape[-1])
    even = even + _STEPS[3] * _around_even(odd, even.shape[-1])
    return (even * (_R2 / _GAIN)).transpose(dim, -1), (odd * (_GAIN / _R2)).transpose(dim, -1)


def _join(low: Tensor, high: Tensor, dim: int) -> Tensor:
    low, high = low.transpose(dim, -1), high.transpose(dim, -1)
    if low.shape[-1] + high.shape[-1] == 1:
        return (low / _R2).transpose(dim, -1)
    even, odd = low * (_GAIN / _R2), high * (_R2 / _GAIN)
    even = even - _STEPS[3] * _around_even(odd, even.shape[-1])
    odd = odd - _STEPS[2] * _around_odd(even, odd.shape[-1])
    even = even - _STEPS[1] * _around_even(odd, even.shape[-1])
    odd = odd - _STEPS[0] * _around_odd(even, odd.shape[-1])
    out = odd.new_empty(*odd.shape[:-1], even.shape[-1] + odd.shape[-1])
    out[..., 0::2], out[..., 1::2] = even, odd
    return out.transpose(dim, -1)


def _around_odd(even: Tensor, count: int) -> Tensor:
    """Sum of the two even neighbours of each of ``count`` odd samples; the last is mirrored."""
    right = torch.cat([even[..., 1:], even[..., -1:]], -1)[..., :count]
    return even[..., :count] + right


def _around_even(odd: Tensor, count: int) -> Tensor:
    """Sum of the two odd neighbours of each of ``count`` even samples; the ends are mirrored."""
    left = torch.cat([odd[..., :1], odd], -1)[..., :count]
    right = torch.cat([odd, odd[..., -1:]], -1)[..., :count]
    return left + right
