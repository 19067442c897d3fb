"""The inbox of an edge's store in SQLite: the fogs' records and the originals fetched for them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from common.errors import StoreCorruptError, StoreError, StoreFullError
from common.frame import FrameIdentity, content_digest
from common.store.content import ContentDatabase
from common.store.log_rows import LOG_COLUMNS, log_row, record_of
from common.store.quarantine import Quarantine
from common.store.records import NO_LOG, ApplyResult, Keyframe, Original, Record, RecordKind
from common.store.retention import Retention, Usage
from common.store.rows import keyframe_of, signed, source_frame, unsigned
from common.store.settings import EdgeStoreSettings

__all__ = ["SqliteInbox"]


class SqliteInbox:
    """The half of :class:`common.store.contract.EdgeStore` that follows the fogs' logs.

    Args:
        database: Of an edge, in its first transaction.
        settings: Bounds.
    """

    quarantine: Quarantine

    def __init__(self, database: ContentDatabase, settings: EdgeStoreSettings) -> None:
        self._database = database
        self._limits = settings.retention
        self.retention = Retention(settings.retention, "inbox")
        # What a node asks for all the time is held in memory: the answer waits for no disk.
        log_id = database.state("log_id")
        self._log_id = None if log_id is None else unsigned(log_id)
        with database.reading() as connection:
            logs = connection.execute("SELECT log_id, position FROM logs").fetchall()
            # The newest row may have gone into quarantine: its place is not used again.
            newest = connection.execute(
                "SELECT max(coalesce((SELECT max(sequence) FROM inbox), 0), "
                "coalesce((SELECT max(coalesce(last, place)) FROM quarantine WHERE source = 'inbox'), 0))"
            ).fetchone()
            counts = connection.execute(
                "SELECT kind, count(*) FROM inbox GROUP BY kind "
                "UNION ALL SELECT kind, count(*) FROM dropped GROUP BY kind"
            ).fetchall()
            held = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM inbox").fetchone()
            self._dropped = connection.execute("SELECT 1 FROM dropped LIMIT 1").fetchone() is not None
            originals = connection.execute("SELECT count(*) FROM originals").fetchone()
            waiting = connection.execute("SELECT count(*) FROM inbox WHERE waiting = 1").fetchone()
        self._positions = {unsigned(int(log)): int(position) for log, position in logs}
        self._inbox_position = int(newest[0])
        self._counts: Counter[RecordKind] = Counter()
        for kind, count in counts:
            self._counts[RecordKind(kind)] += int(count)
        self._usage = Usage(int(held[0]), int(held[1]))
        self._originals = int(originals[0])
        self._waiting = int(waiting[0])

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
        return self._inbox_position

    def follow(self, log_id: int) -> int:
        """Follow this log."""
        with self._database.lock:
            if self._log_id != log_id or log_id not in self._positions:
                with self._database.transaction() as connection:
                    self._database.set_state("log_id", signed(log_id))
                    connection.execute(
                        "INSERT INTO logs (log_id, position) VALUES (?, 0) ON CONFLICT DO NOTHING",
                        (signed(log_id),),
                    )
                self._log_id = log_id
                self._positions.setdefault(log_id, 0)
            return self._positions[log_id]

    def apply(self, records: Sequence[Record], position: int, log_id: int | None = None) -> ApplyResult:
        """Store records and this edge's position in one transaction."""
        log = (self._log_id or NO_LOG) if log_id is None else log_id
        stored: list[Record] = []
        newest = duplicates = waiting = freed = 0
        conflicts: list[FrameIdentity] = []
        with self._database.lock:
            with self._database.writing() as connection:
                self._database.require_room_for(record.payload or b"" for record in records)
                for record in records:
                    held = self._held(connection, record)
                    if held is None:
                        newest, waits = self._insert(connection, record, log)
                        stored.append(record)
                        waiting += waits
                        if record.kind is RecordKind.PACKET and self._waiting + waiting > freed:
                            count, newest = self._free(connection, record.digest, newest)
                            freed += count
                    elif held[0] == record.digest or held[1] != log:
                        # Two fogs may have encoded one frame, each in its own way: the first one stays.
                        duplicates += 1
                    else:
                        conflicts.append(record.identity)
                refusal = self.retention.refusal(self._usage, len(stored)) if stored else None
                if refusal is not None:
                    raise StoreFullError(refusal)
                if position > self._positions.get(log, 0):
                    connection.execute(
                        "INSERT INTO logs (log_id, position) VALUES (?, ?) "
                        "ON CONFLICT (log_id) DO UPDATE SET position = excluded.position",
                        (signed(log), position),
                    )
            self._positions[log] = max(self._positions.get(log, 0), position)
            self._inbox_position = max(self._inbox_position, newest)
            self._counts.update(record.kind for record in stored)
            self._usage = self._usage.plus(len(stored), sum(record.size for record in stored))
            self._waiting += waiting - freed
        return ApplyResult(len(stored), duplicates, tuple(conflicts), waiting)

    def _held(self, connection: sqlite3.Connection, record: Record) -> tuple[bytes, int] | None:
        """Digest and log of what is stored under this identity."""
        key = (record.device, signed(record.epoch), signed(record.number), record.kind.value)
        for table in ("inbox", "dropped") if self._dropped else ("inbox",):
            row = connection.execute(
                f"SELECT digest, coalesce(log, 0) FROM {table} "
                "WHERE device = ? AND epoch = ? AND number = ? AND kind = ?",
                key,
            ).fetchone()
            if row is not None:
                return bytes(row[0]), unsigned(int(row[1]))
        return None

    def _insert(self, connection: sqlite3.Connection, record: Record, log: int) -> tuple[int, bool]:
        """Store a record; its place in this edge's own sequence, and whether it waits for its keyframe."""
        if record.payload is None:
            if self._database.blobs.size(record.digest) != record.size:
                raise StoreError(f"the payload of record {record.position} is not here; fetch it first")
            inline = None
        elif content_digest(record.payload) != record.digest or len(record.payload) != record.size:
            raise StoreError(f"record {record.position} does not match its digest; pull it again")
        else:
            inline = self._database.keep(record.digest, record.payload)
        row = log_row(record.position, record.kind, record.identity, record.digest, record.size, record.meta)
        packet = record.kind is RecordKind.PACKET
        source = source_frame(record.meta) if packet else None
        keyframe = keyframe_of(record.meta) if packet else None
        waits = keyframe is not None and not self._has_packet(connection, keyframe.digest)
        cursor = connection.execute(
            f"INSERT INTO inbox ({LOG_COLUMNS}, checksum, source_digest, source_size, keyframe, "
            "keyframe_size, waiting, log, time, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *row,
                source and source.digest,
                source and source.size,
                keyframe and keyframe.digest,
                keyframe and keyframe.size,
                int(waits),
                signed(log),
                int(time.time()),
                inline,
            ),
        )
        return int(cursor.lastrowid or 0), waits

    def _has_packet(self, connection: sqlite3.Connection, digest: bytes) -> bool:
        row = connection.execute(
            "SELECT 1 FROM inbox WHERE digest = :digest AND kind = :kind "
            "UNION ALL SELECT 1 FROM keyframes WHERE digest = :digest LIMIT 1",
            {"digest": digest, "kind": RecordKind.PACKET.value},
        ).fetchone()
        return row is not None

    def _free(self, connection: sqlite3.Connection, keyframe: bytes, newest: int) -> tuple[int, int]:
        """Move the packets that wait for ``keyframe`` to the end of the sequence; their number and its end.

        The trainer and whoever counts read on by position, so they meet each packet once, when it is usable.
        """
        rows = connection.execute(
            "SELECT sequence FROM inbox WHERE keyframe = ? AND waiting = 1 ORDER BY sequence", (keyframe,)
        ).fetchall()
        for place, (sequence,) in enumerate(rows, start=newest + 1):
            connection.execute(
                "UPDATE inbox SET sequence = ?, waiting = 0 WHERE sequence = ?", (place, sequence)
            )
        return len(rows), newest + len(rows)

    def wanted_keyframes(self, limit: int, log_id: int | None = None) -> list[Keyframe]:
        """Keyframes that stored packets wait for."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT keyframe, keyframe_size, max(sequence) AS newest FROM inbox WHERE waiting = 1 "
                "AND (:log IS NULL OR log = :log) GROUP BY keyframe ORDER BY newest DESC LIMIT :limit",
                {"limit": limit, "log": None if log_id is None else signed(log_id)},
            ).fetchall()
        return [Keyframe(bytes(row[0]), int(row[1])) for row in rows]

    def store_keyframe(self, digest: bytes, packet: bytes) -> int:
        """Keep a fetched keyframe."""
        if content_digest(packet) != digest:
            raise StoreError(f"a keyframe does not have the content hash {digest.hex()}; fetch it again")
        with self._database.lock:
            with self._database.writing() as connection:
                self._database.require_room_for([packet])
                if not self._has_packet(connection, digest):
                    connection.execute(
                        "INSERT INTO keyframes (digest, size, packet) VALUES (?, ?, ?)",
                        (digest, len(packet), self._database.keep(digest, packet)),
                    )
                freed, newest = self._free(connection, digest, self._inbox_position)
            self._inbox_position = newest
            self._waiting -= freed
        return freed

    @property
    def waiting_packets(self) -> int:
        """How many stored packets wait for their keyframe."""
        return self._waiting

    def wanted_originals(self, limit: int, log_id: int | None = None) -> list[Original]:
        """Originals of labelled validation packets that are not here."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT source_digest, source_size, max(sequence) AS newest FROM inbox i "
                "WHERE source_digest IS NOT NULL AND (:log IS NULL OR log = :log) "
                "AND NOT EXISTS (SELECT 1 FROM originals o WHERE o.digest = i.source_digest) "
                "AND NOT EXISTS (SELECT 1 FROM outbox f WHERE f.digest = i.source_digest AND f.held_out = 1) "
                "GROUP BY source_digest ORDER BY newest DESC LIMIT :limit",
                {"limit": limit, "log": None if log_id is None else signed(log_id)},
            ).fetchall()
        return [Original(bytes(row[0]), int(row[1])) for row in rows]

    def store_original(self, digest: bytes, image: bytes) -> None:
        """Keep a fetched original."""
        if content_digest(image) != digest:
            raise StoreError(f"an original does not have the content hash {digest.hex()}; fetch it again")
        with self._database.lock:
            with self._database.writing() as connection:
                self._database.require_room_for([image])
                new = connection.execute(
                    "INSERT INTO originals (digest, size, image) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (digest, len(image), self._database.keep(digest, image)),
                ).rowcount
            self._originals += new

    def original_count(self) -> int:
        """Originals that were fetched and are held."""
        return self._originals

    def records(
        self, after: int, limit: int, kinds: Collection[RecordKind] | None = None
    ) -> list[tuple[int, Record]]:
        """Applied records, without payloads."""
        chosen = None if kinds is None else json.dumps([kind.value for kind in kinds])
        records: list[tuple[int, Record]] = []
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT sequence, {LOG_COLUMNS}, checksum FROM inbox WHERE sequence > ? AND waiting = 0 "
                "AND (? IS NULL OR kind IN (SELECT value FROM json_each(?))) ORDER BY sequence LIMIT ?",
                (after, chosen, chosen, limit),
            ).fetchall()
            for sequence, *row, check in rows:
                try:
                    records.append((sequence, record_of(tuple(row), check, None)))
                except StoreCorruptError as error:
                    self._lose(sequence, str(error))
        return records

    def _lose(self, sequence: int, reason: str) -> None:
        """Put a damaged record into quarantine; its place in the sequence is not used again."""
        if self.quarantine.take("inbox", "sequence", sequence, f"at this edge, {reason}"):
            with self._database.reading() as connection:
                held = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM inbox").fetchone()
                waiting = connection.execute("SELECT count(*) FROM inbox WHERE waiting = 1").fetchone()
            self._usage = Usage(int(held[0]), int(held[1]))
            self._waiting = int(waiting[0])

    def count(self, kind: RecordKind) -> int:
        """How many records of a kind were applied."""
        return self._counts[kind]
