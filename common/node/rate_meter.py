"""Bytes a second of a link while it is busy: pauses between transfers do not count."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RateMeter"]


@dataclass(slots=True)
class RateMeter:
    """Measures one direction of a link.

    Attributes:
        longest_gap_s: Silence after which a transfer that nobody announced counts as over, seconds.
        total_bytes: Bytes counted so far, busy or not.
    """

    longest_gap_s: float = 0.5
    total_bytes: int = 0
    _bytes: int = 0
    _seconds: float = 0.0
    _last: float | None = None
    _busy: bool = False

    def begin(self, now: float) -> None:
        """Bytes are expected from now on: all the time until they come counts."""
        if not self._busy:
            self._busy = True
            self._last = now

    def end(self) -> None:
        """Nothing more is expected."""
        self._busy = False

    def add(self, size: int, now: float) -> None:
        """``size`` bytes have arrived by ``now`` (seconds)."""
        self.total_bytes += size
        if self._last is not None and (self._busy or now - self._last <= self.longest_gap_s):
            self._bytes += size
            self._seconds += max(0.0, now - self._last)
        self._last = now

    def bytes_per_second(self) -> float | None:
        """The mean rate while busy, or None before at least 10 ms of traffic were seen."""
        if self._seconds < 0.01:
            return None
        return self._bytes / self._seconds
