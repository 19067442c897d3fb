"""What a simulation measures: columns of the timeline, and latencies as a histogram."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

__all__ = ["COLUMNS", "Histogram", "Timeline"]

COLUMNS = (
    "recorded",
    "dropped",
    "uploaded",
    "refused",
    "encoded",
    "wanted",
    "delivered",
    "bytes_up",
    "bytes_down",
)
"""Counts of each span of the timeline.

Frames recorded, dropped because an outbox was full, committed by a fog, refused by a fog that had no
room, and encoded; copies that receivers want, and copies delivered; bytes that have arrived at fogs (or,
device to device, at receivers), and bytes that have arrived at devices from fogs.
"""


class Timeline:
    """Sums over equal spans of time.

    Args:
        sample_s: Length of a span, seconds.
        horizon_s: End of the simulation; what happens later is not counted.
    """

    def __init__(self, sample_s: float, horizon_s: float) -> None:
        self.sample_s = sample_s
        self.horizon_s = horizon_s
        self.per_second = 1.0 / sample_s
        size = int(horizon_s / sample_s) + 2
        self.columns = {name: array("d", bytes(8 * size)) for name in COLUMNS}

    def add(self, column: array[float], time: float, amount: float = 1.0) -> None:
        """Count something that happens at ``time`` <= horizon_s."""
        column[int(time * self.per_second)] += amount

    def spread(self, name: str, end: float, amount: float) -> None:
        """Count something that happens evenly from the beginning until ``end`` <= horizon_s."""
        column = np.frombuffer(self.columns[name], np.float64)
        if not amount:
            return
        last = int(end * self.per_second)
        weights = np.ones(last + 1)
        # What of the last span is over at the end; all of it when nothing takes any time.
        weights[last] = max(end * self.per_second - last, 1e-9)
        column[: last + 1] += amount * (weights / weights.sum())

    def sums(self) -> dict[str, np.ndarray]:
        """Each column added up from the beginning, (rows,) float64, up to the last row with an event."""
        table = {name: np.frombuffer(column, np.float64) for name, column in self.columns.items()}
        busy = np.flatnonzero(np.sum([values != 0 for values in table.values()], axis=0))
        rows = int(busy[-1]) + 1 if len(busy) else 1
        return {name: np.cumsum(values[:rows]) for name, values in table.items()}


class Histogram:
    """A distribution of seconds in bins 2 % wide: its memory does not grow with what is counted."""

    LEAST_S = 1e-6
    """Shorter ones count as this."""

    WIDTH = 1.02
    """Ratio of a bin's ends."""

    BINS = 1800
    """Up to 3e9 seconds."""

    def __init__(self) -> None:
        self._new = array("d")
        self._bins = np.zeros(self.BINS, np.int64)
        self._total = 0.0
        self._count = 0
        self._largest = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._new.append(seconds)
        if len(self._new) >= 65_536:
            self._flush()

    @property
    def count(self) -> int:
        """How many were counted."""
        self._flush()
        return self._count

    @property
    def mean(self) -> float | None:
        """Their mean, seconds; None without any."""
        self._flush()
        return self._total / self._count if self._count else None

    @property
    def largest(self) -> float | None:
        """The longest, seconds; None without any."""
        self._flush()
        return self._largest if self._count else None

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """Seconds below which these shares (0..1) lie, to 1 %; None without any."""
        self._flush()
        if not self._count:
            return [None] * len(shares)
        cumulated = np.cumsum(self._bins)
        found = np.searchsorted(cumulated, np.ceil(np.array(shares) * self._count).clip(1))
        middles = self.LEAST_S * self.WIDTH ** (found + 0.5)
        return [min(float(value), self._largest) for value in middles]

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """(seconds, share of what was counted up to there) where bins hold something, each (N,) float64."""
        self._flush()
        held = np.flatnonzero(self._bins)
        share = np.cumsum(self._bins)[held] / max(1, self._count)
        return self.LEAST_S * self.WIDTH ** (held + 1.0), share

    def _flush(self) -> None:
        if not self._new:
            return
        values = np.array(self._new)
        self._new = array("d")
        ratios = np.log(np.maximum(values, self.LEAST_S) / self.LEAST_S) / np.log(self.WIDTH)
        self._bins += np.bincount(np.minimum(ratios.astype(np.int64), self.BINS - 1), minlength=self.BINS)
        self._total += float(values.sum())
        self._count += len(values)
        self._largest = max(self._largest, float(values.max()))
