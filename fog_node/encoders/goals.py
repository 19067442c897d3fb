"""What networks shall reach, and what they have reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from common.bitstream.packet import Network

__all__ = ["Fitted", "Goal", "psnr_db"]


def psnr_db(squared_error: float) -> float:
    """PSNR in dB of a mean squared error over RGB in [0, 1], capped at 99."""
    return 99.0 if squared_error <= 0 else min(99.0, -10 * math.log10(squared_error))


@dataclass(frozen=True, slots=True)
class Goal:
    """What one network must reproduce, and how well.

    Attributes:
        rows: (count, 6) float32, its pixels as in :class:`common.inr.fit.Samples`.
        squared_error: Mean squared error to reach, RGB in [0, 1]; not looked at with ``max_bytes``.
        unit: RGB in [0, 1] of one unit of the network's output.
        rung: Size to start from, index into the ladder.
        start: Network of that size to start from; None: a fresh one.
        coarse: Pixels to fit instead of ``rows``: averages of several, where the target leaves detail out.
        unseen: Mean squared error, RGB in [0, 1], of ``rows`` against their averages.
        max_bytes: Largest payload, the target instead of an error; None: as many as the error takes.
    """

    rows: Tensor
    squared_error: float
    unit: float
    rung: int
    start: Network | None = None
    coarse: Tensor | None = None
    unseen: float = 0.0
    max_bytes: int | None = None


@dataclass(slots=True)
class Fitted:
    """A quantized network and what it reaches.

    Attributes:
        network: None before the first round.
        squared_error: Of its output over the pixels that count, RGB in [0, 1].
        payload_bytes: Bytes of its payload.
        steps: Optimizer steps spent on it.
    """

    network: Network | None = None
    squared_error: float = math.inf
    payload_bytes: int = 0
    steps: int = 0

    def reaches(self, goal: Goal) -> bool:
        """Whether it is on target."""
        if self.network is None or not math.isfinite(self.squared_error):
            return False
        if goal.max_bytes is not None:
            return self.payload_bytes <= goal.max_bytes
        return self.squared_error <= goal.squared_error

    def better_than(self, other: Fitted, goal: Goal) -> bool:
        """Whether to keep it instead of ``other``: on target first, then bytes or error, as is free."""
        if self.network is None or not math.isfinite(self.squared_error):
            return False
        reaches = self.reaches(goal)
        if other.network is None or reaches != other.reaches(goal):
            return reaches or other.network is None
        if reaches == (goal.max_bytes is None):
            return self.payload_bytes < other.payload_bytes
        return self.squared_error < other.squared_error
