"""How sure a difference in mAP is: over seeds, and over seeds and stretches of time together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.learning.gate import mean_average_precision
from common.learning.validation import ImageStatistics

__all__ = ["Draws", "Estimate", "draws_of", "estimate", "t_interval"]

Runs = Sequence[Sequence[ImageStatistics]]
"""Statistics of the validation images, a sequence a seed."""
CONFIDENCE = 0.95
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145),
    *(2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""97.5 % quantiles of Student's t for 1 to 20 degrees of freedom; above the last one: too wide."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % intervals; None where one seed alone allows none.

    Attributes:
        mean: Over the seeds, all validation images once.
        seeds_low, seeds_high: Student's t over the seeds: another training on the same frames, judged by the
            same images.
        low, high: Percentiles of a bootstrap that draws seeds and blocks of validation images: also other
            moments of such sequences.
    """

    mean: float
    seeds_low: float | None
    seeds_high: float | None
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """mAP50-95 of one arm.

    Attributes:
        seeds: (S,) each seed, on all images.
        resampled: (R,) means over seeds and blocks that were drawn with replacement.
    """

    seeds: npt.NDArray[np.float64]
    resampled: npt.NDArray[np.float64]


def draws_of(runs: Runs, blocks: Sequence[int], resamples: int, seed: int = 0) -> Draws:
    """What mAP an arm has; arms that are given the same blocks, resamples and seed are drawn in pairs."""
    owner = np.asarray(blocks)
    count = int(owner.max()) + 1
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count)[owner]
        chosen = generator.integers(0, len(runs), len(runs))
        scores = {int(i): mean_average_precision(runs[i], drawn) for i in set(chosen.tolist())}
        resampled.append(statistics.fmean(scores[int(i)] for i in chosen))
    return Draws(np.array([mean_average_precision(images) for images in runs]), np.array(resampled))


def estimate(arm: Draws, baseline: Draws | None = None) -> Estimate:
    """The mean of an arm, or of its difference from a baseline that was drawn in pairs with it."""
    seeds = arm.seeds if baseline is None else arm.seeds - baseline.seeds
    resampled = arm.resampled if baseline is None else arm.resampled - baseline.resampled
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(float(seeds.mean()), *t_interval(seeds.tolist()), float(low), float(high))


def t_interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Student's 95 % interval of the mean of ``values``; None for fewer than two."""
    if len(values) < 2:
        return None, None
    quantile = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half
