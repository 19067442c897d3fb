"""The inbox of an edge's store in memory: the fogs' records and the originals fetched for them."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from common.errors import StoreError, StoreFullError
from common.frame import Frame, FrameIdentity, content_digest
from common.store.corrections import frame_of_labels
from common.store.quarantine import QuarantineState
from common.store.records import NO_LOG, ApplyResult, Keyframe, Original, Record, RecordKind
from common.store.retention import Entry, Retained, Retention, Usage
from common.store.rows import json_text, keyframe_of, signed, source_frame
from common.store.settings import EdgeStoreSettings

__all__ = ["MemoryInbox"]


class MemoryInbox:
    """The half of :class:`common.store.contract.EdgeStore` that follows the fogs' logs.

    Args:
        settings: Bounds.
    """

    def __init__(self, settings: EdgeStoreSettings) -> None:
        self._limits = settings.retention
        self._inbox: dict[int, Record] = {}
        self._times: dict[int, float] = {}
        self._newest = self._floor = 0
        self._counts: Counter[RecordKind] = Counter()
        self.retention = Retention(settings.retention, "inbox")
        self._waiting: list[Record] = []
        self._keyframes: dict[bytes, bytes] = {}
        self._index: dict[tuple[FrameIdentity, RecordKind], tuple[bytes, int]] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._fetched: dict[bytes, bytes] = {}
        self._log_id: int | None = None
        self._positions: dict[int, int] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="residual-inr-incoming-")

    @abstractmethod
    def _open(self) -> threading.RLock: ...

    @abstractmethod
    def _has_image(self, digest: bytes) -> bool: ...

    @abstractmethod
    def _held_out_digests(self) -> set[bytes]: ...

    @abstractmethod
    def _drop_images(self, limit: int, excess: Callable[[Usage], int]) -> int: ...

    @property
    def log_id(self) -> int | None:
        """Id of the log that was followed last."""
        return self._log_id

    @property
    def position(self) -> int:
        """Position reached in the log that was followed last."""
        return self._positions.get(self._log_id or NO_LOG, 0)

    @property
    def positions(self) -> Mapping[int, int]:
        """Position reached in each log, by its id."""
        return dict(self._positions)

    @property
    def inbox_position(self) -> int:
        """Newest position of this edge's own sequence."""
        return self._newest

    def follow(self, log_id: int) -> int:
        """Follow this log."""
        with self._open():
            self._log_id = log_id
            return self._positions.setdefault(log_id, 0)

    def apply(self, records: Sequence[Record], position: int, log_id: int | None = None) -> ApplyResult:
        """Store records and this edge's position, all or nothing."""
        log = (self._log_id or NO_LOG) if log_id is None else log_id
        conflicts: list[FrameIdentity] = []
        new: dict[tuple[FrameIdentity, RecordKind], Record] = {}
        with self._open():
            for record in records:
                key = (record.identity, record.kind)
                held = (new[key].digest, log) if key in new else self._index.get(key)
                if held is None:
                    new[key] = self._checked(record)
                elif held[0] != record.digest and held[1] == log:
                    conflicts.append(record.identity)
            refusal = self.retention.refusal(self.usage, len(new)) if new else None
            if refusal is not None:
                raise StoreFullError(refusal)
            waiting = 0
            self._counts.update(kind for _, kind in new)
            for key, record in new.items():
                self._index[key] = (record.digest, log)
                packet = record.kind is RecordKind.PACKET
                keyframe = keyframe_of(record.meta) if packet else None
                if keyframe is None or self._has_packet(keyframe.digest):
                    self._place(record)
                else:
                    self._waiting.append(record)
                    waiting += 1
                if packet:
                    self._free(record.digest)
            self._positions[log] = max(self._positions.get(log, 0), position)
        return ApplyResult(len(new), len(records) - len(new) - len(conflicts), tuple(conflicts), waiting)

    def _has_packet(self, digest: bytes) -> bool:
        packets = (record.digest for record in self._held() if record.kind is RecordKind.PACKET)
        return digest in self._keyframes or digest in packets

    def _held(self) -> list[Record]:
        return [*self._inbox.values(), *self._waiting]

    def _free(self, keyframe: bytes) -> int:
        """Move the packets that wait for ``keyframe`` to the end of the inbox."""
        wanted = [(record, keyframe_of(record.meta)) for record in self._waiting]
        free = [record for record, entry in wanted if entry is not None and entry.digest == keyframe]
        self._waiting = [record for record in self._waiting if record not in free]
        for record in free:
            self._place(record)
        return len(free)

    def _place(self, record: Record) -> None:
        """Put a record at the end of the inbox."""
        self._newest += 1
        self._inbox[self._newest] = record
        self._times[self._newest] = time.time()

    def _checked(self, record: Record) -> Record:
        payload = self._blobs.get(record.digest) if record.payload is None else record.payload
        if payload is None:
            raise StoreError(f"the payload of record {record.position} is not here; fetch it first")
        if content_digest(payload) != record.digest or len(payload) != record.size:
            raise StoreError(f"record {record.position} does not match its digest; pull it again")
        signed(record.epoch)
        signed(record.number)
        return dataclasses.replace(record, payload=payload, meta=json.loads(json_text(record.meta)))

    def adopt_blob(self, digest: bytes, path: Path) -> None:
        """Take over a received file."""
        data = path.read_bytes()
        if content_digest(data) != digest:
            raise StoreError(f"{path} does not have the content hash {digest.hex()}; fetch it again")
        with self._open():
            self._blobs[digest] = data
        path.unlink()

    def has_blob(self, digest: bytes) -> bool:
        """Whether this content is here."""
        with self._open():
            return (
                digest in self._blobs
                or digest in self._fetched
                or self._has_image(digest)
                or digest in self._keyframes
                or any(record.digest == digest for record in self._held())
            )

    @property
    def incoming_folder(self) -> Path:
        """Folder for files being received."""
        return Path(self._folder.name)

    def _of_log(self, record: Record, log_id: int | None) -> bool:
        return log_id is None or self._index[record.identity, record.kind][1] == log_id

    def wanted_originals(self, limit: int, log_id: int | None = None) -> list[Original]:
        """Originals of labelled validation packets that are not here."""
        wanted: dict[bytes, Original] = {}
        with self._open():
            own = self._held_out_digests()
            for record in reversed([record for record in self._held() if self._of_log(record, log_id)]):
                source = source_frame(record.meta) if record.kind is RecordKind.PACKET else None
                if source and source.digest not in own and source.digest not in self._fetched:
                    wanted.setdefault(source.digest, Original(source.digest, source.size))
        return list(wanted.values())[:limit]

    def store_original(self, digest: bytes, image: bytes) -> None:
        """Keep a fetched original."""
        if content_digest(image) != digest:
            raise StoreError(f"an original does not have the content hash {digest.hex()}; fetch it again")
        with self._open():
            self._fetched[digest] = image

    def original_count(self) -> int:
        """Originals that were fetched and are held."""
        return len(self._fetched)

    def wanted_keyframes(self, limit: int, log_id: int | None = None) -> list[Keyframe]:
        """Keyframes that stored packets wait for."""
        with self._open():
            waiting = [record for record in reversed(self._waiting) if self._of_log(record, log_id)]
            wanted = [keyframe_of(record.meta) for record in waiting]
        return list(dict.fromkeys(keyframe for keyframe in wanted if keyframe is not None))[:limit]

    def store_keyframe(self, digest: bytes, packet: bytes) -> int:
        """Keep a fetched keyframe."""
        if content_digest(packet) != digest:
            raise StoreError(f"a keyframe does not have the content hash {digest.hex()}; fetch it again")
        with self._open():
            if not self._has_packet(digest):
                self._keyframes[digest] = packet
            return self._free(digest)

    @property
    def waiting_packets(self) -> int:
        """How many stored packets wait for their keyframe."""
        return len(self._waiting)

    def records(
        self, after: int, limit: int, kinds: Collection[RecordKind] | None = None
    ) -> list[tuple[int, Record]]:
        """Applied records, without payloads."""
        with self._open():
            chosen = [
                (place, dataclasses.replace(record, payload=None))
                for place, record in self._inbox.items()
                if place > after and (kinds is None or record.kind in kinds)
            ]
        return chosen[:limit]

    def count(self, kind: RecordKind) -> int:
        """How many records of a kind were applied."""
        with self._open():
            return self._counts[kind]

    @property
    def usage(self) -> Usage:
        """What the records take."""
        with self._open():
            sizes = [record.size for record in self._held()]
        return Usage(len(sizes), sum(sizes))

    @property
    def quarantined(self) -> QuarantineState:
        """Memory is not checked."""
        return QuarantineState()

    @property
    def full(self) -> str | None:
        """Why records are refused by retention."""
        return self.retention.refusal(self.usage, 1)

    def retain(self, now: float) -> Retained:
        """Drop a batch of what retention no longer keeps."""
        limit = self._limits.batch_records
        with self._open():
            before = self.usage
            places = [place for place in self._inbox if self._floor < place < self._newest][:limit]
            entries = [Entry(place, self._times[place], self._inbox[place].size) for place in places]
            behind = [record.size for place, record in self._inbox.items() if place <= self._floor]
            through = self.retention.through(entries, before.plus(-len(behind), -sum(behind)), now)
            records = 0 if through is None else self._drop(through)
            originals = self._drop_images(limit, self.retention.excess_originals)
            more = originals == limit or (through is not None and through == places[-1])
            return Retained(records, before.record_bytes - self.usage.record_bytes, originals, more)

    def _drop(self, through: int) -> int:
        named = [keyframe_of(r.meta) for place, r in self._inbox.items() if place > through]
        needed = {entry.digest for entry in [*named, *(keyframe_of(r.meta) for r in self._waiting)] if entry}
        labels = self._labels_of_later(through)
        gone = [
            place
            for place, record in self._inbox.items()
            if place <= through and record.digest not in needed and place not in labels
        ]
        for place in gone:
            del self._inbox[place], self._times[place]
        self._floor = through
        sources = {source.digest for record in self._held() if (source := source_frame(record.meta))}
        keyframes = {entry.digest for record in self._held() if (entry := keyframe_of(record.meta))}
        self._fetched = {digest: data for digest, data in self._fetched.items() if digest in sources}
        self._keyframes = {digest: data for digest, data in self._keyframes.items() if digest in keyframes}
        return len(gone)

    def _labels_of_later(self, through: int) -> set[int]:
        """Places of the newest corrected labels of packets behind a place."""
        newest: dict[FrameIdentity, tuple[int, int]] = {}
        for place, record in self._inbox.items():
            if record.kind is RecordKind.LABELS:
                frame = frame_of_labels(record.identity)
                newest[frame] = max(newest.get(frame, (0, 0)), (record.number, place))
        packets = {
            record.identity
            for place, record in self._inbox.items()
            if place > through and record.kind is RecordKind.PACKET
        }
        return {place for frame, (_, place) in newest.items() if frame in packets}

    def _fetched_originals(self) -> list[Frame]:
        """Validation frames of others whose original is here, the newest first."""
        frames = []
        for record in reversed(self._held()):
            source = source_frame(record.meta) if record.kind is RecordKind.PACKET else None
            if source and source.digest in self._fetched:
                frames.append(source.frame(self._fetched[source.digest], record.identity))
        return frames
