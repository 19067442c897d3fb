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
from fog_node.encoders.ladder import Deadline

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
CLOSE_DB = 0.3
"""So near to the target the filter does nearly the same as at the target."""
TRIALS = 9
"""Steps tried at most."""
DB_PER_OCTAVE = 3.5
"""What halving the step adds, roughly."""
LEAST_OCTAVES = 0.02
"""The first change of a step that is not yet between others, at the least."""


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
        self._target = target.to("cpu", torch.float32)
        self._left_to_filter: Tensor | None = None
        self._model = model
        self._residual = residual
        self._device = device

    def at_step(self, step: float) -> tuple[Grids, Tensor]:
        """Integers at this step, and the pixels that a decoder makes of them."""
        target = self._target if self._left_to_filter is None else self._target - self._left_to_filter
        low, details = analyse(from_colours(target * GREYS, inverse=True))
        exact = [tuple(grid.numpy() for grid in level) for level in details]
        grids = quantize_grids(low.numpy(), exact, self._model, step, self._residual)
        return grids, pixels_of_grids(grids, self._model, step, self._residual, self._device)

    def to_target(
        self,
        measure: Callable[[Tensor], float],
        target_db: float,
        first_step: float,
        deadline: Deadline | None = None,
    ) -> FittedPyramid:
        """The coarsest pyramid that reaches a quality.

        Args:
            measure: PSNR in dB of decoded pixels (3, H, W).
            target_db: What it must reach.
            first_step: Where to begin, grey levels.
            deadline: When it has come, the best of the steps tried is taken; at least one is.
        """
        bracket = _Bracket(target_db)
        step = min(max(first_step, SMALLEST_STEP), LARGEST_STEP)
        tried: list[_Trial] = []
        for _ in range(TRIALS):
            step = float(np.float32(step))
            grids, pixels = self.at_step(step)
            trial = _Trial(step, measure(pixels), grids, pixels)
            tried.append(trial)
            if deadline is not None and deadline.left <= 0:
                break
            if self._may_leave_to_filter and abs(trial.psnr_db - target_db) < CLOSE_DB:
                # From here on other pictures are coded: what was learned of steps holds no longer.
                self._leave_to_filter(trial)
                bracket = _Bracket(target_db)
                continue
            if bracket.add(trial):
                break
            step = bracket.next_step()
        reached = [trial for trial in tried if trial.psnr_db >= target_db]
        if reached:
            chosen = max(reached, key=lambda trial: trial.step)
        else:
            chosen = max(tried, key=lambda trial: trial.psnr_db)
        data = encode_grids(chosen.grids, self._model, chosen.step, self._residual)
        pyramid = Pyramid(self._model.id, chosen.step, data)
        return FittedPyramid(pyramid, chosen.pixels, chosen.psnr_db, bool(reached))

    @property
    def _may_leave_to_filter(self) -> bool:
        return not self._residual and self._left_to_filter is None

    def _leave_to_filter(self, trial: _Trial) -> None:
        """Code no longer what the filter adds to a picture at about this step."""
        grids, step, model = trial.grids, trial.step, self._model
        plain = pixels_of_grids(grids, model, step, False, self._device, filtered=False)
        self._left_to_filter = (trial.pixels - plain).cpu()


@dataclass(frozen=True, slots=True)
class _Trial:
    """What one step gave."""

    step: float
    psnr_db: float
    grids: Grids
    pixels: Tensor


class _Bracket:
    """The largest step known to reach a target, and the smallest known not to."""

    def __init__(self, target_db: float) -> None:
        self._target_db = target_db
        self._good: _Trial | None = None
        self._bad: _Trial | None = None
        # Doubled as long as all trials lie on one side: small regions have plateaus.
        self._least_octaves = LEAST_OCTAVES

    def add(self, trial: _Trial) -> bool:
        """Take a trial into account; whether it ends the search."""
        if trial.psnr_db >= self._target_db:
            if self._good is None or trial.step > self._good.step:
                self._good = trial
            return trial.psnr_db - self._target_db <= TOLERANCE_DB or trial.step >= LARGEST_STEP
        if self._bad is None or trial.step < self._bad.step:
            self._bad = trial
        return trial.step <= SMALLEST_STEP

    def next_step(self) -> float:
        """Interpolate between a step that reaches the target and one that does not, or go on beyond."""
        aim = self._target_db + TOLERANCE_DB / 2
        good, bad = self._good, self._bad
        if good is not None and bad is not None:
            low, high = math.log2(good.step), math.log2(bad.step)
            share = (good.psnr_db - aim) / max(1e-6, good.psnr_db - bad.psnr_db)
            return float(2 ** (low + min(0.9, max(0.1, share)) * (high - low)))
        least, self._least_octaves = self._least_octaves, self._least_octaves * 2
        if good is not None:
            return min(LARGEST_STEP, good.step * 2 ** max(least, (good.psnr_db - aim) / DB_PER_OCTAVE))
        if bad is None:
            raise ValueError("no step was tried")
        return max(SMALLEST_STEP, bad.step * 2 ** -max(least, (aim - bad.psnr_db) / DB_PER_OCTAVE))


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
