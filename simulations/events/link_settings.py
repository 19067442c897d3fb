"""Links of a scenario: rates, latency, losses, how they change over time, and what is shared."""

from __future__ import annotations

import itertools
from typing import Self

from pydantic import Field, model_validator

from common.config import Settings

__all__ = ["ChangeSettings", "LinkSettings", "MediumSettings", "Outage", "Step"]


class Outage(Settings):
    """A span of time in which nothing passes."""

    from_s: float = Field(ge=0, le=1e10, description="beginning, seconds")
    to_s: float = Field(gt=0, le=1e10, description="end, seconds")

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.to_s <= self.from_s:
            raise ValueError(f"it ends at {self.to_s:g} s, before it begins at {self.from_s:g} s; swap them")
        return self


class Step(Settings):
    """A change of bandwidth."""

    at_s: float = Field(ge=0, le=1e10, description="when, seconds")
    share: float = Field(
        ge=0, le=1e6, description="share of the nominal rates from then on; 0: nothing passes"
    )


class ChangeSettings(Settings):
    """How bandwidth changes over time; without any of it the nominal rates hold."""

    trace: str | None = Field(
        None,
        max_length=4096,
        description="CSV with the columns seconds,share, or seconds,uplink_bytes_per_s,downlink_bytes_per_s",
    )
    steps: tuple[Step, ...] = Field(
        (),
        max_length=100_000,
        description="the same inline, such as [{at_s: 0, share: 1}, {at_s: 60, share: 0.2}]",
    )
    outages: tuple[Outage, ...] = Field(
        (), max_length=100_000, description="when nothing passes, such as [{from_s: 60, to_s: 90}]"
    )
    repeat_s: float | None = Field(
        None,
        gt=0,
        le=1e10,
        description="seconds after which trace, steps and outages begin anew; null: never",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.trace is not None and self.steps:
            raise ValueError("it has both a trace and steps; give one of them")
        times = [step.at_s for step in self.steps]
        if any(b <= a for a, b in itertools.pairwise(times)):
            raise ValueError("its steps are not in order of at_s; sort them, each later than the one before")
        if self.repeat_s is not None:
            latest = max([*times, *(outage.to_s for outage in self.outages)], default=0.0)
            if latest > self.repeat_s:
                raise ValueError(
                    f"it repeats every {self.repeat_s:g} s, but tells of {latest:g} s; raise repeat_s"
                )
        return self


class LinkSettings(Settings):
    """The link of one device."""

    uplink_bytes_per_s: float = Field(gt=0, le=1e15, description="B/s that the device can send")
    downlink_bytes_per_s: float = Field(gt=0, le=1e15, description="B/s that it can receive")
    latency_s: float = Field(0.0, ge=0, le=1e6, description="seconds of a small message from end to end")
    goodput: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the rates left for new bytes after losses; 1: rates as measured",
    )
    medium: str | None = Field(
        None,
        max_length=40,
        description="shared medium on which members take turns; null: a link of its own, both ways at once",
    )
    changes: ChangeSettings = Field(
        ChangeSettings(), description="how it changes over time; of a shared medium, set it there"
    )

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        if self.medium is not None and self.changes != ChangeSettings():
            raise ValueError("a link on a shared medium has no changes of its own; move them to the medium")
        return self


class MediumSettings(Settings):
    """A channel that several devices share: one of them sends or receives at a time."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="the name that links give")
    changes: ChangeSettings = Field(
        ChangeSettings(), description="share of the members' rates that the medium gives over time"
    )
