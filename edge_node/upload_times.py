"""How long the fog takes to acknowledge uploads."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

__all__ = ["UploadTimes"]

NEWEST = 1000
"""Uploads that the figures are of: half a minute at 30 frames a second, and 8 kB of memory."""


class UploadTimes:
    """Seconds from an upload being given to the socket until the fog has said that it is on its disk.

    Args:
        newest: Uploads that count; older ones are forgotten.
    """

    def __init__(self, newest: int = NEWEST) -> None:
        self._sent: dict[int, float] = {}
        self._seconds: deque[float] = deque(maxlen=newest)

    def sent(self, number: int, now: float) -> None:
        """A frame is on its way."""
        self._sent[number] = now

    def accepted(self, numbers: Sequence[int], now: float) -> None:
        """The fog has these frames on disk."""
        for number in numbers:
            begin = self._sent.pop(number, None)
            if begin is not None:
                self._seconds.append(now - begin)

    def forget(self, number: int) -> None:
        """The fog has refused a frame."""
        self._sent.pop(number, None)

    def closed(self) -> None:
        """The session has ended: what is under way is sent anew in the next one."""
        self._sent.clear()

    def status(self) -> dict[str, Any]:
        """How many uploads count, and the median and the 95th percentile of their seconds; None without."""
        count = len(self._seconds)
        if count < 2:
            only = self._seconds[0] if count else None
            return {"count": count, "median_s": only, "p95_s": only}
        ordered = sorted(self._seconds)
        p95 = statistics.quantiles(ordered, n=20, method="inclusive")[-1]
        return {"count": count, "median_s": statistics.median(ordered), "p95_s": p95}
