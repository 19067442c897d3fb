"""What a fog node has done since it started, counted where it happens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Histogram

from common.frame import Frame, FrameIdentity
from common.node.waiting import Waiting
from common.store.records import CommitOutcome, RecordKind
from common.wire.messages import Accepted, Corrected, Error, ErrorCode, Message, RecordMessage, Refused

__all__ = ["FogCounters"]

SECONDS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
"""Bounds of the encoding time's classes, seconds a frame: profiles differ by a factor of 1,000."""

DECIBELS = (20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 45, 50)
"""Bounds of the classes of PSNR, dB."""

BYTES = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000)
"""Bounds of the classes of packets, bytes."""


@dataclass(slots=True)
class FogCounters:
    """Counts of this process; what earlier ones did is in the log.

    Attributes:
        uploads: Committed uploads by outcome: stored, duplicate (sent again), conflict.
        acknowledged: Frames acknowledged, once or again.
        refused: Refused uploads by code.
        errors: Errors told to edges by code: refused messages, and content that is not here.
        corrections: Answers to corrected labels by code; ``ok`` for those on disk.
        received, sent: Messages by type.
        records_sent: Records by kind.
        encoded: Packets and tombstones written, by kind.
        jpeg_bytes, packet_bytes: Of the packets among them, as they came and as they are.
        on_target: Packets whose background and every box reached the target.
        waiting: Frames that wait to be encoded.
        registry: Holds the histograms.
    """

    waiting: Waiting[FrameIdentity]
    uploads: Counter[str] = field(default_factory=lambda: _zero(CommitOutcome))
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=lambda: _zero(ErrorCode))
    errors: Counter[str] = field(default_factory=lambda: _zero(ErrorCode))
    corrections: Counter[str] = field(default_factory=lambda: _zero(("ok", *ErrorCode)))
    received: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    records_sent: Counter[str] = field(default_factory=lambda: _zero(RecordKind))
    encoded: Counter[str] = field(default_factory=lambda: _zero(("packet", "tombstone")))
    jpeg_bytes: int = 0
    packet_bytes: int = 0
    on_target: int = 0
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _seconds: Histogram = field(init=False)
    _background: Histogram = field(init=False)
    _object: Histogram = field(init=False)
    _bytes: Histogram = field(init=False)

    def __post_init__(self) -> None:
        def histogram(name: str, text: str, bounds: Sequence[float]) -> Histogram:
            return Histogram(f"residual_inr_fog_{name}", text, buckets=bounds, registry=self.registry)

        self._seconds = histogram("encode_seconds", "Encoding time of a frame.", SECONDS)
        self._background = histogram("background_psnr_db", "PSNR of a packet outside every box.", DECIBELS)
        self._object = histogram("object_psnr_db", "PSNR of a box of a packet.", DECIBELS)
        self._bytes = histogram("packet_bytes", "Bytes of a packet.", BYTES)

    def was_received(self, message: Message) -> None:
        """A message of an authenticated edge was understood."""
        self.received[type(message).__name__] += 1

    def was_sent(self, message: Message) -> None:
        """A message was given to the socket."""
        self.sent[type(message).__name__] += 1
        match message:
            case Accepted(_, numbers):
                self.acknowledged += len(numbers)
            case Refused():
                self.refused[str(message.code)] += 1
            case Corrected():
                self.corrections[str(message.code) or "ok"] += 1
            case Error():
                self.errors[str(message.code)] += 1
            case RecordMessage():
                self.records_sent[str(message.kind)] += 1
            case _:
                pass

    def committed(self, frames: Sequence[Frame], outcomes: Sequence[CommitOutcome]) -> None:
        """Uploads were committed, each with its outcome."""
        now = time.monotonic()
        for frame, outcome in zip(frames, outcomes, strict=True):
            self.uploads[str(outcome)] += 1
            if outcome is CommitOutcome.STORED and frame.identity is not None:
                self.waiting.add(frame.identity, now)

    def finished(self, identity: FrameIdentity, kind: RecordKind, meta: Mapping[str, Any], size: int) -> None:
        """The packet or tombstone of a frame was written."""
        self.waiting.remove(identity)
        self.encoded[str(kind)] += 1
        if kind is not RecordKind.PACKET:
            return
        self.jpeg_bytes += int(meta.get("jpeg_bytes", 0))
        self.packet_bytes += size
        self.on_target += bool(meta["reached_target"])
        self._seconds.observe(meta["encode_seconds"])
        self._bytes.observe(size)
        if meta["background_psnr_db"] is not None:
            self._background.observe(meta["background_psnr_db"])
        for value in meta["object_psnr_db"]:
            self._object.observe(value)

    def status(self) -> dict[str, Any]:
        """The part of the status file."""
        return {
            "uploads": dict(self.uploads),
            "acknowledged": self.acknowledged,
            "refused": dict(self.refused),
            "errors": dict(self.errors),
            "corrections": dict(self.corrections),
            "messages_received": dict(self.received),
            "messages_sent": dict(self.sent),
            "records_sent": dict(self.records_sent),
            "encoded": dict(self.encoded),
            "jpeg_bytes": self.jpeg_bytes,
            "packet_bytes": self.packet_bytes,
            "on_target": self.on_target,
        }


def _zero(names: Iterable[str]) -> Counter[str]:
    """Counts that are known from the beginning: a rate can be taken of the first that happens."""
    return Counter({str(name): 0 for name in names})
