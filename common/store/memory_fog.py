"""The fog's store in memory: the same contract for tests and simulations; nothing outlives it."""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from common.errors import IdentityConflictError, StoreError, StoreFullError
from common.frame import Frame, FrameIdentity, content_digest
from common.store.contract import Closable, TrainingView
from common.store.corrections import record_numbers
from common.store.memory_corrections import MemoryFogCorrections
from common.store.memory_view import MemoryTrainingView
from common.store.quarantine import QuarantineState
from common.store.records import (
    CommitOutcome,
    LogPage,
    PendingFrame,
    Record,
    RecordKind,
)
from common.store.retention import Entry, Retained, Retention, Usage
from common.store.rows import (
    SOURCE_KEY,
    fingerprint,
    frame_facts,
    identity_of,
    json_text,
    keyframe_of,
    signed,
    source_facts,
)
from common.store.settings import FogStoreSettings

__all__ = ["MemoryFogStore"]

RETENTION = "the log no longer keeps these records; pull on after them"


@dataclasses.dataclass(slots=True)
class _Upload:
    frame: Frame
    mark: bytes
    position: int | None = None
    kept: bool = True

    def drop(self) -> int:
        """Forget the image; its bytes."""
        size = len(self.frame.image)
        self.kept, self.frame = False, dataclasses.replace(self.frame, image=b"")
        return size


class MemoryFogStore(MemoryFogCorrections, Closable):
    """:class:`common.store.contract.FogStore` without a disk.

    Args:
        settings: As of the durable one; bounds on the disk mean nothing here.
    """

    def __init__(self, settings: FogStoreSettings | None = None) -> None:
        self._settings = settings or FogStoreSettings()
        self._lock = threading.RLock()
        self._log_id = secrets.randbits(64)
        self._uploads: dict[FrameIdentity, _Upload] = {}
        self._log: dict[int, Record] = {}
        self._times: dict[int, float] = {}
        self.retention = Retention(self._settings.retention, "log")
        self._last = 0
        self._trimmed = 0
        self._closed = False

    def close(self) -> None:
        """Refuse further calls."""
        self._closed = True

    def _open(self) -> threading.RLock:
        if self._closed:
            raise StoreError("the store in memory is closed")
        return self._lock

    @property
    def log_id(self) -> int:
        """Random id of this log."""
        return self._log_id

    @property
    def last_position(self) -> int:
        """Newest position ever appended."""
        return self._last

    @property
    def oldest_position(self) -> int:
        """Oldest position still there."""
        return self._trimmed + 1

    @property
    def pending_count(self) -> int:
        """Committed frames that are not finished."""
        with self._open():
            return sum(upload.position is None for upload in self._uploads.values())

    def commit_frames(self, frames: Sequence[Frame]) -> list[CommitOutcome]:
        """Commit uploads, all or none."""
        with self._open():
            for frame in frames:
                identity = identity_of(frame)
                signed(identity.epoch)
                signed(identity.number)
            before = dict(self._uploads)
            outcomes = [self._commit(frame) for frame in frames]
            if CommitOutcome.STORED in outcomes:
                refusal = self.retention.refusal(self.usage, self.pending_count)
                if refusal is not None:
                    self._uploads = before
                    raise StoreFullError(refusal)
            return outcomes

    def _commit(self, frame: Frame) -> CommitOutcome:
        mark = fingerprint(frame)
        known = self._uploads.get(identity_of(frame))
        if known is not None:
            return CommitOutcome.DUPLICATE if known.mark == mark else CommitOutcome.CONFLICT
        self._uploads[identity_of(frame)] = _Upload(frame, mark)
        return CommitOutcome.STORED

    def pending_frames(self, limit: int, without: Collection[int] = ()) -> list[PendingFrame]:
        """Committed frames that are not finished, the most urgent first."""
        with self._open():
            waiting = [
                PendingFrame(arrival, identity, upload.frame)
                for arrival, (identity, upload) in enumerate(self._uploads.items(), start=1)
                if upload.position is None and arrival not in without
            ]
        return sorted(waiting, key=lambda item: -item.frame.priority if item.frame else 0)[:limit]

    def finish(
        self, identity: FrameIdentity, kind: RecordKind, meta: Mapping[str, Any], payload: bytes
    ) -> int:
        """Append a frame's record and mark the frame done."""
        if kind not in (RecordKind.PACKET, RecordKind.TOMBSTONE):
            raise StoreError(f"a frame is finished by a packet or a tombstone, not by {kind.value}")
        with self._open():
            upload = self._uploads.get(identity)
            if upload is None:
                raise StoreError(f"{identity} was never committed here; commit it first")
            if upload.position is not None:
                return upload.position
            frame = upload.frame
            held_out = frame.validation and frame.labelled
            if held_out and kind is RecordKind.PACKET:
                meta = {
                    **meta,
                    SOURCE_KEY: source_facts(frame_facts(frame), frame.digest, len(frame.image)),
                }
            upload.position = self._append(kind, identity, meta, payload)
            if kind is RecordKind.PACKET:
                self._carry_on(identity, self._trimmed)
            if not (held_out or kind is RecordKind.TOMBSTONE or self._settings.keep_training_originals):
                upload.drop()
            return upload.position

    def append(
        self,
        kind: RecordKind,
        device: str,
        epoch: int,
        number: int,
        meta: Mapping[str, Any],
        payload: bytes,
    ) -> int:
        """Append weights or a shared part."""
        identity = FrameIdentity(device, epoch, number)
        with self._open():
            for record in self._log.values():
                if record.kind is kind and record.identity == identity:
                    if record.digest == content_digest(payload):
                        return record.position
                    raise IdentityConflictError(
                        f"{kind.value} {number} of {device} stands in the log with other content; "
                        f"give the new one another number"
                    )
            return self._append(kind, identity, meta, payload)

    def _frame(self, identity: FrameIdentity) -> Frame | None:
        upload = self._uploads.get(identity)
        return None if upload is None else upload.frame

    def _append(
        self, kind: RecordKind, identity: FrameIdentity, meta: Mapping[str, Any], payload: bytes
    ) -> int:
        signed(identity.epoch)
        signed(identity.number)
        facts = json.loads(json_text(meta))
        self._last += 1
        self._times[self._last] = time.time()
        self._log[self._last] = Record(
            self._last,
            kind,
            identity.device,
            identity.epoch,
            identity.number,
            content_digest(payload),
            facts,
            len(payload),
            payload,
        )
        return self._last

    def _labels_of(self, identity: FrameIdentity) -> int | None:
        """Position of the newest correction of a frame."""
        first, last = record_numbers(identity.number)
        found = [
            (record.number, place)
            for place, record in self._log.items()
            if record.kind is RecordKind.LABELS
            and (record.device, record.epoch) == (identity.device, identity.epoch)
            and first <= record.number <= last
        ]
        return max(found)[1] if found else None

    def _carry_on(self, identity: FrameIdentity, through: int) -> None:
        """Move the newest correction of a frame to the log's end, if it is within positions to be dropped."""
        place = self._labels_of(identity)
        if place is None or place > through:
            return
        record = self._log.pop(place)
        del self._times[place]
        self._last += 1
        self._times[self._last] = time.time()
        self._log[self._last] = dataclasses.replace(record, position=self._last)

    def read(
        self,
        after: int,
        limit: int,
        max_bytes: int,
        devices: Collection[str] | None = None,
        kinds: Collection[RecordKind] | None = None,
    ) -> LogPage:
        """Records after a position."""
        records: list[Record] = []
        total = 0
        with self._open():
            through = self._last
            if after < self._trimmed:
                records.append(Record.gap(self._log_id, after + 1, self._trimmed, RETENTION))
            for position, record in self._log.items():
                if (
                    position <= max(after, self._trimmed)
                    or (devices is not None and record.device not in devices)
                    or (kinds is not None and record.kind not in kinds)
                ):
                    continue
                size = 0 if record.large else record.size
                if len(records) >= limit or (records and total + size > max_bytes):
                    through = position - 1
                    break
                total += size
                records.append(dataclasses.replace(record, payload=None) if record.large else record)
            return LogPage(tuple(records), max(through, after), through < self._last)

    def has_record(self, kind: RecordKind, identity: FrameIdentity) -> bool:
        """Whether the log holds this record."""
        with self._open():
            return any(r.kind is kind and r.identity == identity for r in self._log.values())

    @property
    def usage(self) -> Usage:
        """What the log and the originals take."""
        with self._open():
            originals = [u.frame.image for u in self._uploads.values() if u.position is not None]
            sizes = [record.size for record in self._log.values()]
        return Usage(len(sizes), sum(sizes), sum(len(image) for image in originals))

    @property
    def quarantined(self) -> QuarantineState:
        """Memory is not checked."""
        return QuarantineState()

    @property
    def full(self) -> str | None:
        """Why uploads are refused by retention."""
        return self.retention.refusal(self.usage, self.pending_count + 1)

    def retain(self, now: float) -> Retained:
        """Drop a batch of what retention no longer keeps."""
        limit = self._settings.retention.batch_records
        with self._open():
            before = self.usage
            places = [place for place in self._log if place > self._trimmed][:limit]
            entries = [Entry(place, self._times[place], self._log[place].size) for place in places]
            behind = [record.size for place, record in self._log.items() if place <= self._trimmed]
            through = self.retention.through(entries, before.plus(-len(behind), -sum(behind)), now)
            records = 0 if through is None else self.trim(through)
            trimmed, originals = self.usage, 0
            excess = self.retention.excess_originals(trimmed)
            for upload in self._uploads.values():
                if excess > 0 and originals < limit and upload.position is not None and upload.kept:
                    excess -= upload.drop()
                    originals += 1
            more = originals == limit or (records > 0 and through == places[-1])
            return Retained(records, before.record_bytes - trimmed.record_bytes, originals, more)

    def trim(self, through: int) -> int:
        """Drop the records up to and including a position."""
        with self._open():
            through = min(through, self._last)
            if through <= self._trimmed:
                return 0
            kept = [keyframe_of(record.meta) for place, record in self._log.items() if place > through]
            keyframes = {keyframe.digest for keyframe in kept if keyframe is not None}
            later = [i for i, upload in self._uploads.items() if (upload.position or 0) > through]
            for identity in later:
                self._carry_on(identity, through)
            waiting = [i for i, upload in self._uploads.items() if upload.position is None]
            awaited = {self._labels_of(identity) for identity in waiting}
            gone = [
                place
                for place, record in self._log.items()
                if place <= through and record.digest not in keyframes and place not in awaited
            ]
            for position in gone:
                del self._log[position], self._times[position]
            for upload in self._uploads.values():
                if upload.position is not None and upload.position <= through:
                    upload.drop()
            self._trimmed = through
            return len(gone)

    def blob_size(self, digest: bytes) -> int | None:
        """Bytes of the payload or original with this hash."""
        content = self._content(digest)
        return None if content is None else len(content)

    def blob(self, digest: bytes, offset: int, length: int) -> bytes:
        """Part of a payload or original."""
        content = self._content(digest)
        if content is None:
            raise StoreError(f"content {digest.hex()} is not here; pull the log again")
        return content[offset : offset + length]

    def _content(self, digest: bytes) -> bytes | None:
        with self._open():
            for upload in self._uploads.values():
                if upload.kept and upload.frame.digest == digest:
                    return upload.frame.image
            for record in self._log.values():
                if record.digest == digest:
                    return record.payload
        return None

    def blob_sources(self, digest: bytes) -> frozenset[str]:
        """Devices whose records or originals have this content."""
        with self._open():
            uploads = {i.device for i, u in self._uploads.items() if u.kept and u.frame.digest == digest}
            return frozenset(uploads | {r.device for r in self._log.values() if r.digest == digest})

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return MemoryTrainingView(self._records, self._originals)

    def _records(self) -> list[tuple[int, Record]]:
        with self._open():
            return list(self._log.items())

    def _originals(self) -> list[Frame]:
        with self._open():
            uploads = reversed(self._uploads.values())
            return [u.frame for u in uploads if u.frame.validation and u.frame.labelled and u.kept]
