"""The moments at which a device records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from simulations.events.scenario import ArrivalSettings

__all__ = ["arrival_times"]

DRAWS = 32
"""Random numbers drawn at a time: quick, and little memory for each of many devices."""


def arrival_times(
    settings: ArrivalSettings, duration_s: float, generator: np.random.Generator
) -> Iterator[float]:
    """Seconds at which one device records, in order, up to ``duration_s`` (not included).

    Args:
        settings: The process.
        duration_s: When recording ends.
        generator: The device's own.
    """
    times = itertools.takewhile(lambda time: time < duration_s, _endless(settings, generator))
    return times if settings.frames is None else itertools.islice(times, settings.frames)


def _endless(settings: ArrivalSettings, generator: np.random.Generator) -> Iterator[float]:
    interval = settings.interval_s
    if settings.kind == "periodic":
        first = generator.random() * interval if settings.start == "spread" else 0.0
        # Multiplied, not added up: a sum's rounding would drift.
        for number in itertools.count():
            yield first + number * interval
    elif settings.kind == "poisson":
        yield from _poisson(interval, generator)
    elif settings.kind == "bursts":
        last = 0.0
        for begin in _poisson(interval, generator):
            # A burst that is due while another is recorded follows it.
            begin = max(begin, last)
            for number in range(settings.burst_frames):
                last = begin + number * settings.burst_spacing_s
                yield last


def _poisson(interval: float, generator: np.random.Generator) -> Iterator[float]:
    time = 0.0
    while True:
        for wait in generator.exponential(interval, DRAWS).tolist():
            time += wait
            yield time
