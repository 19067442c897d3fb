"""What is known around an integer before it is decoded: the input of the entropy model.

A grid is coded in four passes, each a quarter of its positions, so that every position of a pass is decoded
at once. Known then are: magnitudes of earlier passes in the 5 x 5 neighbourhood, of the coarser grid, of the
grids of the same level that came before, and of the colours that came before, in 3 x 3 each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.pyramid.grids import Integers

__all__ = ["FEATURES", "PASSES", "GridContext", "band_features", "magnitudes"]

PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""First row and column of each pass; steps of two from there."""
BAND_FEATURES = 9
FEATURES = 24 + 5 * 9 + 1 + BAND_FEATURES
"""Inputs of a context network: own neighbours, five other grids, the grid two levels up, and the band's."""
_UNIT = 8
_TOP = 255
_MAGNITUDES = np.round(_UNIT * np.log2(1 + np.arange(_TOP + 1))).astype(np.uint8)
"""Magnitude -> 8 log2(1 + magnitude), at most 64: large ones differ little."""
_WIDE = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
_NEAR = [(dy, dx) for dy in range(-1, 2) for dx in range(-1, 2)]
_MARGIN = 2
_COARSE_LEVELS = 6
_STEP_OFFSET = 36

Plane = npt.NDArray[np.uint8]


def magnitudes(values: Integers) -> Plane:
    """Feature of each integer: uint8, 0 to 64."""
    return _MAGNITUDES[np.minimum(np.abs(values), _TOP)]


def band_features(level: int, residual: bool, step: float) -> npt.NDArray[np.float32]:
    """What all positions of a grid share: its level, whether it is a residual, the quantizer's step, one."""
    shared = np.zeros(BAND_FEATURES, np.float32)
    shared[min(level, _COARSE_LEVELS - 1)] = _UNIT
    shared[_COARSE_LEVELS] = _UNIT * residual
    shared[_COARSE_LEVELS + 1] = np.clip(np.round(_UNIT * np.log2(step)) - _STEP_OFFSET, -64, 64)
    shared[_COARSE_LEVELS + 2] = _UNIT
    return shared


@dataclass(slots=True)
class GridContext:
    """The surroundings of one grid while it is coded.

    Attributes:
        shape: Height and width of the grid.
        planes: (7, height + 4, width + 4) features, with a margin of two: the grid's own integers so far, 0
            where not yet coded; the coarser grid, the two orientations and the two colours that came before,
            and the grid two levels up, 0 where there is no such grid.
        busy: (height, width) whether anything near a position is not zero, its own grid left out.
    """

    shape: tuple[int, int]
    planes: npt.NDArray[np.uint8]
    busy: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, features: Sequence[Sequence[npt.NDArray[np.uint8]]], level: int, colour: int, orientation: int
    ) -> GridContext:
        """The context of a grid before its first pass.

        Args:
            features: :func:`magnitudes` of the grids by level and orientation, (3, h, w) each; only those
                that come before this one are read.
            level: Of the grid.
            colour: Of the grid.
            orientation: Of the grid.
        """
        grids = features[level]
        height, width = grids[orientation].shape[1:]
        planes = np.zeros((7, height + 2 * _MARGIN, width + 2 * _MARGIN), np.uint8)
        inner = planes[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]

        def enter(place: int, plane: Plane) -> None:
            """Cut ``plane`` to the grid's size, or repeat its last row and column."""
            plane = plane[:height, :width]
            if not plane.size:
                return
            rows, columns = plane.shape
            inner[place, :rows, :columns] = plane
            inner[place, :rows, columns:] = plane[:, -1:]
            inner[place, rows:] = inner[place, rows - 1 : rows]

        def coarser(place: int, steps: int) -> None:
            if level + steps < len(features):
                plane = features[level + steps][orientation][colour]
                enter(place, plane.repeat(1 << steps, 0).repeat(1 << steps, 1))

        coarser(1, 1)
        for before in range(orientation):
            enter(2 + before, grids[before][colour])
        for before in range(colour):
            enter(4 + before, grids[orientation][before])
        coarser(6, 2)
        near = planes[1:6].max(0) > 0
        busy = _dilate(near, 1)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] | (inner[6] > 0)
        return cls((height, width), planes, busy)

    def learn(self, number: int, features: Plane) -> None:
        """Enter the integers of pass ``number``: their features, as a (rows, columns) picture."""
        row, column = PASSES[number]
        self.planes[0, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN][row::2, column::2] = features

    def inputs(self, number: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Inputs of the context network in pass ``number``.

        Returns:
            Which positions of the pass, as a (rows, columns) picture, have anything but zeros around them,
            and (1 + that many, FEATURES - BAND_FEATURES) float32 integers: zeros, and those positions.
        """
        row, column = PASSES[number]
        busy = self.busy[row::2, column::2]
        if number:
            own = _dilate(self.planes[0] > 0, 2)
            busy = busy | own[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN][row::2, column::2]
        y, x = np.nonzero(busy)
        stride = self.planes.shape[2]
        at = (2 * y + row + _MARGIN) * stride + 2 * x + column + _MARGIN
        known = np.zeros((1 + len(at), _OFFSETS.shape[1]), np.float32)
        offsets = _OFFSETS[0] * self.planes[0].size + _OFFSETS[1] * stride + _OFFSETS[2]
        known[1:] = self.planes.reshape(-1).take(at[:, None] + offsets)
        return busy, known


def _offsets() -> npt.NDArray[np.int64]:
    """Plane, rows and columns from a position to each of its inputs: (3, FEATURES - BAND_FEATURES)."""
    own = [(0, dy, dx) for dy, dx in _WIDE]
    others = [(plane, dy, dx) for plane in range(1, 6) for dy, dx in _NEAR]
    return np.array([*own, *others, (6, 0, 0)]).T


_OFFSETS = _offsets()


def _dilate(busy: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """Whether anything within ``reach`` rows and columns is set."""
    for axis in (0, 1):
        grown = busy.copy()
        for shift in range(1, reach + 1):
            ahead = [slice(None)] * 2
            behind = [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= busy[tuple(behind)]
            grown[tuple(behind)] |= busy[tuple(ahead)]
        busy = grown
    return busy
