"""The append-only log of a fog's store in SQLite, and its retention."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from common.errors import IdentityConflictError, StoreCorruptError
from common.frame import FrameIdentity, content_digest
from common.store.content import ContentDatabase
from common.store.log_rows import LOG_COLUMNS, columns_sound, log_row, record_of
from common.store.quarantine import Quarantine
from common.store.records import INLINE_LIMIT_BYTES, LogPage, Record, RecordKind
from common.store.retention import Entry, Retained, Retention, Usage
from common.store.rows import keyframe_of, signed, unsigned
from common.store.settings import FogStoreSettings
from common.store.sqlite_corrections import carry_on

__all__ = ["SqliteLog"]

SCAN_RECORDS = 10_000
"""Positions that one read looks at, so that a filter that matches little does not hold the lock."""

FRAME = "frames.device = log.device AND frames.epoch = log.epoch AND frames.number = log.number / 65536"
"""Whether a row of frames is that of a record of labels."""

LATER_LABELS = f"""
SELECT DISTINCT frames.device, frames.epoch, frames.number FROM log JOIN frames ON {FRAME}
WHERE log.kind = 'labels' AND log.position <= :through AND frames.position > :through
"""
"""Frames whose corrected labels stand in the log before their packet, and are to be dropped before it."""

KEYFRAME = """
EXISTS (SELECT 1 FROM log AS later WHERE later.keyframe = log.digest AND later.position > :through)
"""
"""Whether a record is the keyframe of a later one."""

AWAITED = f"""
(log.kind = 'labels' AND EXISTS (SELECT 1 FROM frames WHERE {FRAME} AND frames.position IS NULL)
AND NOT EXISTS (SELECT 1 FROM log AS newer WHERE newer.kind = 'labels' AND newer.device = log.device
AND newer.epoch = log.epoch AND newer.number > log.number AND newer.number <= log.number | 65535))
"""
"""Whether a record is the newest corrected labels of a frame that has no record yet."""

RETENTION = "the log no longer keeps these records; pull on after them"


class SqliteLog:
    """The half of :class:`common.store.contract.FogStore` that edges read.

    Args:
        database: Of a fog, in its first transaction.
        settings: Bounds.
    """

    def __init__(self, database: ContentDatabase, settings: FogStoreSettings) -> None:
        self._database = database
        self._settings = settings
        self.retention = Retention(settings.retention, "log")
        if database.state("log_id") is None:
            database.set_state("log_id", signed(secrets.randbits(64)))
        self._log_id = unsigned(database.state("log_id") or 0)
        self.quarantine = Quarantine(database, settings.max_quarantine_bytes)
        self._usage = self._measured()

    def _measured(self) -> Usage:
        with self._database.reading() as connection:
            records = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM log").fetchone()
            originals = connection.execute(
                "SELECT coalesce(sum(size), 0) FROM frames WHERE kept = 1 AND position IS NOT NULL"
            ).fetchone()
        return Usage(int(records[0]), int(records[1]), int(originals[0]))

    @property
    def log_id(self) -> int:
        """Random id of this log."""
        return self._log_id

    @property
    def last_position(self) -> int:
        """Newest position ever appended."""
        with self._database.reading() as connection:
            newest = connection.execute("SELECT max(position) FROM log").fetchone()[0]
            return max(newest or 0, self._trimmed(), self.quarantine.last_position)

    @property
    def oldest_position(self) -> int:
        """Oldest position still there."""
        with self._database.reading():
            return self._trimmed() + 1

    def _trimmed(self) -> int:
        return self._database.state("trimmed") or 0

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
        with self._database.lock:
            with self._database.writing() as connection:
                row = connection.execute(
                    "SELECT position, digest FROM log "
                    "WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
                    (device, signed(epoch), signed(number), kind.value),
                ).fetchone()
                if row is not None:
                    if row[1] == content_digest(payload):
                        return int(row[0])
                    raise IdentityConflictError(
                        f"{kind.value} {number} of {device} stands in the log with other content; "
                        f"give the new one another number"
                    )
                position = self._append(connection, kind, identity, meta, payload)
            self._appended(len(payload))
        return position

    def _appended(self, size: int, original: int = 0) -> None:
        """Count a record that was committed, and the original that is kept of it."""
        with self._database.lock:
            self._usage = self._usage.plus(1, size, original)

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
        damaged: dict[int, tuple[str, bool]] = {}
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
                size = len(row[9]) if isinstance(row[9], bytes) else 0
                if len(records) >= limit or (records and total + size > max_bytes):
                    through = row[0] - 1
                    break
                total += size
                try:
                    records.append(_whole(row))
                except StoreCorruptError as error:
                    damaged[row[0]] = str(error), columns_sound(row[:8], row[8])
                    records.append(Record.gap(self.log_id, row[0], row[0], str(error)))
            cursor.close()
            known = [
                Record.gap(self.log_id, first, final, reason)
                for first, final, reason in self.quarantine.gaps(after, through, limit)
            ]
            if known:
                records = sorted([*records, *known], key=lambda record: record.position)
                through = records[limit - 1].position if len(records) >= limit else through
                del records[limit:]
            for position, (sentence, sound) in damaged.items():
                self._lose_record(position, sentence, sound)
        sentences = tuple(sentence for sentence, _ in damaged.values())
        return LogPage(tuple(records), through, through < last, sentences)

    def _lose_record(self, position: int, reason: str, sound: bool) -> None:
        """Put a record into quarantine; ``sound`` says that only its payload is damaged."""
        if self.quarantine.take("log", "position", position, reason, columns_sound=sound):
            self._usage = self._measured()

    def lose_content(self, digest: bytes, reason: str) -> None:
        """Put a damaged or missing file of content into quarantine, with the records that need it."""
        with self._database.lock:
            if not self.quarantine.take_file(digest, reason):
                return
            with self._database.transaction() as connection:
                connection.execute(
                    "UPDATE frames SET kept = 0 "
                    "WHERE digest = ? AND image IS NULL AND kept = 1 AND position IS NOT NULL",
                    (digest,),
                )
                positions = connection.execute(
                    "SELECT position FROM log WHERE digest = ? AND payload IS NULL", (digest,)
                ).fetchall()
            for (position,) in positions:
                self._lose_record(position, f"the payload of record {position} is damaged: {reason}", True)
            self._usage = self._measured()

    def has_record(self, kind: RecordKind, identity: FrameIdentity) -> bool:
        """Whether the log holds this record."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT 1 FROM log WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
                (identity.device, signed(identity.epoch), signed(identity.number), kind.value),
            ).fetchone()
        return row is not None

    @property
    def usage(self) -> Usage:
        """What the log and the originals take."""
        return self._usage

    def retain(self, now: float) -> Retained:
        """Drop a batch of what retention no longer keeps."""
        with self._database.lock:
            with self._database.reading() as connection:
                limit = self._settings.retention.batch_records
                oldest = connection.execute(
                    "SELECT position, time, size FROM log WHERE position > ? ORDER BY position LIMIT ?",
                    (self._trimmed(), limit),
                ).fetchall()
                # Keyframes behind the oldest record are beyond the limits: dropping more would not free them.
                behind = connection.execute(
                    "SELECT count(*), coalesce(sum(size), 0) FROM log WHERE position <= ?", (self._trimmed(),)
                ).fetchone()
                shortage = self._database.shortage() if self.retention.drops else 0
            entries = [Entry(*row) for row in oldest]
            before = self._usage
            through = self.retention.through(entries, before.plus(-behind[0], -behind[1]), now, shortage)
            records = 0 if through is None else self.trim(through)
            trimmed = self._usage
            originals = self._drop_originals(self.retention.excess_originals(trimmed), limit)
            if shortage:
                self._database.shrink()
            more = originals == limit or (records > 0 and through == entries[-1].place)
            return Retained(records, before.record_bytes - trimmed.record_bytes, originals, more)

    def trim(self, through: int) -> int:
        """Drop the records up to and including a position, and the originals of their frames."""
        with self._database.lock:
            with self._database.transaction() as connection:
                through = min(through, self.last_position)
                if through <= self._trimmed():
                    return 0
                images = connection.execute(
                    "UPDATE frames SET kept = 0, image = NULL WHERE kept = 1 AND position <= ? "
                    "RETURNING digest, size",
                    (through,),
                ).fetchall()
                later = connection.execute(LATER_LABELS, {"through": through}).fetchall()
                for device, epoch, number in later:
                    frame = FrameIdentity(device, unsigned(epoch), number)
                    carry_on(connection, frame, through, self.last_position)
                gone = connection.execute(
                    f"DELETE FROM log WHERE position <= :through AND NOT {KEYFRAME} AND NOT {AWAITED} "
                    "RETURNING digest, size",
                    {"through": through},
                ).fetchall()
                self._database.set_state("trimmed", through)
            self._usage = self._usage.plus(-len(gone), -_total(gone), -_total(images))
            self._discard([*gone, *images])
            return len(gone)

    def _drop_originals(self, excess: int, limit: int) -> int:
        """Drop the oldest originals, so many bytes of them; how many went."""
        if not excess:
            return 0
        with self._database.transaction() as connection:
            oldest = connection.execute(
                "SELECT position, size FROM frames WHERE kept = 1 AND position IS NOT NULL "
                "ORDER BY position LIMIT ?",
                (limit,),
            )
            last = 0
            for position, size in oldest:
                last, excess = position, excess - size
                if excess <= 0:
                    break
            oldest.close()
            images = connection.execute(
                "UPDATE frames SET kept = 0, image = NULL WHERE kept = 1 AND position <= ? "
                "RETURNING digest, size",
                (last,),
            ).fetchall()
        self._usage = self._usage.plus(0, 0, -_total(images))
        self._discard(images)
        return len(images)

    def _discard(self, rows: Sequence[tuple[bytes, int]]) -> None:
        """Remove the files of content that rows held."""
        self._database.discard(digest for digest, size in rows if size > INLINE_LIMIT_BYTES)


def _whole(row: tuple[Any, ...]) -> Record:
    """The record of a row of ``LOG_COLUMNS``, checksum and payload.

    Raises:
        StoreCorruptError: It is damaged, or its payload is not where it belongs.
    """
    record = record_of(row[:8], row[8], row[9])
    if record.payload is None and not record.large:
        raise StoreCorruptError(f"the payload of record {record.position} is missing")
    return record


def _total(rows: Sequence[tuple[bytes, int]]) -> int:
    """Bytes of (digest, size) rows."""
    return sum(size for _, size in rows)


def _json(values: Collection[str] | None) -> str | None:
    return None if values is None else json.dumps([str(value) for value in values])
