"""How long things have waited in a queue that is served in any order."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["QueueAge", "Waiting"]

MOST_TRACKED = 10_000
"""Things whose beginning is remembered one by one; of those beyond, only the first one's."""

MOST_MARKS = 1_000
"""Moments remembered of a queue; when there are more, every second one is forgotten."""

K = TypeVar("K", bound=Hashable)


class Waiting(Generic[K]):
    """The age of the oldest thing that waits, with bounded memory.

    What waited before this process began counts from its beginning. Times are monotonic, seconds.

    Args:
        before: How many waited then.
        now: The beginning.
    """

    def __init__(self, before: int, now: float) -> None:
        self._since: dict[K, float] = {}
        self._others = before
        self._others_since = now

    def add(self, key: K, now: float) -> None:
        """A thing begins to wait."""
        if len(self._since) < MOST_TRACKED:
            self._since[key] = now
            return
        if not self._others:
            self._others_since = now
        self._others += 1

    def remove(self, key: K) -> None:
        """It waits no more."""
        if self._since.pop(key, None) is None:
            self._others = max(0, self._others - 1)

    def oldest_s(self, now: float, count: int) -> float | None:
        """Seconds that the oldest of ``count`` things has waited; None when nothing waits.

        A count of 0 clears: things may leave a queue without a word, such as a damaged frame.
        """
        if not count:
            self._since.clear()
            self._others = 0
        began = [self._others_since] if self._others else []
        began += list(self._since.values())[:1]
        return max(0.0, now - min(began)) if began else None


class QueueAge:
    """The age of the head of a queue that tells only how much has come in and how much waits.

    It is the oldest one's where the queue is served in order; where some go first, the oldest may be older.
    Times are monotonic, seconds.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[int, float]] = []

    def head_s(self, entered: int, waiting: int, now: float) -> float | None:
        """Seconds that the head has waited, as far as was seen; None when nothing waits.

        Args:
            entered: Things that have come in, ever.
            waiting: Those that are still there.
            now: The time.
        """
        if not self._marks or self._marks[-1][0] < entered:
            self._marks.append((entered, now))
        gone = entered - waiting
        self._marks = [mark for mark in self._marks if mark[0] > gone]
        if len(self._marks) > MOST_MARKS:
            self._marks = self._marks[::2]
        return max(0.0, now - self._marks[0][1]) if waiting and self._marks else None
