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
        known: Features of the grid's own integers so far, with a margin of two; 0 where not yet coded.
        others: Features of the five other grids and of the one two levels up, with the same margin; None
            where there is no such grid.
    """

    shape: tuple[int, int]
    known: Plane
    others: list[Plane | None]

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

        def fitted(plane: Plane) -> Plane:
            plane = plane[:height, :width]
            lacking = ((0, height - plane.shape[0]), (0, width - plane.shape[1]))
            return np.pad(np.pad(plane, lacking, mode="edge" if plane.size else "constant"), _MARGIN)

        def coarser(steps: int) -> Plane | None:
            if level + steps >= len(features):
                return None
            plane = features[level + steps][orientation][colour]
            return fitted(plane.repeat(1 << steps, 0).repeat(1 << steps, 1))

        others = [
            coarser(1),
            fitted(grids[0][colour]) if orientation > 0 else None,
            fitted(grids[1][colour]) if orientation > 1 else None,
            fitted(grids[orientation][0]) if colour > 0 else None,
            fitted(grids[orientation][1]) if colour > 1 else None,
            coarser(2),
        ]
        known = np.zeros((height + 2 * _MARGIN, width + 2 * _MARGIN), np.uint8)
        return cls((height, width), known, others)

    def learn(self, number: int, features: Plane) -> None:
        """Enter the integers of pass ``number``: their features, as a (rows, columns) picture."""
        row, column = PASSES[number]
        self.known[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN][row::2, column::2] = features

    def inputs(self, number: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Inputs of the context network in pass ``number``.

        Returns:
            Which positions of the pass, as a (rows, columns) picture, have anything but zeros around them,
            and (that many, FEATURES - BAND_FEATURES) float32 integers for those.
        """
        row, column = PASSES[number]
        busy = _dilate(self.known, 2)
        for plane in self.others[:-1]:
            if plane is not None:
                busy = busy | _dilate(plane, 1)
        last = self.others[-1]
        if last is not None:
            busy = busy | (last > 0)
        inner = busy[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN][row::2, column::2]
        y, x = np.nonzero(inner)
        stride = self.known.shape[1]
        at = (2 * y + row + _MARGIN) * stride + 2 * x + column + _MARGIN
        blocks = [self.known.reshape(-1)[at[:, None] + _offsets(_WIDE, stride)]]
        for plane in self.others[:-1]:
            if plane is None:
                blocks.append(np.zeros((len(at), len(_NEAR)), np.uint8))
            else:
                blocks.append(plane.reshape(-1)[at[:, None] + _offsets(_NEAR, stride)])
        blocks.append(np.zeros((len(at), 1), np.uint8) if last is None else last.reshape(-1)[at[:, None]])
        return inner, np.concatenate(blocks, 1).astype(np.float32)


def _offsets(places: Sequence[tuple[int, int]], stride: int) -> npt.NDArray[np.int64]:
    return np.array([dy * stride + dx for dy, dx in places])


def _dilate(plane: Plane, reach: int) -> npt.NDArray[np.bool_]:
    """Whether anything within ``reach`` rows and columns is not zero; the margin itself is not looked at."""
    busy = plane > 0
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
