"""Bytes a second of a link while it is busy: pauses between transfers do not count."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RateMeter"]

LEAST_SECONDS = 0.01
"""Busy time before there is a rate, seconds: less is noise of the clock and of the scheduler."""


@dataclass(slots=True)
class RateMeter:
    """Measures one direction of a link by what arrives while more is expected.

    What was measured long ago is forgotten by half every ``half_life_s`` of busy time, so that the rate
    follows a link that changes.

    Attributes:
        half_life_s: Busy time after which what was measured counts half, seconds.
        least_bytes: Bytes that a busy period must move to count: of less, the wait for the answer is most.
        total_bytes: Bytes counted so far, busy or not.
    """

    half_life_s: float = 60.0
    least_bytes: int = 0
    total_bytes: int = 0
    _bytes: float = 0.0
    _seconds: float = 0.0
    _period_bytes: int = 0
    _period_seconds: float = 0.0
    _last: float = 0.0
    _busy: bool = False

    def begin(self, now: float) -> None:
        """Bytes are expected from now on: all the time until they come counts."""
        if not self._busy:
            self._busy = True
            self._last = now
            self._period_bytes, self._period_seconds = 0, 0.0

    def end(self) -> None:
        """Nothing more is expected."""
        self._busy = False

    def add(self, size: int, now: float) -> None:
        """``size`` bytes have arrived by ``now`` (seconds); they count while bytes are expected."""
        self.total_bytes += size
        if not self._busy:
            return
        self._period_bytes += size
        self._period_seconds += max(0.0, now - self._last)
        self._last = now
        if self._period_bytes >= self.least_bytes:
            kept = 0.5 ** (self._period_seconds / self.half_life_s)
            self._bytes = self._bytes * kept + self._period_bytes
            self._seconds = self._seconds * kept + self._period_seconds
            self._period_bytes, self._period_seconds = 0, 0.0

    def bytes_per_second(self) -> float | None:
        """The mean rate while busy, or None before at least 10 ms of traffic were seen."""
        if self._seconds < LEAST_SECONDS:
            return None
        return self._bytes / self._seconds
