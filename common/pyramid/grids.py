"""The integers of a pyramid: one coarse picture and the detail grids of every level."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.pyramid.wavelet import COLOURS, ORIENTATIONS, grid_sizes

__all__ = ["Details", "Grids", "Integers", "detail_sizes", "grid_order", "region_size"]

Integers = npt.NDArray[np.int32]
Details = list[tuple[Integers, Integers, Integers]]
"""Levels, finest first; each (3, h, w) by orientation."""


@dataclass(slots=True)
class Grids:
    """Quantized grids of a region.

    Attributes:
        low: (3, h, w) int32, the coarsest picture, in steps.
        details: Detail grids, in steps.
    """

    low: Integers
    details: Details

    @classmethod
    def zeros(cls, height: int, width: int) -> Grids:
        """All-zero grids of a region of this size."""
        low = grid_sizes(height, width)[-1]
        return cls(
            np.zeros((COLOURS, *low), np.int32),
            [
                tuple(np.zeros((COLOURS, *size), np.int32) for size in level)  # type: ignore[misc]
                for level in detail_sizes(height, width)
            ],
        )


def detail_sizes(height: int, width: int) -> list[tuple[tuple[int, int], ...]]:
    """Height and width of the detail grids of a region, by level (finest first) and orientation."""
    sizes = grid_sizes(height, width)
    return [
        ((low_h, w - low_w), (h - low_h, low_w), (h - low_h, w - low_w))
        for (h, w), (low_h, low_w) in itertools.pairwise(sizes)
    ]


def region_size(grids: Grids) -> tuple[int, int]:
    """Height and width of the region that ``grids`` make."""
    height, width = grids.low.shape[1:]
    for across, down, _ in reversed(grids.details):
        height, width = height + down.shape[1], width + across.shape[2]
    return height, width


def grid_order(levels: int) -> Iterator[tuple[int, int, int]]:
    """Level, colour and orientation of every detail grid in the order of coding: coarse to fine."""
    for level in reversed(range(levels)):
        for colour in range(COLOURS):
            for orientation in range(len(ORIENTATIONS)):
                yield level, colour, orientation
