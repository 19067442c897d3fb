"""The contract of an edge's store; see :mod:`common.store.contract` for what holds for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from common.frame import Box, Frame, in_validation_block
from common.store.corrections import Correction
from common.store.quarantine import QuarantineState
from common.store.records import (
    ApplyResult,
    Keyframe,
    Original,
    OutboxState,
    Record,
    RecordKind,
)
from common.store.retention import Retained, Usage
from common.store.training_view import Closable, TrainingView

__all__ = ["EdgeStore"]


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
