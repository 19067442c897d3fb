"""Keeps one peer from filling the log: the first lines of a kind are written, the rest are counted."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["LogLimit"]

MOST_KINDS = 1_000
"""Kinds remembered; the one that was not seen for longest is forgotten."""


@dataclass(slots=True)
class _Kind:
    since: float
    lines: int = 0
    passed_over: int = 0


class LogLimit:
    """Lines of each kind are bounded in number over time. Times are seconds of a monotonic clock.

    Args:
        lines: Lines of one kind written in a period.
        seconds: The period.
    """

    def __init__(self, lines: int = 5, seconds: float = 60.0) -> None:
        self._lines = lines
        self._seconds = seconds
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()

    def admit(self, kind: str, now: float) -> str | None:
        """What to write behind a line of this kind; None: do not write it.

        The first line after some were passed over tells how many, the others have nothing behind them.
        """
        entry = self._kinds.get(kind)
        note = ""
        if entry is None or now - entry.since >= self._seconds:
            if entry is not None and entry.passed_over:
                note = f" ({entry.passed_over} more like this were not written)"
            entry = self._kinds[kind] = _Kind(now)
        self._kinds.move_to_end(kind)
        if len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)
        entry.lines += 1
        if entry.lines > self._lines:
            entry.passed_over += 1
            return None
        return note
