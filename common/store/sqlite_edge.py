"""The edge's store in SQLite: the outbox of recorded frames and the inbox of the fog's records."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.errors import StoreCorruptError, StoreError, StoreFullError
from common.frame import Frame, FrameIdentity, content_digest, in_validation_block
from common.store.blobs import BlobFolder
from common.store.contract import TrainingView
from common.store.database import Database
from common.store.log_rows import LOG_COLUMNS, record_checksum, record_of
from common.store.records import (
    INLINE_LIMIT_BYTES,
    ApplyResult,
    Original,
    OutboxState,
    Record,
    RecordKind,
)
from common.store.rows import (
    checksum,
    frame_facts,
    frame_of,
    json_text,
    marked,
    signed,
    source_frame,
    unsigned,
    verified,
)
from common.store.settings import EdgeStoreSettings
from common.store.sqlite_view import SqliteTrainingView

__all__ = ["SqliteEdgeStore"]

SCHEMA = """
CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY,
    device TEXT NOT NULL, epoch INTEGER NOT NULL, source_key BLOB NOT NULL UNIQUE,
    digest BLOB NOT NULL, size INTEGER NOT NULL, facts TEXT NOT NULL, held_out INTEGER NOT NULL,
    checksum BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', reason TEXT,
    kept INTEGER NOT NULL DEFAULT 1, image BLOB
);
CREATE INDEX outbox_waiting ON outbox (number) WHERE state = 'waiting';
CREATE INDEX outbox_refused ON outbox (number) WHERE state = 'refused';
CREATE INDEX outbox_held_out ON outbox (number) WHERE held_out = 1;
CREATE INDEX outbox_digest ON outbox (digest);
CREATE TABLE inbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL, device TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
    digest BLOB NOT NULL, size INTEGER NOT NULL, meta TEXT NOT NULL, checksum BLOB NOT NULL,
    source_digest BLOB, source_size INTEGER, payload BLOB,
    UNIQUE (device, epoch, number, kind)
);
CREATE INDEX inbox_kind ON inbox (kind, sequence);
CREATE INDEX inbox_digest ON inbox (digest);
CREATE INDEX inbox_source ON inbox (sequence) WHERE source_digest IS NOT NULL;
CREATE TABLE originals (digest BLOB PRIMARY KEY, size INTEGER NOT NULL, image BLOB);
"""


class SqliteEdgeStore:
    """:class:`common.store.contract.EdgeStore` in a folder.

    Args:
        folder: Made when missing.
        device: This device's key.
        settings: Bounds.

    Raises:
        StoreError: Another process has it open, or a newer program wrote it.
    """

    def __init__(self, folder: Path, device: str, settings: EdgeStoreSettings | None = None) -> None:
        self._device = device
        self._settings = settings or EdgeStoreSettings()
        self._database = Database(folder, "edge", SCHEMA, self._settings)
        try:
            self._blobs = BlobFolder(folder / "blobs")
            with self._database.transaction() as connection:
                if self._database.state("epoch") is None:
                    self._database.set_state("epoch", signed(secrets.randbits(64)))
                self._blobs.sweep(self._is_wanted, self._has_row)
                self._count(connection)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up files and locks."""
        self._database.close()

    def _count(self, connection: sqlite3.Connection) -> None:
        """What a node asks for all the time is held in memory: the answer waits for no disk."""
        log_id = self._database.state("log_id")
        self._epoch = unsigned(self._database.state("epoch") or 0)
        self._log_id = None if log_id is None else unsigned(log_id)
        self._position = self._database.state("position") or 0
        recorded, refused = connection.execute(
            "SELECT coalesce(max(number) + 1, 0), count(*) FILTER (WHERE state = 'refused') FROM outbox"
        ).fetchone()
        waiting, size = connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM outbox WHERE state = 'waiting'"
        ).fetchone()
        self._outbox = OutboxState(recorded, waiting, size, recorded - waiting - refused, refused)
        newest = connection.execute("SELECT coalesce(max(sequence), 0) FROM inbox").fetchone()
        self._inbox_position = int(newest[0])
        counts = connection.execute("SELECT kind, count(*) FROM inbox GROUP BY kind").fetchall()
        self._counts = Counter({RecordKind(kind): int(count) for kind, count in counts})
        self._originals = int(connection.execute("SELECT count(*) FROM originals").fetchone()[0])

    @property
    def epoch(self) -> int:
        """Random number of this installation."""
        return self._epoch

    # Outbox

    def recorded(self, source_key: str) -> int | None:
        """The number given to this source key."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT number FROM outbox WHERE source_key = ?", (_key(source_key),)
            ).fetchone()
        return None if row is None else int(row[0])

    def record_frame(
        self, source_key: str, frame: Frame, mark: Callable[[int], bool] = in_validation_block
    ) -> int:
        """Give a frame the next number and keep it until the fog has it."""
        size = len(frame.image)
        written: list[bytes] = []
        with self._database.lock:
            known = self.recorded(source_key)
            if known is not None:
                return known
            outbox = self._outbox
            if outbox.waiting and (
                outbox.waiting >= self._settings.max_outbox_frames
                or outbox.waiting_bytes + size > self._settings.max_outbox_bytes
            ):
                raise StoreFullError(
                    f"the outbox holds {outbox.waiting} frames ({outbox.waiting_bytes} bytes) that the fog "
                    f"has not taken yet; wait, or raise max_outbox_frames and max_outbox_bytes"
                )
            try:
                with self._database.transaction() as connection:
                    self._database.require_room(size)
                    number = outbox.recorded
                    frame = marked(frame, mark(number))
                    digest, facts = frame.digest, json_text(frame_facts(frame))
                    inline = self._keep(digest, frame.image, written)
                    columns = (
                        number,
                        self._device,
                        signed(self.epoch),
                        _key(source_key),
                        digest,
                        size,
                        facts,
                    )
                    connection.execute(
                        "INSERT INTO outbox (number, device, epoch, source_key, digest, size, facts, "
                        "held_out, checksum, image) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (*columns, int(frame.validation and frame.labelled), checksum(*columns), inline),
                    )
            except BaseException:
                self._discard(written)
                raise
            self._outbox = replace(
                outbox,
                recorded=number + 1,
                waiting=outbox.waiting + 1,
                waiting_bytes=outbox.waiting_bytes + size,
            )
        return number

    def unacknowledged(self, limit: int, max_bytes: int, after: int = -1) -> list[Frame]:
        """Frames the fog may not have, by number."""
        frames: list[Frame] = []
        damaged: list[tuple[int, str]] = []
        total = 0
        with self._database.lock:
            with self._database.reading() as connection:
                cursor = connection.execute(
                    "SELECT number, device, epoch, source_key, digest, size, facts, checksum, image "
                    "FROM outbox WHERE state = 'waiting' AND number > ? ORDER BY number",
                    (after,),
                )
                for *columns, check, image in cursor:
                    if len(frames) >= limit or (frames and total + columns[5] > max_bytes):
                        break
                    try:
                        frame = self._stored(tuple(columns), check, image)
                    except StoreCorruptError as error:
                        damaged.append((columns[0], str(error)))
                        continue
                    frames.append(frame)
                    total += len(frame.image)
                cursor.close()
            for number, sentence in damaged:
                self.refuse(number, sentence)
        return frames

    def _stored(self, columns: tuple[Any, ...], check: bytes, image: bytes | None) -> Frame:
        number, device, epoch, _, digest, _, facts = columns
        name = f"frame {number} of the outbox"
        if checksum(*columns) != check:
            raise StoreCorruptError(f"{name} does not match its checksum")
        data = self._blobs.read(digest) if image is None else verified(name, bytes(image), digest)
        return frame_of(json.loads(facts), data, FrameIdentity(device, unsigned(epoch), number))

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """The fog has these on disk."""
        self._settle([(number, None) for number in numbers])

    def refuse(self, number: int, reason: str) -> None:
        """The fog refuses this frame for good."""
        self._settle([(number, reason)])

    def _settle(self, outcomes: Sequence[tuple[int, str | None]]) -> None:
        """Take frames off the waiting ones; a reason refuses, None acknowledges."""
        large: list[bytes] = []
        acknowledged = refused = size = 0
        with self._database.lock:
            with self._database.transaction() as connection:
                for number, reason in outcomes:
                    row = connection.execute(
                        "UPDATE outbox SET state = ?, reason = ?, kept = iif(held_out AND ?, 1, 0), "
                        "image = iif(held_out AND ?, image, NULL) "
                        "WHERE number = ? AND state = 'waiting' RETURNING digest, size",
                        (
                            "acknowledged" if reason is None else "refused",
                            reason,
                            reason is None,
                            reason is None,
                            number,
                        ),
                    ).fetchone()
                    if row is not None:
                        acknowledged += reason is None
                        refused += reason is not None
                        size += int(row[1])
                        if row[1] > INLINE_LIMIT_BYTES:
                            large.append(row[0])
            outbox = self._outbox
            self._outbox = OutboxState(
                recorded=outbox.recorded,
                waiting=outbox.waiting - acknowledged - refused,
                waiting_bytes=outbox.waiting_bytes - size,
                acknowledged=outbox.acknowledged + acknowledged,
                refused=outbox.refused + refused,
            )
            self._discard(large)

    def refused(self) -> list[tuple[int, str]]:
        """(number, reason) of every refused frame."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT number, reason FROM outbox WHERE state = 'refused' ORDER BY number"
            ).fetchall()
        return [(int(number), str(reason)) for number, reason in rows]

    def outbox_state(self) -> OutboxState:
        """How full the outbox is."""
        return self._outbox

    # Inbox

    @property
    def log_id(self) -> int | None:
        """Id of the log that is followed."""
        return self._log_id

    @property
    def position(self) -> int:
        """Position of the fog's log reached."""
        return self._position

    @property
    def inbox_position(self) -> int:
        """Newest position of this edge's own sequence."""
        return self._inbox_position

    def follow(self, log_id: int) -> int:
        """Follow this log."""
        with self._database.lock:
            if self._log_id != log_id:
                with self._database.transaction():
                    self._database.set_state("log_id", signed(log_id))
                    self._database.set_state("position", 0)
                self._log_id, self._position = log_id, 0
            return self._position

    def apply(self, records: Sequence[Record], position: int) -> ApplyResult:
        """Store records and this edge's position in one transaction."""
        stored: list[RecordKind] = []
        newest = duplicates = 0
        conflicts: list[FrameIdentity] = []
        written: list[bytes] = []
        with self._database.lock:
            try:
                with self._database.transaction() as connection:
                    self._database.require_room(sum(len(r.payload or b"") for r in records))
                    for record in records:
                        digest = self._held(connection, record)
                        if digest is None:
                            newest = self._insert(connection, record, written)
                            stored.append(record.kind)
                        elif digest == record.digest:
                            duplicates += 1
                        else:
                            conflicts.append(record.identity)
                    if position > self._position:
                        self._database.set_state("position", position)
            except BaseException:
                self._discard(written)
                raise
            self._position = max(self._position, position)
            self._inbox_position = max(self._inbox_position, newest)
            self._counts.update(stored)
        return ApplyResult(len(stored), duplicates, tuple(conflicts))

    def _held(self, connection: sqlite3.Connection, record: Record) -> bytes | None:
        row = connection.execute(
            "SELECT digest FROM inbox WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
            (record.device, signed(record.epoch), signed(record.number), record.kind.value),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _insert(self, connection: sqlite3.Connection, record: Record, written: list[bytes]) -> int:
        """Store a record; its place in this edge's own sequence."""
        if record.payload is None:
            if self._blobs.size(record.digest) != record.size:
                raise StoreError(f"the payload of record {record.position} is not here; fetch it first")
            inline = None
        elif content_digest(record.payload) != record.digest or len(record.payload) != record.size:
            raise StoreError(f"record {record.position} does not match its digest; pull it again")
        else:
            inline = self._keep(record.digest, record.payload, written)
        row = (
            record.position,
            record.kind.value,
            record.device,
            signed(record.epoch),
            signed(record.number),
            record.digest,
            record.size,
            json_text(record.meta),
        )
        source = source_frame(record.meta) if record.kind is RecordKind.PACKET else None
        cursor = connection.execute(
            f"INSERT INTO inbox ({LOG_COLUMNS}, checksum, source_digest, source_size, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *row,
                record_checksum(row),
                source and source.digest,
                source and source.size,
                inline,
            ),
        )
        return int(cursor.lastrowid or 0)

    def adopt_blob(self, digest: bytes, path: Path) -> None:
        """Take over a received file."""
        # Not under the lock: hashing and syncing a large file may take a slow disk seconds.
        self._blobs.adopt(digest, path)

    def has_blob(self, digest: bytes) -> bool:
        """Whether this content is here."""
        with self._database.reading():
            return self._blobs.size(digest) is not None or self._has_row(digest)

    @property
    def incoming_folder(self) -> Path:
        """Folder for files being received."""
        return self._blobs.incoming

    def wanted_originals(self, limit: int) -> list[Original]:
        """Originals of labelled validation packets that are not here."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT source_digest, source_size, max(sequence) AS newest FROM inbox i "
                "WHERE source_digest IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM originals o WHERE o.digest = i.source_digest) "
                "AND NOT EXISTS (SELECT 1 FROM outbox f WHERE f.digest = i.source_digest AND f.kept = 1) "
                "GROUP BY source_digest ORDER BY newest DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [Original(bytes(row[0]), int(row[1])) for row in rows]

    def store_original(self, digest: bytes, image: bytes) -> None:
        """Keep a fetched original."""
        if content_digest(image) != digest:
            raise StoreError(f"an original does not have the content hash {digest.hex()}; fetch it again")
        written: list[bytes] = []
        with self._database.lock:
            try:
                with self._database.transaction() as connection:
                    self._database.require_room(len(image))
                    new = connection.execute(
                        "INSERT INTO originals (digest, size, image) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        (digest, len(image), self._keep(digest, image, written)),
                    ).rowcount
            except BaseException:
                self._discard(written)
                raise
            self._originals += new

    def original_count(self) -> int:
        """Originals that were fetched and are held."""
        return self._originals

    def records(
        self, after: int, limit: int, kinds: Collection[RecordKind] | None = None
    ) -> list[tuple[int, Record]]:
        """Applied records, without payloads."""
        chosen = None if kinds is None else json.dumps([kind.value for kind in kinds])
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT sequence, {LOG_COLUMNS}, checksum FROM inbox WHERE sequence > ? "
                "AND (? IS NULL OR kind IN (SELECT value FROM json_each(?))) ORDER BY sequence LIMIT ?",
                (after, chosen, chosen, limit),
            ).fetchall()
        return [(int(row[0]), record_of(row[1:9], row[9], None)) for row in rows]

    def count(self, kind: RecordKind) -> int:
        """How many records of a kind were applied."""
        return self._counts[kind]

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return SqliteTrainingView(self._database.folder)

    def _has_row(self, digest: bytes) -> bool:
        row = self._database.connection.execute(
            "SELECT 1 FROM outbox WHERE digest = ? AND kept = 1 "
            "UNION ALL SELECT 1 FROM originals WHERE digest = ? "
            "UNION ALL SELECT 1 FROM inbox WHERE digest = ? LIMIT 1",
            (digest, digest, digest),
        ).fetchone()
        return row is not None

    def _is_wanted(self, digest: bytes) -> bool:
        """Whether a row refers to the file of this hash."""
        row = self._database.connection.execute(
            "SELECT 1 FROM outbox WHERE digest = ? AND kept = 1 AND image IS NULL "
            "UNION ALL SELECT 1 FROM originals WHERE digest = ? AND image IS NULL "
            "UNION ALL SELECT 1 FROM inbox WHERE digest = ? AND payload IS NULL LIMIT 1",
            (digest, digest, digest),
        ).fetchone()
        return row is not None

    def _keep(self, digest: bytes, data: bytes, written: list[bytes]) -> bytes | None:
        """The column value of content: itself, or None once it is a durable file."""
        if len(data) <= INLINE_LIMIT_BYTES:
            return data
        written.append(digest)
        self._blobs.write(digest, data)
        return None

    def _discard(self, digests: Sequence[bytes]) -> None:
        """Remove files that no row refers to (any longer)."""
        with self._database.reading():
            for digest in digests:
                if not self._is_wanted(digest):
                    self._blobs.delete(digest)


def _key(source_key: str) -> bytes:
    """A source key as bytes: a path need not be legal text."""
    return source_key.encode("utf-8", "surrogateescape")
