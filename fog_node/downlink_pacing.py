"""How much each device is sent of records and content, and when: a pure state machine, by authenticated key.

Acknowledgements, heartbeats, plans and answers without content always pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.wire.allow_list import Device
from common.wire.schedule import Schedule
from common.wire.token_bucket import TokenBucket
from fog_node.settings import FogTrafficSettings

__all__ = ["DownlinkPacing"]

LEAST_PIECE_BYTES = 4096
"""Shortest piece of large content that is sent at a time, however little the device may be sent."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    rate: float | None
    windows: tuple[str, ...]


class _Peer:
    def __init__(self, bounds: _Bounds, burst_s: float) -> None:
        self.bounds = bounds
        self.bucket = TokenBucket(bounds.rate, 0.0 if bounds.rate is None else bounds.rate * burst_s)
        self.schedule = Schedule(bounds.windows)


class DownlinkPacing:
    """Bandwidth and hours of what the devices are sent; a new connection does not start a new budget.

    Times are seconds of a monotonic clock, the hours those of ``clock``.

    Args:
        settings: What holds for a device whose entry in the allow list says nothing else.
        overhead_bytes: Bytes of a record's message beside its payload.
        clock: The local time.
    """

    def __init__(
        self,
        settings: FogTrafficSettings,
        overhead_bytes: float,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._settings = settings
        self._overhead = overhead_bytes
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def listed(self, rights: Mapping[str, Device]) -> None:
        """The allow list was read: devices off it are forgotten, new bounds hold from now on."""
        before = self._peers
        self._peers = {}
        for key, device in rights.items():
            bounds = self._bounds(device)
            peer = before.get(key)
            kept = peer is not None and peer.bounds == bounds
            self._peers[key] = peer if peer is not None and kept else _Peer(bounds, self._settings.burst_s)

    def ready(self, key: str, now: float) -> bool:
        """Whether the device may be sent records or content now."""
        peer = self._peer(key)
        return peer.schedule.open(self._clock()) and peer.bucket.ready(now)

    def page(self, key: str, records: int, size: int, now: float) -> tuple[int, int]:
        """(records, payload bytes) to read of the log at once, of at most these; at least one record."""
        level = self._peer(key).bucket.level(now)
        if self._overhead:
            records = int(min(records, max(1.0, level / self._overhead)))
        return records, int(min(size, max(1.0, level)))

    def piece(self, key: str, most: int) -> int:
        """Bytes of large content to send at once, of at most ``most``."""
        rate = self._peer(key).bounds.rate
        if rate is None:
            return most
        return max(min(most, LEAST_PIECE_BYTES), min(most, int(rate * self._settings.burst_s)))

    def sent(self, key: str, records: int, size: int, now: float) -> None:
        """So many records with so many payload bytes go to the device, or a piece of content."""
        self._peer(key).bucket.take(size + records * self._overhead, now)

    def limit(self, key: str) -> float | None:
        """Bytes a second that the device is sent at most; None: no bound."""
        return self._peer(key).bounds.rate

    def status(self, key: str) -> dict[str, Any]:
        """The device's part of the status file."""
        peer = self._peer(key)
        return {
            "download_hours": peer.schedule.open(self._clock()),
            "downlink_limit_bytes_per_s": peer.bounds.rate,
        }

    def _bounds(self, device: Device) -> _Bounds:
        rate, windows = device.downlink_bytes_per_s, device.download_windows
        return _Bounds(
            self._settings.downlink_bytes_per_s if rate is None else rate,
            self._settings.download_windows if windows is None else windows,
        )

    def _peer(self, key: str) -> _Peer:
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(self._bounds(Device(key)), self._settings.burst_s)
        return peer
