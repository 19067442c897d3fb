"""From what edges report to the rates of the communication model (pure).

An edge may send what it likes, and must not stop the planner with it: figures that cannot be measurements
count as not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from common.planning.links import SHARED_CHANNEL, Link
from common.planning.node_rates import NodeRates
from common.wire.messages import Report

__all__ = ["mean", "measured", "measured_link", "measured_node", "uniform_rates", "within"]

SMALLEST_RATE = 1e-6
"""Bytes or frames a second, or seconds, below which a reported figure is no measurement."""

LONGEST_LATENCY_S = 600.0
"""Seconds above which a reported latency is no measurement."""


def measured(values: Sequence[float | None]) -> list[float]:
    """Those that are measurements."""
    return [value for value in values if value is not None and value >= SMALLEST_RATE]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the measurements, None without any."""
    known = measured(values)
    return fmean(known) if known else None


def within(rate: float | None, limit: float | None) -> float | None:
    """A measured rate under a limit that is kept to; a limit alone is no measurement."""
    return rate if rate is None or limit is None else min(rate, limit)


def measured_link(
    report: Report | None, downlink: float | None, shared: bool, *, limit: float | None = None
) -> Link | None:
    """An edge's link; None when it is as the others.

    Args:
        report: What the edge says.
        downlink: What the fog has measured towards it, bytes a second; better than the edge's own figure,
            which knows large payloads only.
        shared: Whether all edges share one medium.
        limit: Bytes a second that the fog sends to it at most.
    """
    up = _one(None if report is None else report.uplink_bytes_per_second)
    down = _one(downlink) or _one(None if report is None else report.downlink_bytes_per_second)
    down = within(down, limit)
    latency = 0.0 if report is None else report.latency_seconds or 0.0
    if up is None and down is None and not latency:
        return None
    medium = SHARED_CHANNEL if shared else ""
    return Link(up, down, min(latency, LONGEST_LATENCY_S), medium=medium)


def measured_node(report: Report | None) -> NodeRates | None:
    """How quickly an edge decodes and trains; None when it is as the others.

    The seconds of a whole round contain its decoding, so they stand alone.
    """
    if report is None:
        return None
    training = _one(report.training_frames_per_second)
    if training is not None:
        return NodeRates(_one(report.decode_frames_per_second), training_frames_per_s=training)
    seconds = _one(report.training_seconds)
    return None if seconds is None else NodeRates(training_s=seconds)


def uniform_rates(reports: Sequence[Report]) -> tuple[float | None, float | None, float | None]:
    """(decoded frames a second, seconds of a round, frames trained on a second) of edges without a report.

    The slowest counts for the training: all wait for it. Of the last two at most one is known.
    """
    by_frames = [r for r in reports if _one(r.training_frames_per_second) is not None]
    slowest = min(measured([r.training_frames_per_second for r in by_frames]), default=None)
    if slowest is not None:
        return mean([r.decode_frames_per_second for r in by_frames]), None, slowest
    seconds = max(measured([r.training_seconds for r in reports]), default=None)
    # Without any training the decoding alone is known; with it, it is contained.
    decoding = mean([r.decode_frames_per_second for r in reports]) if seconds is None else None
    return decoding, seconds, None


def _one(value: float | None) -> float | None:
    return value if value is not None and value >= SMALLEST_RATE else None
