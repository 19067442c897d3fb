"""What can still be read of a fog's damaged database, as a backup that is then restored."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import StoreCorruptError, StoreError
from common.frame import content_digest
from common.store.backup import (
    FRAME_COLUMNS,
    BackupSummary,
    Progress,
    connect,
    filling,
    link_files,
    store_errors,
    verify,
    write_manifest,
)
from common.store.blobs import BlobFolder
from common.store.database import DATABASE_NAME
from common.store.high_water import HighWater, read_high_water
from common.store.log_rows import LOG_COLUMNS, columns_sound
from common.store.records import INLINE_LIMIT_BYTES
from common.store.rows import columns_match, unsigned
from common.store.schema import APPLICATION_IDS
from common.store.sqlite_fog import SqliteFogStore
from common.store.sqlite_uploads import FRAME_TYPES

__all__ = ["damaged_source", "readable_rows", "remove_leftovers", "salvage"]

LAST_ROW = 2**62
"""No row of a sound store is beyond this."""

HEADER_BYTES = 100
PAGE_SIZE_AT = 16
PAGES_AT = 28
"""SQLite's header, and where in it a page's size (2 bytes) and the number of pages (4) are, big-endian."""

MOST_PADDED_BYTES = 1 << 44
"""A number of pages beyond this is damage itself."""

PADDED_NAME = "padded.sqlite3"
"""The copy, while it is read."""

MOST_LOST = 10_000_000
"""A number of the newest upload or position that is further beyond what was read is damage itself."""

LOST_UPLOADS = (
    "these uploads could not be read from a damaged database; those without a record in the log are lost"
)

LOST = "this record could not be read from a damaged database; its frame is lost at this fog"


@dataclass(frozen=True, slots=True)
class _Table:
    """A table that is salvaged row by row."""

    name: str
    key: str
    columns: str
    sound: Callable[[tuple[Any, ...], bytes, Any], bool]
    content: str


def salvage(folder: Path, target: Path, progress: Progress = lambda files: files) -> BackupSummary:
    """Copy every sound record and upload of a damaged store into a backup.

    Args:
        folder: Of the store; nothing in it is changed.
        target: Made when missing, else empty.
        progress: Shows how far the files have come.

    Raises:
        StoreCorruptError: Not even the list of tables can be read.
        StoreError: There is no fog's store, or the copy cannot be written.
    """
    path = folder / DATABASE_NAME
    if not path.is_file():
        raise StoreError(f"there is no store in {folder}; name the configuration of a fog that ran")
    with filling(target):
        SqliteFogStore(target).close()
        with store_errors(folder), closing(damaged_source(path, target)) as source:
            role = source.execute("PRAGMA application_id").fetchone()[0]
            if role not in (0, APPLICATION_IDS["fog"]):
                raise StoreError(f"{path} is not the store of a fog; only a fog's store is salvaged")
            with closing(connect(target / DATABASE_NAME)) as copy:
                lost = _copy(source, copy, _marks(source, folder))
                copy.commit()
                digests = copy.execute("SELECT digest FROM frames UNION SELECT digest FROM log").fetchall()
                copy.execute("PRAGMA journal_mode = DELETE")
        link_files(folder, target, [row[0] for row in digests])
        remove_leftovers(target)
        summary = verify(target, BlobFolder(target / "blobs"), progress)
        summary = replace(summary, damaged=(*summary.damaged, *lost))
        write_manifest(target, summary)
    return summary


def damaged_source(path: Path, target: Path) -> sqlite3.Connection:
    """Connect to a damaged database; to a copy with zeros where its end is gone, or SQLite refuses it."""
    with path.open("rb") as handle:
        head = handle.read(HEADER_BYTES)
    page = int.from_bytes(head[PAGE_SIZE_AT : PAGE_SIZE_AT + 2], "big")
    size = int.from_bytes(head[PAGES_AT : PAGES_AT + 4], "big") * page
    if path.stat().st_size < size <= MOST_PADDED_BYTES:
        padded = target / PADDED_NAME
        shutil.copyfile(path, padded)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            shutil.copyfile(log, padded.with_name(f"{PADDED_NAME}-wal"))
        with padded.open("rb+") as handle:
            handle.truncate(size)
        path = padded
    source = connect(path, "rw" if path.name == PADDED_NAME else "ro")
    source.isolation_level = None
    return source


def remove_leftovers(target: Path) -> None:
    """Remove what the work has left beside the copy."""
    for leftover in ("lock", PADDED_NAME, f"{PADDED_NAME}-wal", f"{PADDED_NAME}-shm"):
        (target / leftover).unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, reached: HighWater) -> list[str]:
    """Copy the sound rows; one sentence for each table of which some were not."""
    sentences: list[str] = []
    for table in TABLES:
        present = {row[1] for row in source.execute(f"PRAGMA table_info({table.name})")}
        if not present:
            raise StoreCorruptError(
                f"the table {table.name} is gone from the damaged database; restore a backup"
            )
        wanted = [row[1] for row in copy.execute(f"PRAGMA table_info({table.name})") if row[1] in present]
        count = len(table.columns.split(", "))
        columns = [*table.columns.split(", "), "checksum", table.content]
        columns += [name for name in wanted if name not in (*columns, table.key)]
        # Of a damaged definition the key may be no other name of the rowid any more.
        fields = ", ".join(["rowid", *("rowid" if name == table.key else name for name in columns)])
        bad = 0
        for row in readable_rows(source, table.name, fields):
            values = dict(zip(columns, row[1:], strict=True))
            if not table.sound(row[1 : 1 + count], row[1 + count], row[2 + count]):
                bad += 1
                continue
            values[table.key] = row[0]
            names = ", ".join(values)
            marks = ", ".join("?" for _ in values)
            bad += (
                1
                - copy.execute(
                    f"INSERT OR IGNORE INTO {table.name} ({names}) VALUES ({marks})", tuple(values.values())
                ).rowcount
            )
        if bad:
            sentences.append(f"{bad} rows of the table {table.name} were damaged and are left out")
    first = copy.execute("SELECT min(position) FROM log").fetchone()[0]
    trimmed = _trimmed(source, first or 1)
    copy.execute("INSERT OR REPLACE INTO state (key, value) VALUES ('trimmed', ?)", (trimmed,))
    lost = _note_lost(copy, trimmed, reached.marks[0])
    if lost:
        sentences.append(f"{lost} positions of the log are lost; readers get gap records for them")
    uploads = _note_lost_uploads(source, copy, reached.marks[1])
    if uploads:
        sentences.append(f"{uploads} uploads could not be read and have no record in the log; they are lost")
    return sentences


def _marks(source: sqlite3.Connection, folder: Path) -> HighWater:
    """How far the store had come, by the marks beside it; a damaged database may not tell whose it is."""
    marks = read_high_water(folder) or HighWater(0, (0, 0, 0))
    try:
        row = source.execute("SELECT value FROM state WHERE key = 'log_id'").fetchone()
    except sqlite3.DatabaseError:
        row = None
    other = row is not None and isinstance(row[0], int) and unsigned(row[0]) != marks.store
    return HighWater(0, (0, 0, 0)) if other else marks


def _note_lost_uploads(source: sqlite3.Connection, copy: sqlite3.Connection, reached: int) -> int:
    """Put every hole in the order of uploads into quarantine; how many of them have no record either."""
    try:
        row = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'frames'").fetchone()
        newest = 0 if row is None else row[0]
    except sqlite3.DatabaseError:
        newest = 0
    arrivals = [row[0] for row in copy.execute("SELECT arrival FROM frames ORDER BY arrival")]
    last = max([0, *arrivals])
    newest = max(newest, reached) if isinstance(newest, int) else reached
    if last < newest < last + MOST_LOST:
        last = newest
        # A number that was given once is not given again.
        copy.execute("DELETE FROM sqlite_sequence WHERE name = 'frames'")
        copy.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('frames', ?)", (last,))
    holes, expected = 0, 1
    for arrival in [*arrivals, last + 1]:
        if arrival > expected:
            copy.execute(
                "INSERT OR IGNORE INTO quarantine (source, place, last, time, reason, facts) "
                "VALUES ('frames', ?, ?, strftime('%s', 'now'), ?, '{}')",
                (expected, arrival - 1, LOST_UPLOADS),
            )
            holes += arrival - expected
        expected = arrival + 1
    recorded = copy.execute(
        "SELECT count(*) FROM log WHERE kind IN ('packet', 'tombstone') AND NOT EXISTS (SELECT 1 FROM frames "
        "WHERE frames.device = log.device AND frames.epoch = log.epoch AND frames.number = log.number)"
    ).fetchone()[0]
    return max(0, holes - int(recorded))


def _trimmed(source: sqlite3.Connection, first: int) -> int:
    """Last position that retention dropped; what is behind the first record read when that is unreadable."""
    try:
        row = source.execute("SELECT value FROM state WHERE key = 'trimmed'").fetchone()
        value = 0 if row is None else row[0]
    except sqlite3.DatabaseError:
        value = first - 1
    return value if isinstance(value, int) and 0 <= value < LAST_ROW else first - 1


def _note_lost(copy: sqlite3.Connection, trimmed: int, reached: int) -> int:
    """Put every hole in the log into quarantine, so that readers are told; how many positions."""
    lost, expected = 0, trimmed + 1
    finished = copy.execute("SELECT coalesce(max(position), 0) FROM frames").fetchone()[0]
    positions = [row[0] for row in copy.execute("SELECT position FROM log WHERE position > ?", (trimmed,))]
    newest = max([finished, trimmed, *positions])
    if newest < reached < newest + MOST_LOST:
        newest = reached
    for position in [*positions, newest + 1]:
        if position > expected:
            copy.execute(
                "INSERT OR IGNORE INTO quarantine (source, place, last, time, reason, facts) "
                "VALUES ('log', ?, ?, strftime('%s', 'now'), ?, '{}')",
                (expected, position - 1, LOST),
            )
            lost += position - expected
        expected = position + 1
    return lost


def readable_rows(source: sqlite3.Connection, table: str, fields: str) -> Iterator[tuple[Any, ...]]:
    """Every row that can be read, in order, past those that cannot."""
    query = f"SELECT {fields} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT 1"
    after = -1
    while after < LAST_ROW:
        try:
            row = source.execute(query, (after,)).fetchone()
        except sqlite3.Error:
            after = _beyond(source, query, after)
            continue
        if row is None or not isinstance(row[0], int) or row[0] <= after:
            return
        yield row
        after = row[0]


def _beyond(source: sqlite3.Connection, query: str, after: int) -> int:
    """The least row number behind which something can be read again."""

    def readable(place: int) -> bool:
        try:
            source.execute(query, (place,)).fetchone()
        except sqlite3.Error:
            return False
        return True

    step = 1
    while not readable(after + step):
        step *= 2
        if after + step >= LAST_ROW:
            return LAST_ROW
    low, high = after + step // 2, after + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if readable(middle) else (middle, high)
    return high


def _record_sound(row: tuple[Any, ...], check: bytes, payload: Any) -> bool:
    if not columns_sound(row, check):
        return False
    if isinstance(payload, bytes):
        return bool(content_digest(payload) == row[5])
    return bool(row[6] > INLINE_LIMIT_BYTES)


def _frame_sound(row: tuple[Any, ...], check: bytes, image: Any) -> bool:
    whole = not isinstance(image, bytes) or content_digest(image) == row[4]
    return bool(whole) and columns_match(row, check, FRAME_TYPES)


TABLES = (
    _Table("frames", "arrival", FRAME_COLUMNS, _frame_sound, "image"),
    _Table("log", "position", LOG_COLUMNS, _record_sound, "payload"),
)
"""The tables that hold what cannot be had again."""
