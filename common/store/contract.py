"""The contracts of the stores; each has an SQLite and an in-memory implementation.

    from common.store import open_edge_store, open_fog_store, open_training_view

Every method that writes has committed to disk (fsync) when it returns, and has changed nothing
when it raises. Methods may be called from any thread: a lock serialises them. What a node tells of
itself (ids, positions, counts) is held in memory, so that asking for it waits for no other call:
``log_id``, ``pending_count``, ``usage`` and ``full`` at the fog; ``epoch``, ``log_id``, ``position``,
``positions``, ``inbox_position``, ``count``, ``waiting_packets``, ``original_count``, ``outbox_state``,
``usage`` and ``full`` at an edge. One process at a time may hold a store open for writing; any number
may open a :class:`TrainingView` meanwhile.

Errors common to all methods: ``StoreFullError`` (disk or quota full, nothing half-written, works
again once there is room), ``StoreCorruptError`` (a record does not match its checksum) and
``StoreError`` (anything else that storage refuses).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from common.frame import Box, Frame, FrameIdentity, in_validation_block
from common.store.corrections import Correction, CorrectionResult
from common.store.quarantine import QuarantineState
from common.store.records import (
    ApplyResult,
    CommitOutcome,
    Keyframe,
    LogPage,
    Original,
    OutboxState,
    PendingFrame,
    Record,
    RecordKind,
)
from common.store.retention import Retained, Usage

__all__ = ["Closable", "EdgeStore", "FogStore", "TrainingView"]


class Closable(Protocol):
    """Opened once, closed once; a context manager. Every implementation derives from it."""

    @abstractmethod
    def close(self) -> None:
        """Give up files and locks; further calls raise StoreError."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class TrainingView(Closable, Protocol):
    """What the trainer reads, in its own process, while the daemon writes.

    Positions here are of this store's own record sequence: at a fog the log position, at an edge
    the order in which records were applied. Both only grow.
    """

    @property
    def last_position(self) -> int:
        """Position of the newest record; 0 when there is none."""
        ...

    @property
    def damaged(self) -> tuple[str, ...]:
        """One sentence for each damaged item that this view has left out so far."""
        ...

    def packets_after(self, position: int, limit: int, max_bytes: int = 64 << 20) -> list[tuple[int, bytes]]:
        """Packets in order, training and validation alike: the packet says which.

        At an edge a packet whose keyframe is not there is left out; it comes once the keyframe has come.

        Args:
            position: Packets after this one.
            limit: At most this many.
            max_bytes: Stop before exceeding this many bytes, but give at least one packet.

        Returns:
            (position, packet bytes) of each.
        """
        ...

    def packet(self, digest: bytes) -> bytes | None:
        """The packet with this content hash, such as the keyframe of another; None if it is not there."""
        ...

    def packet_of(self, identity: FrameIdentity) -> bytes | None:
        """The packet of this frame; None if it is not there or cannot be used yet."""
        ...

    def corrections_after(self, position: int, limit: int) -> list[tuple[int, Correction]]:
        """Corrected labels in the order of their records, superseded ones too.

        Args:
            position: Records after this one.
            limit: At most this many.

        Returns:
            (position, correction) of each sound one.
        """
        ...

    def correction(self, identity: FrameIdentity) -> Correction | None:
        """The labels that hold for this frame now, if they were corrected."""
        ...

    def validation_originals(self, limit: int) -> list[Frame]:
        """The newest labelled validation frames whose original image is here, newest first.

        Boxes are in pixels of the original image, and corrected where a correction is here.
        """
        ...

    def latest_weights(self) -> tuple[Record, bytes] | None:
        """The newest weights record with its safetensors bytes, or None."""
        ...


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
        call drops the last that refers to it.
        """
        ...

    def training_view(self) -> TrainingView:
        """A view for the same process; another process uses ``open_training_view(path)``."""
        ...


class EdgeStore(Closable, Protocol):
    """An edge's outbox of recorded frames and its inbox of records."""

    @property
    def epoch(self) -> int:
        """Random unsigned 64-bit number drawn when the store was created."""
        ...

    # Outbox

    def recorded(self, source_key: str) -> int | None:
        """The number given to this source key, or None."""
        ...

    def record_frame(
        self,
        source_key: str,
        frame: Frame,
        mark: Callable[[int], bool] = in_validation_block,
        expires: float | None = None,
    ) -> int:
        """Give a frame the next number and keep it until the fog has it.

        Args:
            source_key: Names the frame at its source (a path, a video and index). A key is
                recorded once: the same key again returns its number and changes nothing.
            frame: Its identity is ignored.
            mark: Whether the frame of a number is validation; ``frame.validation`` also marks it.
            expires: When it is no longer worth uploading, seconds since 1970; see ``expire``.

        Returns:
            The frame number, from 0.

        Raises:
            StoreFullError: The outbox or the disk is full: wait until the fog has taken some.
        """
        ...

    def unacknowledged(self, limit: int, max_bytes: int, without: Collection[int] = ()) -> list[Frame]:
        """Frames the fog may not have, each with its identity: by priority, highest first, then by number.

        A frame whose stored image is damaged is refused here, with the reason, and left out.

        Args:
            limit: At most this many.
            max_bytes: Stop before exceeding this many image bytes, but give at least one frame.
            without: Not these numbers, which are on their way.
        """
        ...

    def expire(self, now: float, without: Collection[int] = ()) -> int:
        """Drop waiting frames that have outlived their time; their numbers are not used again.

        Args:
            now: Seconds since 1970.
            without: Not these numbers: the fog may be about to acknowledge them.

        Returns:
            How many went.
        """
        ...

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """The fog has these on disk: images go, except those of validation frames."""
        ...

    def refuse(self, number: int, reason: str) -> None:
        """The fog refuses this frame for good: it is kept as refused, its image goes."""
        ...

    def refused(self) -> list[tuple[int, str]]:
        """(number, reason) of every refused frame, by number."""
        ...

    def outbox_state(self) -> OutboxState:
        """How full the outbox is."""
        ...

    def correct(self, source_key: str, labelled: bool, boxes: Sequence[Box]) -> int | None:
        """Record new labels of a frame that was recorded before.

        Returns:
            Their revision; None when they are the ones that hold, or the frame is unknown or refused.

        Raises:
            StoreError: There is no revision left.
        """
        ...

    def waiting_corrections(self, limit: int, after: int = -1) -> list[Correction]:
        """The newest corrections that the fog may not have, of frames that it has, by frame number.

        Args:
            limit: At most this many.
            after: Only of frames of greater numbers.
        """
        ...

    def settle_correction(self, number: int, revision: int, reason: str | None = None) -> None:
        """The fog has this correction of frame ``number``, or refuses it for good with a reason."""
        ...

    # Inbox

    @property
    def log_id(self) -> int | None:
        """Id of the log that was followed last; None before the first."""
        ...

    @property
    def position(self) -> int:
        """Position of that log up to which this edge holds what it subscribed to."""
        ...

    @property
    def positions(self) -> Mapping[int, int]:
        """Position in each log that was ever followed, by the log's id: several fogs, several logs."""
        ...

    @property
    def inbox_position(self) -> int:
        """Position of the newest record in this edge's own sequence, as the trainer counts."""
        ...

    def follow(self, log_id: int) -> int:
        """Follow this log beside those before it; each keeps its position, a new one starts at 0.

        Returns:
            The position to pull after.
        """
        ...

    def apply(self, records: Sequence[Record], position: int, log_id: int | None = None) -> ApplyResult:
        """Store records and this edge's position in one transaction.

        A record is stored once by (device, epoch, number, kind); one that another log brought before, in
        whatever encoding, is a duplicate. A packet whose keyframe is not here waits:
        it is stored, but ``records`` and the trainer's view leave it out until the keyframe has come, as a
        record or by ``store_keyframe``; then it is the newest of this edge's own sequence.

        Args:
            records: Large ones (payload None) must have been adopted or held before.
            position: The fog's log position reached with them; may pass the last record's. A
                smaller one than the present is ignored.
            log_id: The log that they are of; None: the one followed last.

        Raises:
            StoreFullError: The disk, or by ``retention`` the inbox, is full.
            StoreError: A large payload is not here, or bytes do not match their digest.
        """
        ...

    def adopt_blob(self, digest: bytes, path: Path) -> None:
        """Take over a received file: it is verified and moved into the store.

        Raises:
            StoreError: The file's content does not have this hash.
        """
        ...

    def has_blob(self, digest: bytes) -> bool:
        """Whether a large payload or an original with this content hash is here."""
        ...

    @property
    def incoming_folder(self) -> Path:
        """Folder for files being received, on the same file system as the store."""
        ...

    def wanted_originals(self, limit: int, log_id: int | None = None) -> list[Original]:
        """Originals of labelled validation packets that are not here, newest first.

        Args:
            limit: At most this many.
            log_id: Only of packets that this log brought; None for all.
        """
        ...

    def store_original(self, digest: bytes, image: bytes) -> None:
        """Keep a fetched original.

        Raises:
            StoreError: The bytes do not have this hash.
        """
        ...

    def original_count(self) -> int:
        """Originals that were fetched and are held."""
        ...

    def wanted_keyframes(self, limit: int, log_id: int | None = None) -> list[Keyframe]:
        """Keyframes that stored packets wait for, those of the newest packets first; as above."""
        ...

    def store_keyframe(self, digest: bytes, packet: bytes) -> int:
        """Keep a fetched keyframe; the same one again changes nothing.

        Returns:
            How many packets no longer wait.

        Raises:
            StoreError: The bytes do not have this hash.
        """
        ...

    @property
    def waiting_packets(self) -> int:
        """How many stored packets wait for their keyframe."""
        ...

    def records(
        self, after: int, limit: int, kinds: Collection[RecordKind] | None = None
    ) -> list[tuple[int, Record]]:
        """Applied records as (inbox position, record), without payloads (None), in order; none that waits."""
        ...

    def count(self, kind: RecordKind) -> int:
        """How many records of a kind were applied, those among them that retention has dropped since."""
        ...

    @property
    def usage(self) -> Usage:
        """What the records in the inbox take, and the originals of own frames that are done."""
        ...

    @property
    def quarantined(self) -> QuarantineState:
        """How much was found damaged: it is out of the way of what is sound, logged once, and kept."""
        ...

    @property
    def full(self) -> str | None:
        """One sentence when retention refuses records at present, else None."""
        ...

    def retain(self, now: float) -> Retained:
        """Drop a batch of what retention no longer keeps, and the originals of own frames above their bound.

        The newest record stays, and so do keyframes that kept packets refer to. A dropped record stays
        known by its identity: it is not applied again. Originals and keyframes that were fetched for
        dropped records go with them.

        Args:
            now: Seconds since 1970.

        Returns:
            What went; call again at once when there is more.
        """
        ...

    def training_view(self) -> TrainingView:
        """A view for the same process; another process uses ``open_training_view(path)``."""
        ...
