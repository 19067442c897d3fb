"""The links between devices and their fog: rates of both directions, latency, losses, shared media."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.planning.checks import check_positive, check_range, check_share

__all__ = ["SHARED_CHANNEL", "Link"]

SHARED_CHANNEL = "the shared channel"
"""Medium of every device without a link of its own when ``Rates.shared_medium`` is set."""


@dataclass(frozen=True, slots=True)
class Link:
    """How one device reaches the others and the fog.

    Up is what the device sends, down is what it receives. A link with a medium of its own carries both at the
    same time; on a medium that several devices name, one of them sends or receives at a time.

    Attributes:
        uplink_bytes_per_s: Nominal rate of what the device sends, B/s, > 0; None: as the others.
        downlink_bytes_per_s: Nominal rate of what it receives, B/s, > 0; None: as the others.
        latency_s: Time of a small message from one end to the other, seconds, >= 0.
        goodput: Share of the nominal rates that is left for new bytes after losses and what is sent again
            because of them, 0 < goodput <= 1. Rates that were measured on the link contain it: leave 1.
        medium: Name of the shared medium; empty: a medium of its own.

    Raises:
        ConfigError: A value is out of its range or NaN.
    """

    uplink_bytes_per_s: float | None = None
    downlink_bytes_per_s: float | None = None
    latency_s: float = 0.0
    goodput: float = 1.0
    medium: str = ""

    def __post_init__(self) -> None:
        check_positive(
            "a link",
            uplink_bytes_per_s=self.uplink_bytes_per_s,
            downlink_bytes_per_s=self.downlink_bytes_per_s,
        )
        check_range("a link", latency_s=self.latency_s)
        check_share("a link", goodput=self.goodput)

    @property
    def up(self) -> float | None:
        """New bytes a second that the device can send, B/s."""
        return None if self.uplink_bytes_per_s is None else self.uplink_bytes_per_s * self.goodput

    @property
    def down(self) -> float | None:
        """New bytes a second that the device can receive, B/s."""
        return None if self.downlink_bytes_per_s is None else self.downlink_bytes_per_s * self.goodput

    def scaled(self, factor: float) -> Link:
        """The same link with both rates multiplied by ``factor`` > 0."""
        return replace(
            self,
            uplink_bytes_per_s=_times(self.uplink_bytes_per_s, factor),
            downlink_bytes_per_s=_times(self.downlink_bytes_per_s, factor),
        )


def _times(rate: float | None, factor: float) -> float | None:
    return None if rate is None else rate * factor
