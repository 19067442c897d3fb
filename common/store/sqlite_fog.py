"""The fog's store in SQLite: uploads, the append-only log, and large payloads as files."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import IdentityConflictError, StoreCorruptError, StoreError
from common.frame import Frame, FrameIdentity, content_digest
from common.store.content import ContentDatabase
from common.store.contract import Closable, TrainingView
from common.store.log_rows import LOG_COLUMNS, log_row, record_of
from common.store.records import (
    CommitOutcome,
    LogPage,
    PendingFrame,
    Record,
    RecordKind,
)
from common.store.rows import (
    SOURCE_KEY,
    checksum,
    fingerprint,
    frame_facts,
    frame_of,
    identity_of,
    json_text,
    keyframe_of,
    signed,
    source_facts,
    unsigned,
    verified,
)
from common.store.settings import FogStoreSettings
from common.store.sqlite_corrections import SqliteFogCorrections
from common.store.sqlite_view import SqliteTrainingView

__all__ = ["SqliteFogStore"]

FILE_REFERENCES = """
SELECT 1 FROM frames WHERE digest = :digest AND kept = 1 AND image IS NULL
UNION ALL SELECT 1 FROM log WHERE digest = :digest AND payload IS NULL LIMIT 1
"""

SCAN_RECORDS = 10_000
"""Positions that one read looks at, so that a filter that matches little does not hold the lock."""

RETENTION = "the log no longer keeps these records; pull on after them"


class SqliteFogStore(SqliteFogCorrections, Closable):
    """:class:`common.store.contract.FogStore` in a folder.

    Args:
        folder: Made when missing.
        settings: Bounds.

    Raises:
        StoreError: Another process has it open, or a newer program wrote it.
    """

    def __init__(self, folder: Path, settings: FogStoreSettings | None = None) -> None:
        self._settings = settings or FogStoreSettings()
        self._database = ContentDatabase(folder, "fog", FILE_REFERENCES, self._settings)
        with self._database.opening() as connection:
            if self._database.state("log_id") is None:
                self._database.set_state("log_id", signed(secrets.randbits(64)))
            self._log_id = unsigned(self._database.state("log_id") or 0)
            waiting = connection.execute("SELECT count(*) FROM frames WHERE position IS NULL")
            self._pending_count = int(waiting.fetchone()[0])

    def close(self) -> None:
        """Give up files and locks."""
        self._database.close()

    @property
    def log_id(self) -> int:
        """Random id of this log."""
        return self._log_id

    @property
    def last_position(self) -> int:
        """Newest position ever appended."""
        with self._database.reading() as connection:
            newest = connection.execute("SELECT max(position) FROM log").fetchone()[0]
            return max(newest or 0, self._trimmed())

    @property
    def oldest_position(self) -> int:
        """Oldest position still there."""
        with self._database.reading():
            return self._trimmed() + 1

    @property
    def pending_count(self) -> int:
        """Committed frames that are not finished."""
        return self._pending_count

    def _trimmed(self) -> int:
        return self._database.state("trimmed") or 0

    # Uploads

    def commit_frames(self, frames: Sequence[Frame]) -> list[CommitOutcome]:
        """Commit uploads in one transaction."""
        for frame in frames:
            identity_of(frame)
        with self._database.lock:
            with self._database.writing() as connection:
                self._database.require_room(sum(len(frame.image) for frame in frames))
                outcomes = [self._commit(connection, frame) for frame in frames]
            self._pending_count += outcomes.count(CommitOutcome.STORED)
            return outcomes

    def _commit(self, connection: sqlite3.Connection, frame: Frame) -> CommitOutcome:
        identity, mark = identity_of(frame), fingerprint(frame)
        key = (identity.device, signed(identity.epoch), signed(identity.number))
        row = connection.execute(
            "SELECT fingerprint FROM frames WHERE device = ? AND epoch = ? AND number = ?", key
        ).fetchone()
        if row is not None:
            return CommitOutcome.DUPLICATE if row[0] == mark else CommitOutcome.CONFLICT
        digest, size, facts = frame.digest, len(frame.image), json_text(frame_facts(frame))
        inline = self._database.keep(digest, frame.image)
        connection.execute(
            "INSERT INTO frames (device, epoch, number, fingerprint, digest, size, facts, held_out, "
            "checksum, kept, image) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            (
                *key,
                mark,
                digest,
                size,
                facts,
                int(frame.validation and frame.labelled),
                checksum(*key, mark, digest, size, facts),
                inline,
            ),
        )
        return CommitOutcome.STORED

    def pending_frames(self, limit: int, after: int = 0) -> list[PendingFrame]:
        """Committed frames that are not finished, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT arrival, device, epoch, number, fingerprint, digest, size, facts, checksum, image "
                "FROM frames WHERE position IS NULL AND arrival > ? ORDER BY arrival LIMIT ?",
                (after, limit),
            ).fetchall()
            return [self._pending(row) for row in rows]

    def _pending(self, row: tuple[Any, ...]) -> PendingFrame:
        arrival, device, epoch, number, mark, digest, size, facts, check, image = row
        identity = FrameIdentity(device, unsigned(epoch), unsigned(number))
        name = f"frame {number} of device {device}"
        try:
            if check != checksum(device, epoch, number, mark, digest, size, facts):
                raise StoreCorruptError(f"{name} does not match its checksum")
            data = self._database.content(name, digest, image)
        except StoreCorruptError as error:
            return PendingFrame(arrival, identity, None, str(error))
        return PendingFrame(arrival, identity, frame_of(json.loads(facts), data, identity))

    # Log

    def finish(
        self, identity: FrameIdentity, kind: RecordKind, meta: Mapping[str, Any], payload: bytes
    ) -> int:
        """Append a frame's record and mark the frame done."""
        if kind not in (RecordKind.PACKET, RecordKind.TOMBSTONE):
            raise StoreError(f"a frame is finished by a packet or a tombstone, not by {kind.value}")
        key = (identity.device, signed(identity.epoch), signed(identity.number))
        drop: bytes | None = None
        with self._database.lock:
            with self._database.writing() as connection:
                row = connection.execute(
                    "SELECT arrival, position, digest, size, facts, held_out FROM frames "
                    "WHERE device = ? AND epoch = ? AND number = ?",
                    key,
                ).fetchone()
                if row is None:
                    raise StoreError(f"{identity} was never committed here; commit it first")
                arrival, position, digest, size, facts, held_out = row
                if position is not None:
                    return int(position)
                if held_out and kind is RecordKind.PACKET:
                    meta = {**meta, SOURCE_KEY: source_facts(json.loads(facts), digest, size)}
                position = self._append(connection, kind, identity, meta, payload)
                keep = held_out or kind is RecordKind.TOMBSTONE or self._settings.keep_training_originals
                connection.execute(
                    "UPDATE frames SET position = ?, kept = ?, image = iif(?, image, NULL) WHERE arrival = ?",
                    (position, int(keep), int(keep), arrival),
                )
                drop = None if keep else digest
            self._pending_count -= 1
            if drop is not None:
                self._database.discard([drop])
            return position

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
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT position, digest FROM log WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
                (device, signed(epoch), signed(number), kind.value),
            ).fetchone()
            if row is None:
                return self._append(connection, kind, identity, meta, payload)
            if row[1] == content_digest(payload):
                return int(row[0])
            raise IdentityConflictError(
                f"{kind.value} {number} of {device} stands in the log with other content; "
                f"give the new one another number"
            )

    def _append(
        self,
        connection: sqlite3.Connection,
        kind: RecordKind,
        identity: FrameIdentity,
        meta: Mapping[str, Any],
        payload: bytes,
    ) -> int:
        position = self.last_position + 1
        digest = content_digest(payload)
        row = log_row(position, kind, identity, digest, len(payload), meta)
        keyframe = keyframe_of(meta) if kind is RecordKind.PACKET else None
        connection.execute(
            f"INSERT INTO log ({LOG_COLUMNS}, checksum, keyframe, time, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, keyframe and keyframe.digest, int(time.time()), self._database.keep(digest, payload)),
        )
        return position

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
        damaged: list[str] = []
        with self._database.reading() as connection:
            last, trimmed = self.last_position, self._trimmed()
            if after < trimmed:
                records.append(Record.gap(self.log_id, after + 1, trimmed, RETENTION))
                after = trimmed
            end = min(last, after + SCAN_RECORDS)
            through, total = end, 0
            cursor = connection.execute(
                f"SELECT {LOG_COLUMNS}, checksum, payload FROM log WHERE position > ? AND position <= ? "
                "AND (? IS NULL OR device IN (SELECT value FROM json_each(?))) "
                "AND (? IS NULL OR kind IN (SELECT value FROM json_each(?))) ORDER BY position",
                (after, end, *[_json(devices)] * 2, *[_json(kinds)] * 2),
            )
            for row in cursor:
                size = len(row[9] or b"")
                if len(records) >= limit or (records and total + size > max_bytes):
                    through = row[0] - 1
                    break
                total += size
                try:
                    records.append(record_of(row[:8], row[8], row[9]))
                except StoreCorruptError as error:
                    damaged.append(str(error))
                    records.append(Record.gap(self.log_id, row[0], row[0], str(error)))
            cursor.close()
        return LogPage(tuple(records), through, through < last, tuple(damaged))

    def has_record(self, kind: RecordKind, identity: FrameIdentity) -> bool:
        """Whether the log holds this record."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM log WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
                (identity.device, signed(identity.epoch), signed(identity.number), kind.value),
            ).fetchone()
        return row is not None

    def trim(self, through: int) -> int:
        """Drop the records up to and including a position."""
        with self._database.lock:
            with self._database.transaction() as connection:
                through = min(through, self.last_position)
                if through <= self._trimmed():
                    return 0
                large = connection.execute(
                    "SELECT digest FROM log WHERE position <= ? AND payload IS NULL", (through,)
                ).fetchall()
                gone = connection.execute(
                    "DELETE FROM log WHERE position <= ? AND NOT EXISTS (SELECT 1 FROM log AS later "
                    "WHERE later.keyframe = log.digest AND later.position > ?)",
                    (through, through),
                ).rowcount
                self._database.set_state("trimmed", through)
            self._database.discard(row[0] for row in large)
            return gone

    # Content by hash

    def blob_size(self, digest: bytes) -> int | None:
        """Bytes of the payload or original with this hash."""
        with self._database.reading():
            inline = self._inline(digest)
            if inline is not None:
                return len(inline)
            return self._database.blobs.size(digest) if self._database.refers(digest) else None

    def blob(self, digest: bytes, offset: int, length: int) -> bytes:
        """Part of a payload or original; the whole is verified when its beginning is read."""
        with self._database.reading():
            inline = self._inline(digest)
            if inline is not None:
                return verified(f"content {digest.hex()}", inline, digest)[offset : offset + length]
            if not self._database.refers(digest):
                raise StoreError(f"content {digest.hex()} is not here; pull the log again")
            if offset == 0:
                self._database.blobs.verify(digest)
            return self._database.blobs.read(digest, offset, length)

    def blob_sources(self, digest: bytes) -> frozenset[str]:
        """Devices whose records or originals have this content."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT device FROM log WHERE digest = ? "
                "UNION SELECT device FROM frames WHERE digest = ? AND kept = 1",
                (digest, digest),
            ).fetchall()
        return frozenset(row[0] for row in rows)

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return SqliteTrainingView(self._database.folder)

    def _inline(self, digest: bytes) -> bytes | None:
        row = self._database.connection.execute(
            "SELECT image FROM frames WHERE digest = ? AND image IS NOT NULL "
            "UNION ALL SELECT payload FROM log WHERE digest = ? AND payload IS NOT NULL LIMIT 1",
            (digest, digest),
        ).fetchone()
        return None if row is None else bytes(row[0])


def _json(values: Collection[str] | None) -> str | None:
    return None if values is None else json.dumps([str(value) for value in values])
