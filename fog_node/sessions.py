"""What the fog remembers of each connected edge, keyed by its authenticated key."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from common.store.records import LogPage, RecordKind
from common.wire.messages import ANY_DEVICE, Pull, Report

__all__ = ["PullWindow", "Session", "readable_devices"]


@dataclass(slots=True)
class PullWindow:
    """The credit window of one subscriber: what was sent beyond the position that it holds.

    Attributes:
        records, payload_bytes: Width of the window as the edge stated it, cut to the fog's own bounds.
        held: Position up to which the edge holds everything.
        sent: Position up to which everything was sent or left out by the filter.
    """

    records: int = 0
    payload_bytes: int = 0
    held: int = 0
    sent: int = 0
    opened: bool = False
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    _bytes: int = 0

    def pull(self, message: Pull, *, most_records: int, most_bytes: int) -> None:
        """Take the window that an edge states."""
        if not self.opened:
            self.opened = True
            self.sent = message.position
        self.records = min(message.records, most_records)
        self.payload_bytes = min(message.payload_bytes, most_bytes)
        self.held = max(self.held, message.position)
        while self._in_flight and self._in_flight[0][0] <= self.held:
            self._bytes -= self._in_flight.popleft()[1]

    def room(self) -> tuple[int, int]:
        """(records, payload bytes) that may be sent now; (0, 0) when the window is closed."""
        records = self.records - len(self._in_flight)
        payload = self.payload_bytes - self._bytes
        if records <= 0 or (payload <= 0 and self._in_flight):
            return 0, 0
        return records, max(payload, 1)

    def took(self, page: LogPage) -> None:
        """The records of a page are being sent."""
        for record in page.records:
            size = len(record.payload or b"")
            self._in_flight.append((record.position, size))
            self._bytes += size
        self.sent = max(self.sent, page.through)


@dataclass(slots=True)
class Session:
    """One connected edge.

    Attributes:
        key: Its authenticated public key.
        routing_id: Where the ROUTER socket sends; a new connection has a new one.
        number: Random number of this session.
        epoch: Epoch of its uploads.
        may_upload: Its right to upload.
        devices: Source devices that it receives; None for all.
        kinds: Kinds of records that it receives.
        heard, spoke: Times of the last message from and to it, seconds.
        uploads, upload_bytes: Uploads that wait for their commit.
        fetches: Fetch requests under way.
        reading: Whether a page of the log is being read for it.
        window: Its credit window.
        report: Its newest report.
        software: Its product version.
    """

    key: str
    routing_id: bytes
    number: int
    epoch: int
    may_upload: bool
    devices: frozenset[str] | None
    kinds: frozenset[RecordKind]
    heard: float
    spoke: float
    uploads: int = 0
    upload_bytes: int = 0
    fetches: int = 0
    reading: bool = False
    window: PullWindow = field(default_factory=PullWindow)
    report: Report | None = None
    software: str = ""


def readable_devices(
    wanted: Collection[str], allowed: Collection[str], fog_key: str
) -> frozenset[str] | None:
    """Source devices whose records an edge receives: its subscription within its rights.

    Args:
        wanted: Subscription; may hold ``"*"``.
        allowed: Devices that it may subscribe to; may hold ``"*"``.
        fog_key: Device of the fog's own records (weights, shared parts): everyone may read those.

    Returns:
        The devices, or None for all.
    """
    if ANY_DEVICE in wanted and ANY_DEVICE in allowed:
        return None
    if ANY_DEVICE in wanted:
        chosen = frozenset(allowed)
    elif ANY_DEVICE in allowed:
        chosen = frozenset(wanted)
    else:
        chosen = frozenset(wanted) & frozenset(allowed)
    return chosen | {fog_key}
