"""Whether a figure that was sampled for a long time grows, or only moves (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Slope", "slope_of"]

BLOCKS = 12
"""Neighbouring samples are alike, so a line is laid through the means of so many blocks of time."""

STUDENT_95 = 2.228
"""Quantile 0.975 of Student's t with BLOCKS - 2 = 10 degrees of freedom."""

LEAST_SAMPLES = 2 * BLOCKS


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through samples.

    Attributes:
        mean: Of the samples.
        first, last: Means of the first and the last block.
        per_hour: Growth an hour.
        bound_per_hour: Half the width of its 95 % confidence interval.
        growth: Over the time that was looked at.
    """

    mean: float
    first: float
    last: float
    per_hour: float
    bound_per_hour: float
    growth: float

    def grows(self, tolerated: float) -> bool:
        """Whether it surely grows, and by more than is tolerated over the time that was looked at."""
        return self.per_hour > self.bound_per_hour and self.growth > tolerated


def slope_of(times: Sequence[float], values: Sequence[float]) -> Slope | None:
    """The growth of a figure.

    Args:
        times: Seconds, rising.
        values: One a time.

    Returns:
        The slope, or None with fewer than two samples a block.
    """
    if len(times) < LEAST_SAMPLES:
        return None
    at, what = np.asarray(times, float), np.asarray(values, float)
    middle = np.array([part.mean() for part in np.array_split(at, BLOCKS)])
    means = np.array([part.mean() for part in np.array_split(what, BLOCKS)])
    centred = middle - middle.mean()
    spread = float(centred @ centred)
    slope = float(centred @ means) / spread
    rest = means - means.mean() - slope * centred
    error = math.sqrt(float(rest @ rest) / (BLOCKS - 2) / spread)
    return Slope(
        mean=float(what.mean()),
        first=float(means[0]),
        last=float(means[-1]),
        per_hour=slope * 3600,
        bound_per_hour=STUDENT_95 * error * 3600,
        growth=slope * float(at[-1] - at[0]),
    )
