"""Commits that a database has lost without knowing it: found by the marks beside it, and told of.

Positions, arrivals, frame numbers and places of the inbox that were given once are not given again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

from common.store.corrections import LAST_REVISION
from common.store.database import Database
from common.store.high_water import HighWater
from common.store.rows import unsigned
from common.store.schema import Role

__all__ = ["REVISIONS", "REVISION_FLOOR", "keep_marks", "raise_revisions", "tell_lost_commits"]

IDS: Mapping[Role, str] = {"fog": "log_id", "edge": "epoch"}
"""The number in the table ``state`` that tells one store from another."""

REVISIONS, REVISION_FLOOR = "revisions", "revision_floor"
"""Numbers in an edge's table ``state``: corrections of labels ever made; what the next revision is above."""

REACHED: Mapping[Role, str] = {
    "fog": "SELECT max(coalesce((SELECT max(position) FROM log), 0), "
    "coalesce((SELECT value FROM state WHERE key = 'trimmed'), 0)), "
    "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'frames'), 0), 0",
    "edge": "SELECT coalesce((SELECT max(number) + 1 FROM outbox), 0), "
    "max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0), "
    "coalesce((SELECT max(sequence) FROM inbox), 0)), "
    f"coalesce((SELECT value FROM state WHERE key = '{REVISIONS}'), 0)",
}
"""How far a database has come, as its marks; asked after every commit."""

GONE = "were committed and are gone: the end of the write-ahead log was damaged or cut off"


@dataclass(frozen=True, slots=True)
class _Row:
    """What a mark counts.

    Attributes:
        source: Its table.
        base: What the mark is when there is none: positions start at 1, frame numbers at 0.
        numbered: Whether SQLite gives the numbers, which then go on behind the lost ones.
        what: Of the sentence, with the first and last number.
        then: The rest of the sentence.
    """

    source: str
    base: int
    numbered: bool
    what: str
    then: str


ROWS: Mapping[Role, tuple[_Row, ...]] = {
    "fog": (
        _Row("log", 1, False, "records (positions {} to {})", "readers get a gap record for them"),
        _Row(
            "frames",
            1,
            True,
            "acknowledged uploads (arrivals {} to {})",
            "those that their edge has not noted as acknowledged come again, the others are lost here",
        ),
    ),
    "edge": (
        _Row(
            "outbox",
            0,
            False,
            "recorded frames (numbers {} to {})",
            "what their sources still have is recorded again, under new numbers",
        ),
        _Row("inbox", 1, True, "received records (places {} to {})", "they are pulled again"),
        _Row(
            "corrections",
            1,
            False,
            "corrections of labels ({} to {})",
            "what their sources say is sent again, under greater revisions",
        ),
    ),
}

_log = logging.getLogger(__name__)


def tell_lost_commits(database: Database) -> None:
    """Put what the marks know and the database does not into quarantine; in the first transaction.

    Args:
        database: Of a writer, before anything else has read it.
    """
    store, found = database.state(IDS[database.role]), database.high_water
    if store is None or found is None or found.store != unsigned(store):
        return
    connection = database.connection
    reached = _reached(connection, database.role)
    for row, here, mark in zip(ROWS[database.role], reached, found.marks, strict=False):
        noted = connection.execute(
            "SELECT max(coalesce(last, place)) FROM quarantine WHERE source = ?", (row.source,)
        ).fetchone()[0]
        first = max(here, 0 if noted is None else noted + 1 - row.base) + row.base
        last = mark + row.base - 1
        if last >= first:
            _tell(connection, row, first, last)
            if row.source == "corrections":
                database.set_state(REVISIONS, last)
                raise_revisions(connection, last - first + 1)


def raise_revisions(connection: sqlite3.Connection, lost: int) -> None:
    """Let an edge's next revisions be beyond those of so many corrections that were lost."""
    connection.execute(
        "INSERT INTO state (key, value) "
        "SELECT ?, min(?, coalesce(max(revision), 0) + ?) FROM corrections WHERE true "
        "ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
        # There must be revisions left.
        (REVISION_FLOOR, LAST_REVISION // 2, lost),
    )


def keep_marks(database: Database) -> None:
    """Set the marks after every commit from now on."""
    store, role = database.state(IDS[database.role]), database.role
    if store is None:
        return
    identity, high = unsigned(store), (0, 0, 0)
    if (found := database.high_water) is not None and found.store == identity:
        high = found.marks

    def measure() -> HighWater:
        nonlocal high
        first, second, third = _reached(database.connection, role)
        # Numbers that were lost stay given, until the database is beyond them.
        high = max(high[0], first), max(high[1], second), max(high[2], third)
        return HighWater(identity, high)

    database.measure = measure


def _reached(connection: sqlite3.Connection, role: Role) -> tuple[int, int, int]:
    first, second, third = connection.execute(REACHED[role]).fetchone()
    return int(first), int(second), int(third)


def _tell(connection: sqlite3.Connection, row: _Row, first: int, last: int) -> None:
    sentence = f"{last - first + 1} {row.what.format(first, last)} {GONE}; {row.then}"
    connection.execute(
        "INSERT INTO quarantine (source, place, last, time, reason, facts) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (row.source, first, last, int(time.time()), sentence, json.dumps({"lost": last - first + 1})),
    )
    if row.numbered:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (row.source,))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (row.source, last))
    _log.error("%s", sentence)
