"""A rate over time, with a burst: a pure state machine with the caller's clock."""

from __future__ import annotations

import math

__all__ = ["TokenBucket"]


class TokenBucket:
    """Lets through while it is not empty, and may go into debt.

    So whatever is larger than the burst also gets through, and waits for its debt to be paid before the next;
    over any time t no more than ``rate * t + burst`` and one last piece gets through. Times are seconds of a
    monotonic clock.

    Args:
        rate: Filled so much a second, bytes or pieces; None for no limit.
        burst: Holds so much at most, and at first.
    """

    def __init__(self, rate: float | None, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._filled_at: float | None = None

    @property
    def rate(self) -> float | None:
        """Filled so much a second; None: no limit."""
        return self._rate

    def ready(self, now: float) -> bool:
        """Whether something may pass now."""
        return self.wait(now) <= 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may pass, at least 0."""
        if self._rate is None:
            return 0.0
        self._fill(now)
        return max(0.0, -self._level / self._rate)

    def level(self, now: float) -> float:
        """How much it holds; infinite without a limit, negative in debt."""
        if self._rate is None:
            return math.inf
        self._fill(now)
        return self._level

    def take(self, amount: float, now: float) -> None:
        """So much has passed."""
        if self._rate is not None:
            self._fill(now)
            self._level -= amount

    def _fill(self, now: float) -> None:
        if self._filled_at is not None and self._rate is not None:
            # A clock that steps back fills nothing, and empties nothing.
            gained = max(0.0, now - self._filled_at) * self._rate
            self._level = min(self._burst, self._level + gained)
        self._filled_at = now if self._filled_at is None else max(self._filled_at, now)
