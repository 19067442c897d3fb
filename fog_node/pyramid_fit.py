"""Pictures and residuals to pyramids: integers chosen by rate and distortion, the step by the target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.bitstream import Pyramid
from common.pyramid.coder import encode_grids, grid_states
from common.pyramid.grids import Details, Grids, Integers
from common.pyramid.model import ESCAPE, Floats, PyramidModel
from common.pyramid.synthesis import GREYS, pixels_of_grids
from common.pyramid.wavelet import analyse, from_colours

__all__ = ["FittedPyramid", "RegionFit", "dead_zone_grids", "quantize_grids"]

RATE_WEIGHT = 0.09
"""Squared steps that one bit may cost; the best of 0.06, 0.1 and 0.14 on real frames lies here."""
ROUNDS = 2
"""Passes of the rate-distortion choice: the cost of an integer depends on its neighbours."""
FIRST_DEAD_ZONE = 0.4
"""The first guess rounds down what is less than this above an integer."""
SMALLEST_STEP, LARGEST_STEP = 1.0, 2000.0
TOLERANCE_DB = 0.015
"""How far above the target a fit may end."""
TRIALS = 9
"""Steps tried at most."""
DB_PER_OCTAVE = 3.5
"""What halving the step adds, roughly."""


@dataclass(frozen=True, slots=True)
class FittedPyramid:
    """A coded region and what it decodes to.

    Attributes:
        pyramid: For the packet.
        pixels: (3, H, W) float32, exactly what a decoder on this device gives.
        psnr_db: By the measure of the fit.
        reached: Whether the target was reached.
    """

    pyramid: Pyramid
    pixels: Tensor
    psnr_db: float
    reached: bool


class RegionFit:
    """One region on its way to a pyramid.

    Args:
        target: (3, H, W) float RGB in units of [0, 1]: a picture minus 0.5, or a residual.
        model: The shared model.
        residual: Whether it corrects what lies below.
        device: Where pixels are computed.
    """

    def __init__(
        self, target: Tensor, model: PyramidModel, *, residual: bool, device: torch.device | str = "cpu"
    ) -> None:
        low, details = analyse(from_colours(target.to("cpu", torch.float32) * GREYS, inverse=True))
        self._low: Floats = low.numpy()
        self._details: list[tuple[Floats, ...]] = [tuple(g.numpy() for g in level) for level in details]
        self._model = model
        self._residual = residual
        self._device = device

    def at_step(self, step: float) -> tuple[Grids, Tensor]:
        """Integers at this step, and the pixels that a decoder makes of them."""
        grids = quantize_grids(self._low, self._details, self._model, step, self._residual)
        return grids, pixels_of_grids(grids, self._model, step, self._residual, self._device)

    def to_target(
        self, measure: Callable[[Tensor], float], target_db: float, first_step: float
    ) -> FittedPyramid:
        """The coarsest pyramid that reaches a quality.

        Args:
            measure: PSNR in dB of decoded pixels (3, H, W).
            target_db: What it must reach.
            first_step: Where to begin, grey levels.
        """
        good: tuple[float, float, Grids, Tensor] | None = None
        bad: tuple[float, float] | None = None
        step = min(max(first_step, SMALLEST_STEP), LARGEST_STEP)
        best: tuple[float, float, Grids, Tensor] | None = None
        for _ in range(TRIALS):
            step = float(np.float32(step))
            grids, pixels = self.at_step(step)
            reached = measure(pixels)
            trial = (step, reached, grids, pixels)
            if best is None or reached > best[1]:
                best = trial
            if reached >= target_db:
                if good is None or step > good[0]:
                    good = trial
                if reached - target_db <= TOLERANCE_DB or step >= LARGEST_STEP:
                    break
            else:
                bad = (step, reached) if bad is None or step < bad[0] else bad
                if step <= SMALLEST_STEP:
                    break
            step = self._next_step(good, bad, target_db)
        chosen = good or best
        if chosen is None:
            raise ValueError("no step was tried")
        step, reached, grids, pixels = chosen
        data = encode_grids(grids, self._model, step, self._residual)
        return FittedPyramid(Pyramid(self._model.id, step, data), pixels, reached, good is not None)

    @staticmethod
    def _next_step(
        good: tuple[float, float, Grids, Tensor] | None, bad: tuple[float, float] | None, target_db: float
    ) -> float:
        """Interpolate between a step that reaches the target and one that does not, or go on beyond."""
        aim = target_db + TOLERANCE_DB / 2
        if good is not None and bad is not None:
            low, high = math.log2(good[0]), math.log2(bad[0])
            share = (good[1] - aim) / max(1e-6, good[1] - bad[1])
            return float(2 ** (low + min(0.9, max(0.1, share)) * (high - low)))
        if good is not None:
            return min(LARGEST_STEP, good[0] * 2 ** max(0.02, (good[1] - aim) / DB_PER_OCTAVE))
        if bad is None:
            raise ValueError("no step was tried")
        return max(SMALLEST_STEP, bad[0] * 2 ** -max(0.02, (aim - bad[1]) / DB_PER_OCTAVE))


def quantize_grids(
    low: Floats,
    details: list[tuple[Floats, ...]],
    model: PyramidModel,
    step: float,
    residual: bool,
    rate_weight: float = RATE_WEIGHT,
) -> Grids:
    """Coefficients to integers, each chosen by its squared error and its cost in bits.

    The cost is that under the state which the neighbours' current integers select; what a choice does to the
    neighbours' own costs is left out.
    """
    grids = dead_zone_grids(low, details, step)
    for _ in range(ROUNDS):
        states = grid_states(grids, model, step, residual)
        for (level, colour, orientation), selected in states.items():
            exact = details[level][orientation][colour] / step
            chosen = _choose(exact, model.bits[selected], model.centres[int(residual)], rate_weight)
            grids.details[level][orientation][colour] = chosen
    return grids


def dead_zone_grids(low: Floats, details: list[tuple[Floats, ...]], step: float) -> Grids:
    """Coefficients to integers, rounded towards zero more often than not; no model is needed."""
    guess: Details = []
    for level in details:
        across, down, both = (_dead_zone(grid / step) for grid in level)
        guess.append((across, down, both))
    return Grids(np.round(low / step).astype(np.int32), guess)


def _dead_zone(exact: Floats) -> Integers:
    return (np.sign(exact) * np.floor(np.abs(exact) + FIRST_DEAD_ZONE)).astype(np.int32)


def _choose(exact: Floats, costs: np.ndarray, centres: Floats, rate_weight: float) -> Integers:
    """Of the nearest integer, the one below it and zero: the least squared error plus weighted bits."""
    size = np.abs(exact)
    nearest = np.floor(size + 0.5).astype(np.int32)
    best = np.full(size.shape, np.inf)
    chosen = np.zeros(size.shape, np.int32)
    for candidate in (np.zeros_like(nearest), np.maximum(nearest - 1, 0), nearest):
        shown = np.where(candidate > 0, candidate - centres[np.minimum(candidate, 3)], 0)
        symbol = np.minimum(candidate, ESCAPE)
        bits = np.take_along_axis(costs, symbol[..., None], 2)[..., 0] + (candidate > 0)
        over = candidate - ESCAPE
        bits = bits + np.where(over >= 0, 2 * np.floor(np.log2(np.maximum(over, 0) + 1)) + 1, 0)
        loss = np.square(size - shown) + rate_weight * bits
        better = loss < best
        best, chosen = np.where(better, loss, best), np.where(better, candidate, chosen)
    return (np.sign(exact) * chosen).astype(np.int32)
