"""What was found damaged: moved out of the way of what is sound, told once, and kept to be looked at."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import StoreError
from common.store.content import ContentDatabase

__all__ = ["Damage", "Quarantine", "QuarantineState"]

CONTENT_COLUMNS = ("payload", "image", "packet")
"""Columns that hold content rather than facts about it."""

MOST_TOLD = 1000
"""Items that stay where they are and are told of, at most."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QuarantineState:
    """How much was found damaged since the store was made.

    Attributes:
        items: Rows and files in quarantine.
        latest: What the newest one is and why it is there, in one sentence; empty when there is none.
    """

    items: int = 0
    latest: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """One item in quarantine.

    Attributes:
        source: The table that it was found in, or ``blobs``.
        place: Its key there: a position, an arrival, a frame number, or a file's hash in hex.
        last: Last position of a range of the log that could not be read at all; None for one item.
        time: When it was found, seconds since 1970.
        reason: One sentence.
        facts: The columns as they were read, text and numbers; bytes in hex.
        content: Its bytes as they were read, if they were kept.
    """

    source: str
    place: int | str
    last: int | None
    time: int
    reason: str
    facts: Mapping[str, Any]
    content: bytes | None


class Quarantine:
    """The table ``quarantine`` and the folder of that name.

    Args:
        database: The store's, in its first transaction.
        max_bytes: Content kept at most; of what comes after, the facts only.
    """

    def __init__(self, database: ContentDatabase, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._folder = database.folder / "quarantine"
        self._told: set[str] = set()
        with database.reading() as connection:
            count, size, lost = connection.execute(
                "SELECT count(*), coalesce(sum(length(content)), 0), "
                "max(coalesce(last, place)) FILTER (WHERE source = 'log') FROM quarantine"
            ).fetchone()
            latest = connection.execute("SELECT reason FROM quarantine ORDER BY id DESC LIMIT 1").fetchone()
        self._bytes = int(size)
        self._state = QuarantineState(int(count), "" if latest is None else str(latest[0]))
        self._last_position = int(lost or 0)

    @property
    def state(self) -> QuarantineState:
        """How much there is."""
        return self._state

    @property
    def last_position(self) -> int:
        """Greatest position of the log that is in here; it is not used again."""
        return self._last_position

    def take(
        self,
        table: str,
        key: str,
        place: int,
        reason: str,
        *,
        remove: bool = True,
        columns_sound: bool = False,
    ) -> bool:
        """Put a row in; a transaction of its own.

        Args:
            table: Where it is.
            key: Name of the column that finds it.
            place: Value of that column.
            reason: One sentence.
            remove: Whether it leaves its table; else a copy is put in, once.
            columns_sound: Whether only its content is damaged; else its table's indexes are made anew, since
                they may hold other columns than the row.

        Returns:
            Whether it is in quarantine now; False while there is no room, or it cannot be written.
        """
        try:
            with self._database.lock:
                with self._database.transaction() as connection:
                    cursor = connection.execute(f"SELECT * FROM {table} WHERE {key} = ?", (place,))
                    row = cursor.fetchone()
                    if row is None:
                        return True
                    columns = dict(zip([entry[0] for entry in cursor.description], row, strict=True))
                    content = next((columns.pop(name) for name in CONTENT_COLUMNS if name in columns), None)
                    size = self._insert(table, place, None, reason, columns, content)
                    if remove:
                        _delete(connection, f"DELETE FROM {table} WHERE {key} = ?", place)
                        if not columns_sound:
                            connection.execute(f"REINDEX {table}")
                self._taken(size, reason, place if table == "log" else 0)
        except StoreError as error:
            self._stays(reason, error)
            return False
        return True

    def take_file(self, digest: bytes, reason: str) -> bool:
        """Move a file of content here; the rows that refer to it are the caller's."""
        name = digest.hex()
        try:
            with self._database.lock, self._database.errors():
                with self._database.transaction():
                    size = self._insert("blobs", name, None, reason, {}, None)
                path = self._database.blobs.path(digest)
                if path.exists():
                    self._folder.mkdir(exist_ok=True)
                    if self._folder_bytes() + path.stat().st_size <= self._max_bytes:
                        path.replace(self._folder / name)
                    else:
                        path.unlink()
                self._taken(size, reason, 0)
        except StoreError as error:
            self._stays(reason, error)
            return False
        return True

    def note_lost(self, first: int, last: int, reason: str) -> None:
        """Note positions of the log that are lost; within a transaction of the caller."""
        self._insert("log", first, last, reason, {}, None)
        self._last_position = max(self._last_position, last)

    def gaps(self, after: int, through: int, limit: int) -> list[tuple[int, int, str]]:
        """(first, last, reason) of positions of the log that are in here, in order; under the lock."""
        rows = self._database.connection.execute(
            "SELECT place, coalesce(last, place), reason FROM quarantine "
            "WHERE source = 'log' AND coalesce(last, place) > ? AND place <= ? ORDER BY place LIMIT ?",
            (after, through, limit),
        ).fetchall()
        return [(max(first, after + 1), min(last, through), reason) for first, last, reason in rows]

    def items(self, limit: int) -> list[Damage]:
        """The newest items."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT source, place, last, time, reason, facts, content FROM quarantine "
                "ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            Damage(source, place, last, found, reason, json.loads(facts), content)
            for source, place, last, found, reason, facts, content in rows
        ]

    def _insert(
        self,
        source: str,
        place: int | str,
        last: int | None,
        reason: str,
        facts: Mapping[str, Any],
        content: object,
    ) -> int | None:
        """Bytes of content kept; None when the item was in here before."""
        raw = content if isinstance(content, bytes) else None
        if raw is not None and self._bytes + len(raw) > self._max_bytes:
            raw = None
        plain = {name: _plain(value) for name, value in facts.items()}
        new = self._database.connection.execute(
            "INSERT INTO quarantine (source, place, last, time, reason, facts, content) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (source, place, last, int(time.time()), reason, json.dumps(plain), raw),
        ).rowcount
        return len(raw or b"") if new else None

    def _taken(self, size: int | None, reason: str, position: int) -> None:
        self._last_position = max(self._last_position, position)
        if size is None:
            return
        self._bytes += size
        self._state = QuarantineState(self._state.items + 1, reason)
        _log.error("damaged and put into quarantine: %s", reason)

    def _stays(self, reason: str, error: StoreError) -> None:
        """It cannot be put in here now; that is told once."""
        if reason not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(reason)
            _log.error("damaged, and cannot be put into quarantine: %s; %s", reason, error)

    def _folder_bytes(self) -> int:
        return sum(entry.stat().st_size for entry in os.scandir(self._folder))


def _delete(connection: sqlite3.Connection, statement: str, place: int) -> None:
    """Delete a row even where an index does not hold its columns."""
    try:
        connection.execute(statement, (place,))
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        # SQLite misses the row in an index, and deletes it all the same only in this mode.
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute(statement, (place,))
        finally:
            connection.execute("PRAGMA writable_schema = OFF")


def _plain(value: object) -> object:
    """A column as JSON holds it; text that is no text keeps its bytes as escapes."""
    return value.hex() if isinstance(value, bytes) else value
