"""What an impairment proxy is told: its links, and what is wrong with each."""

from __future__ import annotations

import itertools
from typing import Literal, Self

from pydantic import Field, model_validator

from common.config import Settings

__all__ = [
    "Direction",
    "DirectionSettings",
    "ImpairmentSettings",
    "LinkImpairment",
    "RateStep",
    "SharedMedium",
]


class RateStep(Settings):
    """A change of rate."""

    at_s: float = Field(ge=0, le=1e7, description="seconds after the proxy's start")
    bytes_per_s: float = Field(gt=0, le=1e12, description="rate from then on, B/s; for none, stall the link")


def _check_order(steps: tuple[RateStep, ...]) -> None:
    if any(b.at_s <= a.at_s for a, b in itertools.pairwise(steps)):
        raise ValueError("the steps of a rate are not in order of at_s; sort them, each later than the last")


class DirectionSettings(Settings):
    """One direction of a link."""

    bytes_per_s: float | None = Field(None, gt=0, le=1e12, description="rate, B/s; null: as quick as it gets")
    steps: tuple[RateStep, ...] = Field(
        (), max_length=100_000, description="rates over time, such as [{at_s: 5, bytes_per_s: 1e5}]"
    )
    burst_bytes: int = Field(
        16_384,
        ge=1024,
        le=1 << 26,
        description="bytes that may pass at once after a pause; what passes is late by no more than this "
        "many bytes take",
    )
    delay_s: float = Field(0.0, ge=0, le=60, description="seconds from one end to the other")
    jitter_s: float = Field(
        0.0, ge=0, le=60, description="up to so many seconds more, at random; bytes never overtake others"
    )
    flip_probability: float = Field(
        0.0, ge=0, le=1, description="chance of each byte to have one bit flipped"
    )


class LinkImpairment(Settings):
    """One link: a port to connect to in place of the target's."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="name of the link: letters, digits, - _")
    listen: str = Field("127.0.0.1", min_length=1, max_length=253, description="address to listen on")
    port: int = Field(0, ge=0, le=65_535, description="port to listen on; 0: any, told when it is ready")
    target: str = Field("127.0.0.1", min_length=1, max_length=253, description="host to connect to")
    target_port: int = Field(ge=1, le=65_535, description="its port")
    up: DirectionSettings = Field(DirectionSettings(), description="towards the target")
    down: DirectionSettings = Field(DirectionSettings(), description="from the target")
    medium: str | None = Field(
        None, max_length=40, description="medium whose rate it shares; its own rates then hold beside it"
    )


class SharedMedium(Settings):
    """A rate that several links share, both directions together."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="the name that links give")
    bytes_per_s: float = Field(gt=0, le=1e12, description="rate of all members together, B/s")
    steps: tuple[RateStep, ...] = Field((), max_length=100_000, description="rates over time, as of a link")
    burst_bytes: int = Field(16_384, ge=1024, le=1 << 26, description="as of a link")

    @model_validator(mode="after")
    def _sorted(self) -> Self:
        _check_order(self.steps)
        return self


class ImpairmentSettings(Settings):
    """An impairment proxy."""

    links: tuple[LinkImpairment, ...] = Field(min_length=1, max_length=256, description="links")
    media: tuple[SharedMedium, ...] = Field((), max_length=64, description="rates that links share")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of jitter and flipped bits")
    chunk_bytes: int = Field(
        4096, ge=512, le=1 << 20, description="bytes read at once: the grain of rates and of shared media"
    )
    buffer_bytes: int = Field(
        262_144,
        ge=4096,
        le=1 << 28,
        description="bytes held in one direction of a connection while they are delayed; beyond it the "
        "sender waits, so a rate can be kept up to buffer_bytes / (delay_s + jitter_s)",
    )
    socket_buffer_bytes: int = Field(
        16_384,
        ge=2048,
        le=1 << 24,
        description="SO_SNDBUF and SO_RCVBUF of the proxy's sockets (Linux doubles them): small, so that "
        "the sender sees a slow link and not a deep buffer",
    )
    connections: int = Field(256, ge=1, le=10_000, description="connections of one link at one time, at most")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for kind, names in (
            ("links", [link.name for link in self.links]),
            ("media", [medium.name for medium in self.media]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two {kind} are called {twice!r}; give each a name of its own")
        known = {medium.name for medium in self.media}
        for link in self.links:
            if link.medium is not None and link.medium not in known:
                raise ValueError(
                    f"the link {link.name!r} names the medium {link.medium!r}, which is not in media; add it "
                    "there or set the link's medium to null"
                )
            _check_order(link.up.steps)
            _check_order(link.down.steps)
        return self


Direction = Literal["up", "down"]
"""Towards the target, or from it."""
