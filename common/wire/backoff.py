"""Waits between attempts to connect, with full jitter: a pure state machine."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """After the n-th failure in a row, wait a random time below ``first * 2**(n-1)``, capped.

    Full jitter spreads the edges that lost the same fog. It only says when: the caller waits, and
    may stop waiting at any time. Times are seconds of a monotonic clock.

    Args:
        first: Longest first wait, seconds.
        last: Longest wait, seconds.
        source: Randomness.
    """

    def __init__(self, first: float = 1.0, last: float = 32.0, source: random.Random | None = None) -> None:
        self._first = first
        self._last = last
        self._random = source or random.Random()
        self._failures = 0
        self._until = float("-inf")

    def failed(self, now: float) -> float:
        """An attempt failed; returns the seconds to wait."""
        # The exponent is bounded: a fog that is away for days must not overflow a float.
        longest = min(self._last, self._first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        delay = self._random.uniform(0.0, longest)
        self._until = now + delay
        return delay

    def succeeded(self) -> None:
        """Connected and welcomed: the next failure starts from the first wait."""
        self._failures = 0
        self._until = float("-inf")

    def ready(self, now: float) -> bool:
        """Whether the wait is over."""
        return now >= self._until

    def wait(self, now: float) -> float:
        """Seconds left to wait, at least 0."""
        return max(0.0, self._until - now)
