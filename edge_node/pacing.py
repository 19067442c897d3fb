"""How much this device sends and receives, and when: pure state machines that are told the time.

Frames, and what is fetched and pulled, keep to the device's bandwidth and its hours; heartbeats, reports,
corrected labels and acknowledgements always pass.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from common.wire.messages import Fetch, Message, Pull, Welcome
from common.wire.schedule import Schedule
from common.wire.token_bucket import TokenBucket
from edge_node.settings import TrafficSettings

__all__ = ["DownlinkGate", "Pacing"]

LEAST_CHUNK_BYTES = 4096
"""Shortest piece of large content that is fetched at a time, however slow the link."""

FOG_BURST_S = 1.0
"""Seconds of the fog's rates that are sent at once; the fog takes a burst of two."""


class Pacing:
    """Bandwidth and hours of one device; one for all its fogs.

    Times are seconds of a monotonic clock, the hours those of ``clock``.

    Args:
        settings: The bounds.
        clock: The local time.
    """

    def __init__(self, settings: TrafficSettings, clock: Callable[[], datetime] = datetime.now) -> None:
        self._settings = settings
        self._clock = clock
        self._schedule = Schedule(settings.upload_windows)
        self._up = _bucket(settings.uplink_bytes_per_s, settings.burst_s)
        self._down = _bucket(settings.downlink_bytes_per_s, settings.burst_s)
        self._fog_frames = _bucket(None, FOG_BURST_S)
        self._fog_bytes = _bucket(None, FOG_BURST_S)

    def welcomed(self, welcome: Welcome) -> None:
        """The device's own fog has told how much it takes."""
        self._fog_frames = _bucket(welcome.max_uploads_per_s, FOG_BURST_S)
        self._fog_bytes = _bucket(welcome.max_upload_bytes_per_s, FOG_BURST_S)

    @property
    def upload_hours(self) -> bool:
        """Whether this is a time to upload frames."""
        return self._schedule.open(self._clock())

    def uploads(self, now: float) -> tuple[int, int] | None:
        """Frames and their bytes that may be sent now; one frame of any size may be. None: none may."""
        if not self.upload_hours or not all(
            bucket.ready(now) for bucket in (self._up, self._fog_frames, self._fog_bytes)
        ):
            return None
        size = min(self._up.level(now), self._fog_bytes.level(now))
        frames = self._fog_frames.level(now)
        return max(1, int(min(frames, 1e9))), max(1, int(min(size, 1e15)))

    def sent(self, size: int, now: float) -> None:
        """A frame of ``size`` image bytes was sent."""
        self._up.take(size, now)
        self._fog_frames.take(1, now)
        self._fog_bytes.take(size, now)

    def may_ask(self, now: float) -> bool:
        """Whether more records or content may be asked for."""
        return self._down.ready(now)

    def received(self, size: int, now: float) -> None:
        """A message of ``size`` bytes has come."""
        self._down.take(size, now)

    def down_window(self, most: int) -> int:
        """Bytes to ask for at once, of at most ``most``."""
        rate = self._settings.downlink_bytes_per_s
        if rate is None:
            return most
        return max(min(most, LEAST_CHUNK_BYTES), min(most, int(rate * self._settings.burst_s)))

    def status(self) -> dict[str, Any]:
        """The part of the status file."""
        return {
            "upload_hours": self.upload_hours,
            "uplink_limit_bytes_per_s": self._settings.uplink_bytes_per_s,
            "downlink_limit_bytes_per_s": self._settings.downlink_bytes_per_s,
        }


class DownlinkGate:
    """Holds back what asks a fog for data until the device's bandwidth allows it; the rest passes.

    Args:
        pacing: The device's.
        send: Sends to the fog.
    """

    def __init__(self, pacing: Pacing, send: Callable[[Message], None]) -> None:
        self._pacing = pacing
        self._send = send
        # A Pull states the whole window: of several the newest counts. One content is fetched at a time.
        self._held: dict[type[Message], Message] = {}

    def send(self, message: Message, now: float) -> None:
        """Send now, or as soon as the bandwidth allows."""
        if not isinstance(message, Pull | Fetch) or self._pacing.may_ask(now):
            self._held.pop(type(message), None)
            self._send(message)
        else:
            self._held[type(message)] = message

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._held and self._pacing.may_ask(now):
            held, self._held = list(self._held.values()), {}
            for message in held:
                self._send(message)

    def clear(self) -> None:
        """The session has ended: nothing is to be asked for."""
        self._held.clear()


def _bucket(rate: float | None, burst_s: float) -> TokenBucket:
    return TokenBucket(rate, 0.0 if rate is None else rate * burst_s)
