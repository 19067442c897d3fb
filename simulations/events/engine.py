"""The clock: events in order of time, and of their making where times are equal.

A heap of tuples and plain calls, not SimPy: a process of SimPy makes an event object with a list of callbacks
and resumes a generator for each wait, and a million frames make several million events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["Engine", "Handler"]

Handler = Callable[[float, Any], None]
"""Called with the time and what was given to :meth:`Engine.at`."""


class Engine:
    """Runs events.

    Attributes:
        now: Time of the event under way, seconds.
        events: Events run so far.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Handler, Any]] = []
        self._made = 0
        self._ticks = 0

    def at(self, time: float, handler: Handler, value: Any = None) -> None:
        """Run ``handler(time, value)``; at infinity, never."""
        if time < math.inf:
            self._made += 1
            heappush(self._heap, (time, self._made, handler, value))

    def every(self, seconds: float, handler: Handler, quiet: int = 0) -> None:
        """Run ``handler(time, None)`` every so often for as long as anything else is to happen.

        Args:
            seconds: Between two calls.
            handler: What to call.
            quiet: Calls in a row without anything else to happen after which it ends.
        """
        self._ticks += 1
        self._made += 1
        heappush(self._heap, (self.now + seconds, self._made, self._tick, (seconds, handler, quiet, quiet)))

    def run(self, until: float) -> None:
        """Run every event up to and including the time ``until``."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            time, _, handler, value = heappop(heap)
            self.now = time
            self.events += 1
            handler(time, value)

    def _tick(self, time: float, value: tuple[float, Handler, int, int]) -> None:
        seconds, handler, quiet, left = value
        handler(time, None)
        # Ticks alone would keep each other going for ever.
        left = quiet if len(self._heap) >= self._ticks else left - 1
        if left < 0:
            self._ticks -= 1
            return
        self._made += 1
        heappush(self._heap, (time + seconds, self._made, self._tick, (seconds, handler, quiet, left)))
