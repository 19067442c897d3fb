"""The contract of a fog's store; see :mod:`common.store.contract` for what holds for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from common.frame import Box, Frame, FrameIdentity
from common.store.corrections import CorrectionResult
from common.store.quarantine import QuarantineState
from common.store.records import (
    CommitOutcome,
    LogPage,
    PendingFrame,
    RecordKind,
)
from common.store.retention import Retained, Usage
from common.store.training_view import Closable, TrainingView

__all__ = ["FogStore"]


class FogStore(Closable, Protocol):
    """Uploads waiting to be encoded, and the append-only log."""

    @property
    def log_id(self) -> int:
        """Random unsigned 64-bit id drawn when the store was created."""
        ...

    @property
    def last_position(self) -> int:
        """Position of the newest record ever appended; 0 when there is none."""
        ...

    @property
    def oldest_position(self) -> int:
        """Position of the oldest record still there; last_position + 1 when there is none."""
        ...

    @property
    def pending_count(self) -> int:
        """Committed frames that are not finished."""
        ...

    def commit_frames(self, frames: Sequence[Frame]) -> list[CommitOutcome]:
        """Commit uploads in one transaction (group commit).

        Equal content means the same image, size, labels, mark and name.

        Args:
            frames: Each with its identity.

        Returns:
            One outcome a frame. Acknowledge STORED and DUPLICATE, refuse CONFLICT.

        Raises:
            StoreFullError: None of them was stored: the disk, or by ``retention`` the log, is full.
            StoreError: A frame has no identity.
        """
        ...

    def pending_frames(self, limit: int, without: Collection[int] = ()) -> list[PendingFrame]:
        """Committed frames that are not finished: those of highest priority first, of these the oldest.

        Args:
            limit: At most this many.
            without: Not those of these ``arrival``s, which the caller has in work.
        """
        ...

    def finish(
        self, identity: FrameIdentity, kind: RecordKind, meta: Mapping[str, Any], payload: bytes
    ) -> int:
        """Append a frame's record and mark the frame done, in one transaction.

        A frame that is done already keeps its first record.

        Args:
            identity: A committed frame.
            kind: PACKET or TOMBSTONE.
            meta: JSON values; the key ``source`` is added here for a validation frame. A packet that
                refers to another names it under ``keyframe`` (:func:`common.store.rows.keyframe_facts`).
            payload: The packet; empty for a tombstone.

        Returns:
            The record's position.

        Raises:
            StoreError: The frame was never committed, or the kind is another one.
        """
        ...

    def append(
        self,
        kind: RecordKind,
        device: str,
        epoch: int,
        number: int,
        meta: Mapping[str, Any],
        payload: bytes,
    ) -> int:
        """Append weights or a shared part; the same one again returns its position.

        Returns:
            The record's position.

        Raises:
            IdentityConflictError: The (device, epoch, number, kind) was used for other content.
        """
        ...

    def correct(
        self, identity: FrameIdentity, revision: int, labelled: bool, boxes: Sequence[Box]
    ) -> CorrectionResult:
        """Append corrected labels of a committed frame, see :class:`common.store.corrections.Correction`.

        The frame's own records stay as they are; of several corrections the greatest revision holds.

        Args:
            identity: The frame.
            revision: 1 to ``LAST_REVISION``.
            labelled: Whether the boxes are known.
            boxes: In pixels of the recorded image.

        Returns:
            Acknowledge STORED and KNOWN, refuse CONFLICT; UNKNOWN_FRAME may mend.

        Raises:
            StoreError: The revision or the frame number is out of range.
        """
        ...

    def read(
        self,
        after: int,
        limit: int,
        max_bytes: int,
        devices: Collection[str] | None = None,
        kinds: Collection[RecordKind] | None = None,
    ) -> LogPage:
        """Records after a position. A large payload counts no bytes: it is None in the record.

        A reader behind the oldest position gets one gap record first; a damaged record goes into
        quarantine, is replaced by a gap record and never hides the others. Filters do not apply to gaps.

        Args:
            after: Last position the reader holds; 0 for the beginning.
            limit: At most this many records.
            max_bytes: Stop before exceeding this many payload bytes, but give at least one record.
            devices: Only records of these source devices; None for all.
            kinds: Only these kinds; None for all.
        """
        ...

    def has_record(self, kind: RecordKind, identity: FrameIdentity) -> bool:
        """Whether the log holds this record."""
        ...

    def blob_size(self, digest: bytes) -> int | None:
        """Bytes of the payload or original with this content hash, or None if it is not here."""
        ...

    def blob(self, digest: bytes, offset: int, length: int) -> bytes:
        """Part of a payload or original; shorter at its end.

        Raises:
            StoreError: No such content here.
        """
        ...

    def blob_sources(self, digest: bytes) -> frozenset[str]:
        """Devices whose records or originals have this content: who may read one may fetch it."""
        ...

    @property
    def usage(self) -> Usage:
        """What the log and the kept originals take."""
        ...

    @property
    def quarantined(self) -> QuarantineState:
        """How much was found damaged: it is out of the way of what is sound, logged once, and kept."""
        ...

    @property
    def full(self) -> str | None:
        """One sentence when retention refuses uploads at present, else None."""
        ...

    def retain(self, now: float) -> Retained:
        """Drop a batch of what retention no longer keeps; frames that are not finished stay.

        Args:
            now: Seconds since 1970.

        Returns:
            What went; call again at once when there is more.
        """
        ...

    def trim(self, through: int) -> int:
        """Drop the records up to and including a position, and their originals; how many records went.

        A packet to which a kept one refers as its keyframe stays, to be had by its hash only, until a later
        call drops the last that refers to it. The newest labels of a frame are never dropped before its
        packet: they move to the log's end, under the same number, or wait for a packet still to come.
        """
        ...

    def training_view(self) -> TrainingView:
        """A view for the same process; another process uses ``open_training_view(path)``."""
        ...
