"""What carries messages: a link of one's own, first come first served, or a medium that devices share.

Sizes are demands: seconds that a message takes at the nominal rate with nobody else there. On a link of one's
own the end of a message follows from what was sent before, so it is known at once, without an event for each.
On a medium the members that have something to send share the time evenly: a processor-sharing queue, whose
virtual time V grows by share / members while the heap of ends in V stays as it is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, TypeAlias

from simulations.events.capacity import Capacity
from simulations.events.engine import Engine

__all__ = ["Done", "Lane", "Medium", "OwnLane", "SharedLane"]

Done: TypeAlias = Callable[[float, Any], None]
"""Called with the time at which a message has left the channel and what was given with it."""


class OwnLane:
    """One direction of a link of one's own."""

    __slots__ = ("_busy", "_capacity", "_engine", "busy_s")

    def __init__(self, engine: Engine, capacity: Capacity) -> None:
        self._engine = engine
        self._capacity = capacity
        self._busy = 0.0
        self.busy_s = 0.0

    def end(self, now: float, demand: float) -> float:
        """Send a message now, behind those before it; returns when it is through (infinity: never)."""
        capacity = self._capacity
        begin = capacity.carried(now)
        self._busy = max(begin, self._busy) + demand
        self.busy_s += demand
        return capacity.when(self._busy)

    def send(self, now: float, demand: float, latency: float, done: Done, value: Any) -> None:
        """Send a message now and call ``done`` when it has arrived."""
        self._engine.at(self.end(now, demand) + latency, done, value)

    def share(self, now: float) -> float:
        """Share of the nominal rate now."""
        return self._capacity.share(now)


class Medium:
    """A channel on which members take turns.

    Args:
        engine: The clock.
        capacity: Share of the members' rates over time.
    """

    def __init__(self, engine: Engine, capacity: Capacity) -> None:
        self._engine = engine
        self._capacity = capacity
        self._virtual = 0.0
        self._carried = 0.0
        self._ends: list[tuple[float, int, SharedLane]] = []
        self._begun = 0
        self._version = 0

    def begin(self, now: float, demand: float, lane: SharedLane) -> None:
        """A member begins to send."""
        self._advance(now)
        self._begun += 1
        heappush(self._ends, (self._virtual + demand, self._begun, lane))
        self._plan()

    def share(self, now: float) -> float:
        """Share of the nominal rate now, for one member among those that are sending."""
        return self._capacity.share(now) / max(1, len(self._ends))

    def _advance(self, now: float) -> None:
        carried = self._capacity.carried(now)
        if self._ends:
            self._virtual += (carried - self._carried) / len(self._ends)
        self._carried = carried

    def _plan(self) -> None:
        self._version += 1
        if self._ends:
            left = max(0.0, self._ends[0][0] - self._virtual) * len(self._ends)
            self._engine.at(self._capacity.when(self._carried + left), self._end, self._version)

    def _end(self, now: float, version: int) -> None:
        if version != self._version:
            return
        self._advance(now)
        end, _, lane = heappop(self._ends)
        # The event was made for this end: what rounding left of it is nothing.
        self._virtual = end
        lane.ended(now)
        if version == self._version:
            self._plan()


class SharedLane:
    """One direction of one member of a medium: one message at a time."""

    __slots__ = ("_engine", "_medium", "_queue", "busy_s")

    def __init__(self, engine: Engine, medium: Medium) -> None:
        self._engine = engine
        self._medium = medium
        self._queue: deque[tuple[float, float, Done, Any]] = deque()
        self.busy_s = 0.0

    def send(self, now: float, demand: float, latency: float, done: Done, value: Any) -> None:
        """Send a message now, behind those before it, and call ``done`` when it has arrived."""
        self._queue.append((demand, latency, done, value))
        if len(self._queue) == 1:
            self._medium.begin(now, demand, self)

    def ended(self, now: float) -> None:
        """The message under way is through."""
        demand, latency, done, value = self._queue.popleft()
        self.busy_s += demand
        self._engine.at(now + latency, done, value)
        if self._queue:
            self._medium.begin(now, self._queue[0][0], self)

    def share(self, now: float) -> float:
        """Share of the nominal rate now."""
        share = self._medium.share(now)
        return share if share < math.inf else 1.0


Lane: TypeAlias = OwnLane | SharedLane
