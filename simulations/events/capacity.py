"""How much a link or a medium has carried by some time, and when it will have carried so much.

The share of the nominal rate is piecewise constant. Its integral C(t), in seconds at the nominal rate, turns
a link whose rate changes into one whose rate does not: a message that needs d seconds at the nominal rate and
begins at t ends when C has grown by d.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import ConfigError
from simulations.events.link_settings import ChangeSettings, LinkSettings, Outage

__all__ = ["ALWAYS", "Capacity", "capacities", "read_trace"]

MOST_TRACE_BYTES = 64 << 20
"""Largest CSV of a trace that is read."""


class Capacity:
    """The integral of the share over time, and its inverse.

    Args:
        steps: (seconds, share from then on), in order, from 0 on; before the first the share is 1.
        repeat_s: Period; None: the last share holds for ever.
    """

    def __init__(self, steps: Sequence[tuple[float, float]] = (), repeat_s: float | None = None) -> None:
        whole = [(0.0, 1.0), *steps] if not steps or steps[0][0] > 0 else list(steps)
        self._times = [time for time, _ in whole]
        self._shares = [share for _, share in whole]
        self._sums = [0.0]
        for i in range(1, len(whole)):
            self._sums.append(self._sums[-1] + self._shares[i - 1] * (self._times[i] - self._times[i - 1]))
        self._period = repeat_s
        self._period_sum = 0.0
        if repeat_s is not None:
            self._period_sum = self._sums[-1] + self._shares[-1] * (repeat_s - self._times[-1])
        self.constant = all(share == 1 for share in self._shares)

    @property
    def closed(self) -> bool:
        """Whether nothing ever passes."""
        return self._period_sum == 0 if self._period is not None else not any(self._shares)

    def share(self, time: float) -> float:
        """Share of the nominal rate at a time."""
        if self._period is not None:
            time %= self._period
        return self._shares[bisect_right(self._times, time) - 1]

    def carried(self, time: float) -> float:
        """C(t): seconds at the nominal rate that pass by ``time`` >= 0."""
        if self.constant:
            return time
        if self._period is None:
            return self._within(time)
        periods, rest = divmod(time, self._period)
        return periods * self._period_sum + self._within(rest)

    def when(self, carried: float) -> float:
        """The earliest time at which C reaches ``carried``; infinity: never."""
        if self.constant:
            return carried
        if self._period is None:
            return self._reach(carried)
        if self._period_sum <= 0:
            return math.inf if carried > 0 else 0.0
        periods = max(0, math.ceil(carried / self._period_sum) - 1)
        rest = min(carried - periods * self._period_sum, self._period_sum)
        return periods * self._period + min(self._reach(rest), self._period)

    def _within(self, time: float) -> float:
        i = bisect_right(self._times, time) - 1
        return self._sums[i] + self._shares[i] * (time - self._times[i])

    def _reach(self, carried: float) -> float:
        i = max(bisect_left(self._sums, carried) - 1, 0)
        share = self._shares[i]
        if share > 0:
            return self._times[i] + (carried - self._sums[i]) / share
        return self._times[i] if carried <= self._sums[i] else math.inf


ALWAYS = Capacity()
"""The nominal rate, always."""


def capacities(
    changes: ChangeSettings, link: LinkSettings | None, folder: Path, owner: str
) -> tuple[Capacity, Capacity]:
    """(upwards, downwards) of a link, or of a medium when ``link`` is None.

    Args:
        changes: How the bandwidth changes.
        link: Its nominal rates, for traces in bytes a second.
        folder: Where relative paths start.
        owner: Whose they are, for errors: "the link of group 'x'".

    Raises:
        ConfigError: A trace cannot be read, or nothing ever passes.
    """
    if changes.trace is not None:
        path = Path(changes.trace).expanduser()
        up, down = read_trace(path if path.is_absolute() else folder / path, link, owner)
    else:
        up = down = [(step.at_s, step.share) for step in changes.steps]
    found = tuple(
        Capacity(_without(steps, changes.outages, changes.repeat_s), changes.repeat_s) for steps in (up, down)
    )
    for capacity in found:
        if capacity.closed:
            raise ConfigError(
                f"{owner} never carries anything: its steps, trace and outages leave no time open; "
                "give it a share above 0 or a gap between outages"
            )
    return found[0], found[1]


def read_trace(
    path: Path, link: LinkSettings | None, owner: str
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Read a CSV of bandwidth over time as (upwards, downwards) steps of shares.

    Raises:
        ConfigError: It cannot be read, lacks a column, is out of order, or holds no number or a negative one.
    """
    import csv

    try:
        if path.exists() and not path.is_file():
            # A device or a pipe may never end.
            raise ConfigError(f"the trace {path} of {owner} is no file; name a CSV")
        if path.stat().st_size > MOST_TRACE_BYTES:
            raise ConfigError(
                f"the trace {path} of {owner} is above {MOST_TRACE_BYTES >> 20} MiB; shorten it"
            )
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise ConfigError(f"cannot read the trace {path} of {owner}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the trace {path} of {owner} is no UTF-8 text; save it as CSV") from error
    names = set(rows[0]) if rows else set()
    rates = ("uplink_bytes_per_s", "downlink_bytes_per_s")
    if "seconds" not in names or not ("share" in names or (link is not None and names.issuperset(rates))):
        raise ConfigError(
            f"the trace {path} of {owner} needs rows and the columns seconds,share"
            + ("" if link is None else " or seconds,uplink_bytes_per_s,downlink_bytes_per_s")
        )
    up: list[tuple[float, float]] = []
    down: list[tuple[float, float]] = []
    for line, row in enumerate(rows, start=2):
        seconds = _number(row["seconds"], "seconds", path, line)
        if up and seconds <= up[-1][0]:
            raise ConfigError(
                f"the trace {path} line {line} is not later than the line before; sort it by seconds"
            )
        if "share" in names:
            share = _number(row["share"], "share", path, line)
            up.append((seconds, share))
            down.append((seconds, share))
        elif link is not None:
            up.append((seconds, _number(row[rates[0]], rates[0], path, line) / link.uplink_bytes_per_s))
            down.append((seconds, _number(row[rates[1]], rates[1], path, line) / link.downlink_bytes_per_s))
    return up, down


def _number(text: str | None, column: str, path: Path, line: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(
            f"the trace {path} line {line} has {text!r} as {column}; it needs a number of at least 0"
        )
    return value


def _without(
    steps: Sequence[tuple[float, float]], outages: Iterable[Outage], repeat_s: float | None
) -> list[tuple[float, float]]:
    """The steps with share 0 during outages."""
    spans = sorted((outage.from_s, outage.to_s) for outage in outages)
    if not spans:
        return list(steps)
    base = Capacity(steps)
    times = sorted({0.0, *(t for t, _ in steps), *(t for span in spans for t in span)})
    return [
        (time, 0.0 if any(a <= time < b for a, b in spans) else base.share(time))
        for time in times
        if repeat_s is None or time < repeat_s
    ]
