"""What all parts of one simulation share."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulations.events.engine import Engine
from simulations.events.figures import Histogram, Timeline
from simulations.events.frames import FrameColumns
from simulations.events.scenario import EventScenario

__all__ = ["RunState"]


@dataclass(slots=True)
class RunState:
    """One simulation under way.

    Attributes:
        scenario: What is simulated.
        engine: The clock.
        frames: Every frame.
        timeline: Counts over time.
        latency: From recording to the end of decoding at a receiver, of every delivered copy, seconds.
        weights_bytes: Bytes of detectors that have arrived at devices.
        originals_bytes: Bytes of originals of held-out frames that have arrived at devices.
        finished: When the last copy, detector or training was done, seconds.
    """

    scenario: EventScenario
    engine: Engine
    frames: FrameColumns
    timeline: Timeline
    latency: Histogram = field(default_factory=Histogram)
    weights_bytes: float = 0.0
    originals_bytes: float = 0.0
    finished: float = 0.0
