"""Retention of an edge's inbox in SQLite, and of the originals of its own frames."""

from __future__ import annotations

import sqlite3

from common.store.records import INLINE_LIMIT_BYTES
from common.store.retention import Entry, Retained, Usage
from common.store.sqlite_inbox import SqliteInbox

__all__ = ["SqliteRetainedInbox"]

UNNEEDED = """
sequence <= :through AND NOT EXISTS (
    SELECT 1 FROM inbox AS later WHERE later.keyframe = inbox.digest AND later.sequence > :through
) AND NOT (
    kind = 'labels' AND EXISTS (
        SELECT 1 FROM inbox AS packet WHERE packet.device = inbox.device AND packet.epoch = inbox.epoch
        AND packet.number = inbox.number / 65536 AND packet.kind = 'packet' AND packet.sequence > :through
    ) AND NOT EXISTS (
        SELECT 1 FROM inbox AS newer WHERE newer.kind = 'labels' AND newer.device = inbox.device
        AND newer.epoch = inbox.epoch AND newer.number > inbox.number
        AND newer.number <= inbox.number | 65535
    )
)
"""
"""Records up to a place that are neither the keyframe nor the newest corrected labels of a later packet."""


class SqliteRetainedInbox(SqliteInbox):
    """An inbox that drops its oldest records as its settings say."""

    _floor = 0
    """What is up to here stays for a later record's sake, beyond the limits, and goes with that."""

    @property
    def usage(self) -> Usage:
        """What the records take."""
        return self._usage

    @property
    def full(self) -> str | None:
        """Why records are refused by retention."""
        return self.retention.refusal(self._usage, 1)

    def retain(self, now: float) -> Retained:
        """Drop a batch of what retention no longer keeps."""
        limit = self._limits.batch_records
        with self._database.lock:
            with self._database.reading() as connection:
                oldest = connection.execute(
                    "SELECT sequence, time, size FROM inbox WHERE sequence > ? AND sequence < ? "
                    "ORDER BY sequence LIMIT ?",
                    (self._floor, self._inbox_position, limit),
                ).fetchall()
                behind = connection.execute(
                    "SELECT count(*), coalesce(sum(size), 0) FROM inbox WHERE sequence <= ?", (self._floor,)
                ).fetchone()
                shortage = self._database.shortage() if self.retention.drops else 0
            entries = [Entry(*row) for row in oldest]
            before = self._usage
            through = self.retention.through(entries, before.plus(-behind[0], -behind[1]), now, shortage)
            records = 0 if through is None else self._drop(through)
            originals = self._drop_own_originals(limit)
            if shortage:
                self._database.shrink()
            more = originals == limit or (through is not None and through == entries[-1].place)
            freed = before.record_bytes - self._usage.record_bytes
            return Retained(records, freed, originals, more)

    def _drop(self, through: int) -> int:
        """Drop the records up to a place of this edge's own sequence; how many went."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT sequence, device, epoch, number, kind, digest, log, size, waiting, keyframe, "
                f"source_digest FROM inbox WHERE {UNNEEDED}",
                {"through": through},
            ).fetchall()
            connection.executemany(
                "INSERT INTO dropped (device, epoch, number, kind, digest, log) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                [row[1:7] for row in rows],
            )
            connection.executemany("DELETE FROM inbox WHERE sequence = ?", [row[:1] for row in rows])
            named, sources = {row[9] for row in rows}, {row[10] for row in rows}
            keyframes = self._drop_fetched(connection, "keyframes", "keyframe", named)
            originals = self._drop_fetched(connection, "originals", "source_digest", sources)
        self._floor = through
        self._dropped = self._dropped or bool(rows)
        self._usage = self._usage.plus(-len(rows), -sum(row[7] for row in rows))
        self._waiting -= sum(row[8] for row in rows)
        self._originals -= len(originals)
        large = [row[5] for row in rows if row[7] > INLINE_LIMIT_BYTES]
        self._database.discard([*large, *keyframes, *originals])
        return len(rows)

    def _drop_fetched(
        self, connection: sqlite3.Connection, table: str, column: str, digests: set[bytes | None]
    ) -> list[bytes]:
        """Drop fetched content that no record names any more; the hashes of what went."""
        gone: list[tuple[bytes]] = []
        for digest in digests - {None}:
            gone += connection.execute(
                f"DELETE FROM {table} WHERE digest = :digest "
                f"AND NOT EXISTS (SELECT 1 FROM inbox WHERE {column} = :digest) RETURNING digest",
                {"digest": digest},
            ).fetchall()
        return [row[0] for row in gone]

    def _drop_own_originals(self, limit: int) -> int:
        """Drop the oldest originals of own frames above their bound; how many went."""
        if self._limits.max_original_bytes is None:
            return 0
        gone: list[tuple[bytes, int]] = []
        with self._database.transaction() as connection:
            held = connection.execute(
                "SELECT coalesce(sum(size), 0) FROM outbox WHERE kept = 1 AND state = 'acknowledged'"
            ).fetchone()
            excess = self.retention.excess_originals(Usage(original_bytes=int(held[0])))
            if excess:
                oldest = connection.execute(
                    "SELECT number, digest, size FROM outbox WHERE kept = 1 AND state = 'acknowledged' "
                    "ORDER BY number LIMIT ?",
                    (limit,),
                ).fetchall()
                for number, digest, size in oldest:
                    connection.execute("UPDATE outbox SET kept = 0, image = NULL WHERE number = ?", (number,))
                    gone.append((digest, size))
                    excess -= size
                    if excess <= 0:
                        break
        self._database.discard(digest for digest, size in gone if size > INLINE_LIMIT_BYTES)
        return len(gone)
