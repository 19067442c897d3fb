"""Stages of a strategy and how long they take together.

Frames flow through the stages of ``flow`` one behind the other. With S_i the seconds of all frames in stage i
and s_i those of one frame, the last frame leaves after

    (7) max over i of (S_i + sum of s_j over the other stages j) = sum s_j + max (S_i - s_i)

which is exact when the frames are alike. The stages of ``after`` follow one after another, and latency adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Line", "Stage", "Timing"]

Line = tuple[float, float]
"""Slope and intercept; a convex function is the maximum of some lines."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that takes time.

    Attributes:
        name: What it is, such as "the uplink".
        seconds: Of all frames, or of the whole; None when a rate is missing.
        one: Of one frame, seconds; 0 where frames do not wait for each other's end.
        device: The device that takes longest, "" when there is only one place for it or it has no name.
        link: Whether its seconds fall in proportion to the rates of the links.
        per_frame: Whether its seconds grow in proportion to the frames.
    """

    name: str
    seconds: float | None
    one: float = 0.0
    device: str = ""
    link: bool = False
    per_frame: bool = True

    @property
    def words(self) -> str:
        """The stage with its device."""
        return f"{self.name} of {self.device}" if self.device else self.name


@dataclass(frozen=True, slots=True)
class Timing:
    """The stages of one strategy.

    Attributes:
        flow: Stages through which frames flow one behind the other.
        after: Stages that begin when those before them have ended.
        latency_s: Latency of the messages on the way, seconds.
    """

    flow: tuple[Stage, ...]
    after: tuple[Stage, ...]
    latency_s: float = 0.0

    @property
    def known(self) -> bool:
        """Whether every stage's seconds are known."""
        return all(stage.seconds is not None for stage in (*self.flow, *self.after))

    @property
    def seconds(self) -> float | None:
        """Equation (7) with what follows, or None when a stage is unknown."""
        if not self.known:
            return None
        return max((slope + intercept for slope, intercept in self.over_frames()), default=0.0)

    @property
    def longest(self) -> Stage | None:
        """The stage that takes longest of those that are known."""
        known = [stage for stage in (*self.flow, *self.after) if stage.seconds is not None]
        return max(known, key=_seconds, default=None)

    def over_frames(self) -> tuple[Line, ...]:
        """Seconds over the frames, as multiples of the present ones: the maximum of these lines."""
        slope = math.fsum(_seconds(stage) for stage in self.after if stage.per_frame)
        fixed = math.fsum(_seconds(stage) for stage in self.after if not stage.per_frame)
        fixed += self.latency_s + math.fsum(stage.one for stage in self.flow)
        lines = [(slope + _seconds(stage), fixed - stage.one) for stage in self.flow]
        return tuple(lines) or ((slope, fixed),)

    def over_slowness(self) -> tuple[Line, ...]:
        """Seconds over 1 / x when all links are x times as quick: the maximum of these lines."""
        slope = math.fsum(_seconds(stage) for stage in self.after if stage.link)
        slope += math.fsum(stage.one for stage in self.flow if stage.link)
        fixed = self.latency_s + math.fsum(_seconds(stage) for stage in self.after if not stage.link)
        fixed += math.fsum(stage.one for stage in self.flow if not stage.link)
        lines = []
        for stage in self.flow:
            rest = _seconds(stage) - stage.one
            lines.append((slope + rest, fixed) if stage.link else (slope, fixed + rest))
        return tuple(lines) or ((slope, fixed),)


def _seconds(stage: Stage) -> float:
    return stage.seconds or 0.0
