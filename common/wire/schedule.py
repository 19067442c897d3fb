"""At which local times something is sent: a pure function of the time of day and the weekday."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

__all__ = ["DAYS", "Schedule", "Window", "Windows", "parse_window"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""Names of the weekdays, from Monday."""

DAY_MINUTES = 24 * 60

PATTERN = re.compile(r"(?:(?P<days>[a-z]{3}(?:[-,][a-z]{3})*) )?(\d{2}):(\d{2})-(\d{2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of time that comes every week.

    Attributes:
        days: Weekdays on which it begins, 0 for Monday.
        start, end: Minutes of the day; an end that is not later than the start lies on the next day.
    """

    days: frozenset[int]
    start: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        """Whether this minute of this weekday lies within it."""
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        before = (day - 1) % 7
        return (day in self.days and minute >= self.start) or (before in self.days and minute < self.end)


class Schedule:
    """Open within any of its windows; always, when there are none.

    Args:
        windows: As :func:`parse_window` reads them.

    Raises:
        ValueError: One of them is none.
    """

    def __init__(self, windows: Sequence[str]) -> None:
        self._windows = tuple(parse_window(text) for text in windows)

    def open(self, moment: datetime) -> bool:
        """Whether it is open at this local time."""
        minute = moment.hour * 60 + moment.minute
        return not self._windows or any(entry.holds(moment.weekday(), minute) for entry in self._windows)


def parse_window(text: str) -> Window:
    """Read ``HH:MM-HH:MM``, after weekdays if it does not hold for all: ``mon-fri 22:00-06:00``.

    Raises:
        ValueError: It is not written so.
    """
    match = PATTERN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no window of time; write it as '22:00-06:00' or 'sat,sun 00:00-24:00'")
    days = frozenset(range(7)) if match["days"] is None else _days(match["days"])
    hours = [int(match[index]) for index in range(2, 6)]
    start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if start >= DAY_MINUTES or end > DAY_MINUTES or hours[1] > 59 or hours[3] > 59:
        raise ValueError(f"{text!r} names a time that no day has; hours go from 00:00 to 24:00")
    if start == end:
        raise ValueError(f"{text!r} begins when it ends; for a whole day write 00:00-24:00")
    return Window(days, start, end)


def _readable(windows: tuple[str, ...]) -> tuple[str, ...]:
    for text in windows:
        parse_window(text)
    return windows


Windows = Annotated[tuple[str, ...], Field(max_length=100), AfterValidator(_readable)]
"""A setting: the windows of a :class:`Schedule`."""


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        for name in (first, last or first):
            if name not in DAYS:
                raise ValueError(f"{name!r} is no weekday; write {', '.join(DAYS)}")
        at, end = DAYS.index(first), DAYS.index(last or first)
        days.add(at)
        while at != end:
            at = (at + 1) % 7
            days.add(at)
    return frozenset(days)
