"""What a store holds and hands out: log records, pages of them, uploads and their outcomes."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.frame import Frame, FrameIdentity, content_digest

__all__ = [
    "INLINE_LIMIT_BYTES",
    "NO_LOG",
    "ApplyResult",
    "CommitOutcome",
    "Keyframe",
    "LogPage",
    "Original",
    "OutboxState",
    "PendingFrame",
    "Record",
    "RecordKind",
]

INLINE_LIMIT_BYTES = 100_000
"""Payloads above this many bytes are files named by content hash and travel in chunks."""

NO_LOG = 0
"""Id of the log that records belong to which an edge applies before it follows any."""


class RecordKind(enum.StrEnum):
    """What a log record carries."""

    PACKET = "packet"
    """An encoded frame."""
    TOMBSTONE = "tombstone"
    """A frame that could not be encoded; ``meta["reason"]`` says why in one sentence."""
    SHARED_PART = "shared_part"
    """A part that several packets name by content hash."""
    WEIGHTS = "weights"
    """A detector's safetensors."""
    LABELS = "labels"
    """Corrected labels of a frame, see :mod:`common.store.corrections`; its number is not the frame's."""
    GAP = "gap"
    """Records that are no longer there; ``meta`` holds first, last, count and reason."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the fog's log.

    Attributes:
        position: Place in the log, from 1, signed 64 bit; of a gap: its last position.
        kind: What the payload is.
        device: Key of the source device (the fog's own for weights); empty for a gap.
        epoch: The source's epoch, unsigned 64 bit; of a gap: the log's id.
        number: Frame number, or version of the weights, unsigned 64 bit; of a gap: its position.
        digest: Content hash of the payload, 32 bytes.
        meta: Small facts beside the payload; JSON values only. The key ``source`` is the store's
            own: on the packet of a validation frame it describes the original (digest in hex,
            size in bytes, name, width, height, labelled, validation, boxes). The key ``keyframe``
            names the packet that this one refers to (digest in hex, size in bytes).
        size: Bytes of the payload.
        payload: The bytes, or None for a payload above ``INLINE_LIMIT_BYTES``: fetch it by digest.
    """

    position: int
    kind: RecordKind
    device: str
    epoch: int
    number: int
    digest: bytes
    meta: Mapping[str, Any]
    size: int
    payload: bytes | None = field(repr=False)

    @property
    def large(self) -> bool:
        """Whether the payload is a file of its own, fetched in chunks by its digest."""
        return self.size > INLINE_LIMIT_BYTES

    @property
    def identity(self) -> FrameIdentity:
        """Who made it and which one it is."""
        return FrameIdentity(self.device, self.epoch, self.number)

    @staticmethod
    def gap(log_id: int, first: int, last: int, reason: str) -> Record:
        """The record that stands for positions ``first`` to ``last`` (inclusive) of log ``log_id``.

        Args:
            log_id: The log's random id.
            first: First missing position.
            last: Last missing position.
            reason: One sentence: behind retention, or damaged.
        """
        meta = {"first": first, "last": last, "count": last - first + 1, "reason": reason}
        return Record(last, RecordKind.GAP, "", log_id, last, content_digest(b""), meta, 0, b"")


@dataclass(frozen=True, slots=True)
class LogPage:
    """Part of a log, as :meth:`common.store.contract.FogStore.read` gives it.

    Attributes:
        records: In order of position; damaged and trimmed ones are replaced by gap records.
        through: Position up to which the log was looked at: read on after it. It passes over
            records that the filter left out.
        more: Whether the log holds positions after ``through``.
        damaged: One sentence for each record that was found damaged now and became a gap.
    """

    records: tuple[Record, ...]
    through: int
    more: bool
    damaged: tuple[str, ...] = ()


class CommitOutcome(enum.StrEnum):
    """What became of one uploaded frame."""

    STORED = "stored"
    """On disk now: acknowledge it."""
    DUPLICATE = "duplicate"
    """On disk before, with the same content: acknowledge it again."""
    CONFLICT = "conflict"
    """The identity was used for other content: refuse it for good."""


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A committed frame that waits to be encoded.

    Attributes:
        arrival: Order of commit at this fog, from 1.
        identity: Who recorded it.
        frame: The frame, or None when its stored image is damaged: finish it with a tombstone.
        damage: One sentence when damaged, else None.
    """

    arrival: int
    identity: FrameIdentity
    frame: Frame | None
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """A validation frame's original image that an edge lacks and may fetch.

    Attributes:
        digest: Its content hash, 32 bytes.
        size: Bytes of the image.
    """

    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The packet that another one refers to.

    Attributes:
        digest: Content hash of its payload, 32 bytes.
        size: Bytes of its payload.
    """

    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What :meth:`common.store.contract.EdgeStore.apply` did.

    Attributes:
        applied: Records stored now.
        duplicates: Records that were there before, with the same content.
        conflicts: Identities that were there with other content; the stored ones stay.
        waiting: Packets stored now whose keyframe is not here.
    """

    applied: int
    duplicates: int
    conflicts: tuple[FrameIdentity, ...] = ()
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How full an edge's outbox is.

    Attributes:
        recorded: Frames numbered so far.
        waiting: Frames not yet acknowledged or refused.
        waiting_bytes: Their image bytes.
        acknowledged: Frames the fog has on disk.
        refused: Frames the fog refused for good.
        expired: Frames dropped because they had waited longer than their time to live.
    """

    recorded: int
    waiting: int
    waiting_bytes: int
    acknowledged: int
    refused: int
    expired: int = 0
