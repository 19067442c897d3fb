"""Where the choice between two strategies changes, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from common.planning.strategies import Strategy, StrategyCost
from common.planning.timing import Line

__all__ = ["Crossings", "SecondsCrossing", "crossing_points", "ratio_crossing", "seconds_crossings"]

EQUAL = 1e-12
"""Relative difference below which two costs count as equal: what rounding leaves."""


@dataclass(frozen=True, slots=True)
class SecondsCrossing:
    """A point where two strategies take equally long.

    It is exact as long as the learner whose round takes longest stays the same one.

    Attributes:
        over: What is varied: the rates of all links together, or the frames of all devices together.
        factor: Multiple of the present rates or frames at which they are equal, > 0.
        below: The quicker one below it.
        above: The quicker one above it.
    """

    over: Literal["rate", "frames"]
    factor: float
    below: Strategy
    above: Strategy


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where the choice changes; None or empty: never, or the numbers for it are unknown.

    The first five are by bytes, the last by seconds.

    Attributes:
        receivers: Receivers a frame above which (2) beats (1): 1 / (1 - alpha), equation (4); (1 + alpha o) /
            (1 - alpha) when devices get the share o of their own frames back.
        alpha: alpha below which (2) beats (1) at today's receivers: 1 - sum m_k / sum m_k n_k.
        fog_over_edge_frames: Frames, of all devices together, above which (3) beats (2), equation (5).
        fog_over_serverless_frames: Frames above which (3) beats (1), equation (6).
        devices: Devices that share all with all above which (2) beats (1): one more than the receivers.
        seconds: Where two strategies take equally long.
    """

    receivers: float | None
    alpha: float | None
    fog_over_edge_frames: float | None
    fog_over_serverless_frames: float | None
    devices: float | None = None
    seconds: tuple[SecondsCrossing, ...] = ()


def ratio_crossing(fixed: float, grows: float) -> float | None:
    """Where a growing cost overtakes a fixed one; None when it does not grow or nothing is fixed."""
    if fixed <= 0 or grows <= 0:
        return None
    value = fixed / grows
    return value if math.isfinite(value) else None


def seconds_crossings(costs: Sequence[StrategyCost]) -> tuple[SecondsCrossing, ...]:
    """All crossings of every two strategies whose seconds are known."""
    found: list[SecondsCrossing] = []
    known = [cost for cost in costs if cost.timing.known]
    for index, first in enumerate(known):
        for second in known[index + 1 :]:
            one, two = first.strategy, second.strategy
            points = crossing_points(first.timing.over_frames(), second.timing.over_frames())
            found += [
                SecondsCrossing("frames", x, *((one, two) if first_below else (two, one)))
                for x, first_below in points
            ]
            points = crossing_points(first.timing.over_slowness(), second.timing.over_slowness())
            # Over 1 / x, so what is quicker below a point is quicker above its inverse.
            found += [
                SecondsCrossing("rate", 1 / u, *((two, one) if first_below else (one, two)))
                for u, first_below in reversed(points)
            ]
    return tuple(found)


def crossing_points(first: Sequence[Line], second: Sequence[Line]) -> list[tuple[float, bool]]:
    """Where the maximum of some lines and the maximum of others change places, for x > 0.

    Between two intersections of any two lines neither maximum changes its line, so the sign of their
    difference is looked at once in each such interval.

    Args:
        first: Lines whose maximum is the first function.
        second: Lines whose maximum is the second.

    Returns:
        (x, whether the first is the smaller one below x), ascending.
    """
    candidates: set[float] = set()
    lines = [*first, *second]
    for index, (slope, intercept) in enumerate(lines):
        for other_slope, other_intercept in lines[index + 1 :]:
            if slope != other_slope:
                x = (other_intercept - intercept) / (slope - other_slope)
                if 0 < x < math.inf:
                    candidates.add(x)
    points = sorted(candidates)
    places = [points[0] / 2] if points else []
    places += [(low + high) / 2 for low, high in pairwise(points)]
    places += [points[-1] * 2] if points else []
    signs = [_sign(_value(first, x), _value(second, x)) for x in places]
    found = []
    before = signs[0] if signs else 0
    for point, sign in zip(points, signs[1:], strict=False):
        if sign and before and sign != before:
            found.append((point, before < 0))
        before = sign or before
    return found


def _value(lines: Sequence[Line], x: float) -> float:
    return max(slope * x + intercept for slope, intercept in lines)


def _sign(first: float, second: float) -> int:
    if math.isclose(first, second, rel_tol=EQUAL):
        return 0
    return -1 if first < second else 1
