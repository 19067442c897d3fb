"""Latency of a link from its heartbeats."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["LatencyMeter"]

ROUND_TRIPS = 16
"""Newest round trips looked at; the shortest of them waited least behind other traffic."""


@dataclass(slots=True)
class LatencyMeter:
    """Half of the shortest recent round trip between a question and its answer.

    Only one question is under way at a time: a second one, asked before the first was answered, is not timed.
    """

    _asked: float | None = None
    _unanswered: int = 0
    _round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=ROUND_TRIPS))

    def asked(self, now: float) -> None:
        """A question has left."""
        if not self._unanswered:
            self._asked = now
        self._unanswered += 1

    def answered(self, now: float) -> None:
        """An answer has come; answers come in the order of their questions."""
        if self._unanswered:
            self._unanswered -= 1
        if self._asked is not None:
            self._round_trips.append(max(0.0, now - self._asked))
            self._asked = None

    def reset(self) -> None:
        """The connection has ended: what was asked is not answered any more."""
        self._asked, self._unanswered = None, 0

    def seconds(self) -> float | None:
        """The latency in one direction, seconds; None before the first answer."""
        return min(self._round_trips) / 2 if self._round_trips else None
