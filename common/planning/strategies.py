"""The ways of learning together, and what one of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from common.planning.timing import Timing

__all__ = ["Strategy", "StrategyCost"]


class Strategy(StrEnum):
    """A way of learning together; the value is the name used in settings and JSON."""

    SERVERLESS = "serverless"
    EDGE = "edge"
    FOG = "fog"

    @property
    def words(self) -> str:
        """The strategy in words."""
        return {
            Strategy.SERVERLESS: "serverless JPEG",
            Strategy.EDGE: "fog encoding with training at the edges",
            Strategy.FOG: "fog encoding with training at the fog",
        }[self]


@dataclass(frozen=True, slots=True)
class StrategyCost:
    """What one strategy costs.

    Attributes:
        strategy: Which.
        uplink_bytes: Sent by devices, all together.
        downlink_bytes: Sent by the fog, all together; 0 for serverless JPEG.
        bytes: Both together, equations (1) to (3).
        seconds: From the first upload to trained detectors; None when a rate is missing.
        device_joules: Drawn by all devices together; None when energy or a rate is missing.
        fog_joules: Drawn by the fog; None likewise.
        binds: What costs most, in words: the longest stage, or the largest part of the bytes.
        timing: Its stages.
    """

    strategy: Strategy
    uplink_bytes: float
    downlink_bytes: float
    bytes: float
    seconds: float | None
    device_joules: float | None
    fog_joules: float | None
    binds: str
    timing: Timing

    @property
    def joules(self) -> float | None:
        """Drawn by devices and fog together."""
        if self.device_joules is None or self.fog_joules is None:
            return None
        return self.device_joules + self.fog_joules

    @property
    def stages(self) -> tuple[tuple[str, float], ...]:
        """(name, seconds) of each stage whose rates are known."""
        stages = (*self.timing.flow, *self.timing.after)
        return tuple((stage.name, stage.seconds) for stage in stages if stage.seconds is not None)

    @property
    def missing(self) -> tuple[str, ...]:
        """The stages whose seconds are unknown, in words."""
        stages = (*self.timing.flow, *self.timing.after)
        return tuple(stage.words for stage in stages if stage.seconds is None)
