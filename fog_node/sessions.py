"""What the fog remembers of each connected edge, keyed by its authenticated key."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from common.store.records import RecordKind
from common.wire.credits import SendWindow
from common.wire.messages import ANY_DEVICE, Fetch, Hello, Report

__all__ = ["AHEAD", "Session", "readable_devices", "wanted_kinds"]


AHEAD = (
    "this device holds position {position} of a log that ends at {last}: the fog's store was put back "
    "without fog-node restore, and new records would pass for those that the device has; stop the fog, run "
    "fog-node backup, move the store away, run fog-node restore, which begins another log, and start it"
)
"""What is told where a log is shorter than it was."""


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
        heard: Time of the last message from it, seconds.
        uploads, upload_bytes: Uploads that wait for their commit.
        fetches: Fetch requests under way, those that wait for the device's bandwidth or hours included.
        held_fetches: Those that wait.
        held: Whether records or content wait for the device's bandwidth or hours.
        corrections: Corrections of labels that wait for their commit.
        reading: Whether a page of the log is being read for it, or will be read again.
        read_again_at: When a page that could not be read is asked for again, seconds; None when none is.
        window: Its credit window.
        report: Its newest report.
        software: Its product version.
        features: What it understands beyond version 1 of the protocol.
    """

    key: str
    routing_id: bytes
    number: int
    epoch: int
    may_upload: bool
    devices: frozenset[str] | None
    kinds: frozenset[RecordKind]
    heard: float
    uploads: int = 0
    upload_bytes: int = 0
    fetches: int = 0
    held_fetches: deque[Fetch] = field(default_factory=deque)
    held: bool = False
    corrections: int = 0
    reading: bool = False
    read_again_at: float | None = None
    window: SendWindow = field(default_factory=SendWindow)
    report: Report | None = None
    software: str = ""
    features: frozenset[str] = frozenset()

    @property
    def in_flight(self) -> tuple[int, int]:
        """(records, payload bytes) on their way to the edge."""
        return self.window.records_in_flight, self.window.bytes_in_flight

    def status(self) -> dict[str, Any]:
        """The session's part of the status file."""
        credit = self.window.room()
        return {
            "connected": True,
            "held_position": self.window.held,
            "sent_position": self.window.through,
            "records_in_flight": self.window.records_in_flight,
            "credit_records": credit[0],
            "credit_bytes": credit[1],
            "software": self.software,
            # What its numbers lack in the log, by its own count.
            "frames_expired": None if self.report is None else self.report.frames_expired,
            "frames_refused": None if self.report is None else self.report.frames_refused,
        }


def wanted_kinds(hello: Hello) -> frozenset[RecordKind]:
    """Kinds of records that an edge receives: those it names and this fog knows, and gaps always."""
    known = {kind.value: kind for kind in RecordKind}
    named = {known[name] for name in (*hello.kinds, *hello.more_kinds) if name in known}
    return frozenset(named | {RecordKind.GAP})


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
