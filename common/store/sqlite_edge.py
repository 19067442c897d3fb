"""The edge's store in SQLite: the outbox of recorded frames and the inbox of the fog's records."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
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
                self._blobs.sweep(self._is_wanted)
                row = connection.execute(
                    "SELECT count(*), coalesce(sum(size), 0) FROM outbox WHERE state = 'waiting'"
                ).fetchone()
            self._waiting, self._waiting_bytes = int(row[0]), int(row[1])
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

    @property
    def epoch(self) -> int:
        """Random number of this installation."""
        return unsigned(self._database.state("epoch") or 0)

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
            if self._waiting and (
                self._waiting >= self._settings.max_outbox_frames
                or self._waiting_bytes + size > self._settings.max_outbox_bytes
            ):
                raise StoreFullError(
                    f"the outbox holds {self._waiting} frames ({self._waiting_bytes} bytes) that the fog "
                    f"has not taken yet; wait, or raise max_outbox_frames and max_outbox_bytes"
                )
            try:
                with self._database.transaction() as connection:
                    self._database.require_room(size)
                    newest = connection.execute("SELECT max(number) FROM outbox").fetchone()[0]
                    number = 0 if newest is None else int(newest) + 1
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
            self._waiting += 1
            self._waiting_bytes += size
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
        count = size = 0
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
                        count, size = count + 1, size + int(row[1])
                        if row[1] > INLINE_LIMIT_BYTES:
                            large.append(row[0])
            self._waiting -= count
            self._waiting_bytes -= size
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
        with self._database.reading() as connection:
            newest = connection.execute("SELECT max(number) FROM outbox").fetchone()[0]
            row = connection.execute("SELECT count(*) FROM outbox WHERE state = 'refused'").fetchone()
            recorded, refused = 0 if newest is None else int(newest) + 1, int(row[0])
            return OutboxState(
                recorded=recorded,
                waiting=self._waiting,
                waiting_bytes=self._waiting_bytes,
                acknowledged=recorded - self._waiting - refused,
                refused=refused,
            )

    # Inbox

    @property
    def log_id(self) -> int | None:
        """Id of the log that is followed."""
        value = self._database.state("log_id")
        return None if value is None else unsigned(value)

    @property
    def position(self) -> int:
        """Position of the fog's log reached."""
        return self._database.state("position") or 0

    @property
    def inbox_position(self) -> int:
        """Newest position of this edge's own sequence."""
        with self._database.reading() as connection:
            return int(connection.execute("SELECT max(sequence) FROM inbox").fetchone()[0] or 0)

    def follow(self, log_id: int) -> int:
        """Follow this log."""
        with self._database.transaction():
            if self.log_id != log_id:
                self._database.set_state("log_id", signed(log_id))
                self._database.set_state("position", 0)
            return self.position

    def apply(self, records: Sequence[Record], position: int) -> ApplyResult:
        """Store records and this edge's position in one transaction."""
        applied = duplicates = 0
        conflicts: list[FrameIdentity] = []
        written: list[bytes] = []
        with self._database.lock:
            try:
                with self._database.transaction() as connection:
                    self._database.require_room(sum(len(r.payload or b"") for r in records))
                    for record in records:
                        digest = self._held(connection, record)
                        if digest is None:
                            self._insert(connection, record, written)
                            applied += 1
                        elif digest == record.digest:
                            duplicates += 1
                        else:
                            conflicts.append(record.identity)
                    if position > self.position:
                        self._database.set_state("position", position)
            except BaseException:
                self._discard(written)
                raise
        return ApplyResult(applied, duplicates, tuple(conflicts))

    def _held(self, connection: sqlite3.Connection, record: Record) -> bytes | None:
        row = connection.execute(
            "SELECT digest FROM inbox WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
            (record.device, signed(record.epoch), signed(record.number), record.kind.value),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _insert(self, connection: sqlite3.Connection, record: Record, written: list[bytes]) -> None:
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
        connection.execute(
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

    def adopt_blob(self, digest: bytes, path: Path) -> None:
        """Take over a received file."""
        with self._database.lock, self._database.errors():
            self._blobs.adopt(digest, path)

    def has_blob(self, digest: bytes) -> bool:
        """Whether this content is here."""
        with self._database.reading():
            return self._blobs.size(digest) is not None or self._has_inline(digest)

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
                    connection.execute(
                        "INSERT INTO originals (digest, size, image) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        (digest, len(image), self._keep(digest, image, written)),
                    )
            except BaseException:
                self._discard(written)
                raise

    def original_count(self) -> int:
        """Originals that were fetched and are held."""
        with self._database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM originals").fetchone()[0])

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
        with self._database.reading() as connection:
            row = connection.execute("SELECT count(*) FROM inbox WHERE kind = ?", (kind.value,)).fetchone()
        return int(row[0])

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return SqliteTrainingView(self._database.folder)

    def _has_inline(self, digest: bytes) -> bool:
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
