"""A token bucket whose rate may change over time, and that several flows may share (pure: time is given)."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Bucket"]


class Bucket:
    """Bytes may pass at a rate, and ``burst`` of them at once after a pause.

    Whoever takes bytes first passes first, so flows that share a bucket and take small pieces in turn get
    equal parts of it.

    Args:
        rate: B/s from the beginning on; None: no bound.
        burst: Bytes, > 0; the bucket is full at the beginning.
        steps: (seconds, B/s from then on), in order.
    """

    def __init__(self, rate: float | None, burst: float, steps: Sequence[tuple[float, float]] = ()) -> None:
        self._rates: list[tuple[float, float]] = [(-math.inf, math.inf if rate is None else rate), *steps]
        self._burst = burst
        self._tokens = burst
        self._time = 0.0

    def take(self, size: int, now: float) -> float:
        """Take ``size`` bytes; returns the time from which they may pass, ``now`` or later."""
        self._fill(now)
        self._tokens -= size
        return now if self._tokens >= 0 else self._until(-self._tokens, self._time)

    def change(self, rate: float | None, now: float) -> None:
        """The rate is another one from now on; steps that are still to come are forgotten."""
        self._fill(now)
        self._rates = [(-math.inf, math.inf if rate is None else rate)]

    def _fill(self, now: float) -> None:
        """Tokens of the time since the last look."""
        if now <= self._time:
            return
        tokens = self._tokens
        for begin, end, rate in self._spans(self._time):
            if begin >= now:
                break
            tokens += rate * (min(end, now) - begin)
        self._tokens, self._time = min(self._burst, tokens), now

    def _until(self, missing: float, begin: float) -> float:
        """When ``missing`` bytes have passed that begin to flow at ``begin``."""
        for start, end, rate in self._spans(begin):
            carried = rate * (end - start)
            if carried >= missing:
                return start + missing / rate
            missing -= carried
        return math.inf

    def _spans(self, begin: float) -> list[tuple[float, float, float]]:
        """(from, to, B/s) from ``begin`` on."""
        ends = [time for time, _ in self._rates[1:]] + [math.inf]
        return [
            (max(start, begin), end, rate)
            for (start, rate), end in zip(self._rates, ends, strict=True)
            if end > begin
        ]
