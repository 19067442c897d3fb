"""What can still be read of an edge's damaged database, as a store to go on with.

What cannot be had again is saved: recorded frames that the fog may not have, which frames it has, so that no
source is recorded twice, and images of validation frames. The inbox is pulled again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StoreCorruptError, StoreError
from common.frame import content_digest
from common.store.backup import connect, filling, link_files, store_errors
from common.store.blobs import BlobFolder, sync_folder
from common.store.database import DATABASE_NAME
from common.store.high_water import read_high_water
from common.store.lost_commits import raise_revisions
from common.store.records import INLINE_LIMIT_BYTES
from common.store.rows import checksum, columns_match, unsigned
from common.store.salvage import damaged_source, readable_rows, remove_leftovers
from common.store.schema import APPLICATION_IDS
from common.store.sqlite_edge import SqliteEdgeStore
from common.store.sqlite_outbox import OUTBOX_TYPES

__all__ = ["EdgeSalvage", "salvage_edge"]

PASSED_OVER = 10_000
"""Numbers passed over behind the last one that the marks beside the database know: these are not synced, so
that after a loss of power they may be some 30 seconds old."""

PASSED_OVER_BLINDLY = 1 << 32
"""Numbers passed over without such marks: no device records so many frames, so no lost one had the next."""

STATES = ("waiting", "acknowledged", "refused", "expired")

OUTBOX_COLUMNS = "number, device, epoch, source_key, digest, size, facts"
"""The columns under a frame's checksum."""

OTHER_COLUMNS = ("held_out", "state", "reason", "kept", "priority", "expires")

PASSED = "these numbers are not given out, since frames that could not be read may have had them"

LOST_FRAMES = (
    "these frames of the outbox could not be read from a damaged database; those that the fog did not have "
    "and whose source is gone are lost"
)

NOTHING = "no recorded frame could be read; the sources are recorded anew, as by a new installation"

Row = dict[str, Any]
Progress = Callable[[Iterable[Row]], Iterable[Row]]
"""Passes on frames, and shows how far it has come."""


@dataclass(frozen=True, slots=True)
class EdgeSalvage:
    """What was saved.

    Attributes:
        frames: Recorded frames that are known, with their numbers and sources.
        waiting: Those that the fog may not have, which the node uploads.
        waiting_bytes: Their image bytes.
        corrections: Corrected labels.
        lost: Frames that are known to have been recorded and could not be read.
        next_number: Number of the next frame that is recorded.
        damaged: One sentence for each kind of loss.
    """

    frames: int
    waiting: int
    waiting_bytes: int
    corrections: int
    lost: int
    next_number: int
    damaged: tuple[str, ...]


def salvage_edge(folder: Path, target: Path, progress: Progress = lambda rows: rows) -> EdgeSalvage:
    """Make an edge's store of what a damaged one still holds of its outbox.

    Frames keep their epoch and numbers, so that the fog knows those that it has. The inbox is empty; the
    detector in use comes along.

    Args:
        folder: Of the store; nothing in it is changed.
        target: Made when missing, else empty; put in the place of the damaged folder afterwards.
        progress: Shows how far the frames have come.

    Raises:
        StoreCorruptError: Not even the list of tables can be read.
        StoreError: There is no edge's store, or the new one cannot be written.
    """
    path = folder / DATABASE_NAME
    if not path.is_file():
        raise StoreError(f"there is no store in {folder}; name the configuration of an edge that ran")
    with filling(target):
        SqliteEdgeStore(target, "").close()
        with store_errors(folder), closing(damaged_source(path, target)) as source:
            role = source.execute("PRAGMA application_id").fetchone()[0]
            if role not in (0, APPLICATION_IDS["edge"]):
                raise StoreError(f"{path} is not the store of an edge; a fog's has fog-node salvage")
            with closing(connect(target / DATABASE_NAME)) as copy:
                found = _copy(source, copy, folder, progress)
                copy.commit()
                files = copy.execute(
                    "SELECT digest FROM outbox WHERE kept = 1 AND image IS NULL AND size > ?",
                    (INLINE_LIMIT_BYTES,),
                ).fetchall()
        link_files(folder, target, [row[0] for row in files])
        if (folder / "detector").is_dir():
            shutil.copytree(folder / "detector", target / "detector")
        remove_leftovers(target)
        with SqliteEdgeStore(target, "") as store:
            # Opening it has looked at every page.
            state = store.outbox_state()
        _sync(target)
    return EdgeSalvage(
        frames=found["frames"],
        waiting=state.waiting,
        waiting_bytes=state.waiting_bytes,
        corrections=found["corrections"],
        lost=found["lost"],
        next_number=state.recorded,
        damaged=_sentences(found),
    )


def _copy(
    source: sqlite3.Connection, copy: sqlite3.Connection, folder: Path, progress: Progress
) -> Counter[str]:
    """Copy the sound rows; how many of each kind were, and were not."""
    found: Counter[str] = Counter()
    blobs, told = BlobFolder(folder / "blobs"), _told(source)
    expected, epoch = 0, None
    for row in progress(_frames(source, found)):
        if not _usable(row, blobs, found):
            continue
        names = ", ".join(row)
        values = ", ".join("?" for _ in row)
        inserted = copy.execute(
            f"INSERT OR IGNORE INTO outbox ({names}) VALUES ({values})", tuple(row.values())
        )
        if not inserted.rowcount:
            found["bad"] += 1
            continue
        found["frames"] += 1
        epoch = row["epoch"]
        found["lost"] += _note(copy, told, expected, row["number"], LOST_FRAMES)
        expected = row["number"] + 1
    if epoch is None:
        # Without a single sound frame the new epoch, which was drawn when the store was made, is right.
        return found
    copy.execute("INSERT OR REPLACE INTO state (key, value) VALUES ('epoch', ?)", (epoch,))
    marks = read_high_water(folder)
    known = marks is not None and marks.store == unsigned(epoch)
    reached = max(expected, marks.marks[0] if marks is not None and known else 0)
    found["lost"] += _note(copy, told, expected, reached, LOST_FRAMES)
    _note(copy, [], reached, reached + (PASSED_OVER if known else PASSED_OVER_BLINDLY), PASSED)
    if _columns(source, "corrections"):
        for correction in readable_rows(
            source, "corrections", "rowid, revision, labels, checksum, state, reason"
        ):
            number, revision, labels, check, *_ = correction
            if checksum(number, revision, labels) != check:
                found["bad corrections"] += 1
                continue
            found["corrections"] += copy.execute(
                "INSERT INTO corrections (number, revision, labels, checksum, state, reason) "
                "SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM outbox WHERE number = ?)",
                (*correction, number),
            ).rowcount
    # Those that could not be read may have had greater revisions.
    raise_revisions(copy, marks.marks[2] if marks is not None and known else found["bad corrections"])
    return found


def _frames(source: sqlite3.Connection, found: Counter[str]) -> Iterable[Row]:
    """Rows of the outbox whose columns are sound, as the newest schema has them."""
    present = _columns(source, "outbox")
    if not present:
        raise StoreCorruptError(
            "the table outbox is gone from the damaged database; move the folder away and start the node anew"
        )
    columns = [*OUTBOX_COLUMNS.split(", "), "checksum", "image"]
    columns += [name for name in OTHER_COLUMNS if name in present]
    # Of a damaged definition the key may be no other name of the rowid any more.
    fields = ", ".join(["rowid", *("rowid" if name == "number" else name for name in columns)])
    for _, *values in readable_rows(source, "outbox", fields):
        row = dict(zip(columns, values, strict=True))
        if columns_match(values[: len(OUTBOX_TYPES)], row["checksum"], OUTBOX_TYPES):
            yield row
        else:
            found["bad"] += 1


def _usable(row: Row, blobs: BlobFolder, found: Counter[str]) -> bool:
    """See that what no checksum covers makes sense, and that an image that is to be sent is there.

    A frame that waits without its image is left out: a source that still has it records it anew.
    """
    if row["state"] not in STATES:
        # The fog knows its identity if it has it.
        row["state"] = "waiting"
    if row["state"] == "refused":
        row["reason"] = row["reason"] if isinstance(row["reason"], str) else "the reason was lost"
    row["held_out"] = int(row["held_out"] == 1)
    if not isinstance(row.get("priority", 0), int):
        row["priority"] = 0
    if not isinstance(row.get("expires"), float | None):
        row["expires"] = None
    whole = _has_image(row, blobs)
    if row["state"] == "waiting" and not whole:
        found["without image"] += 1
        return False
    wanted = row["state"] == "waiting" or (row["state"] == "acknowledged" and row["held_out"] == 1)
    row["kept"] = int(wanted and whole)
    if not row["kept"]:
        row["image"] = None
    return True


def _has_image(row: Row, blobs: BlobFolder) -> bool:
    if row["image"] is not None:
        return isinstance(row["image"], bytes) and content_digest(row["image"]) == row["digest"]
    if row["size"] <= INLINE_LIMIT_BYTES or blobs.size(row["digest"]) is None:
        return False
    try:
        blobs.verify(row["digest"])
    except StoreCorruptError:
        return False
    return True


def _note(copy: sqlite3.Connection, told: Sequence[tuple[int, int]], first: int, end: int, why: str) -> int:
    """Put a hole in the numbers into quarantine, behind which the store goes on; how many were not told."""
    if first >= end:
        return 0
    copy.execute(
        "INSERT OR IGNORE INTO quarantine (source, place, last, time, reason, facts) "
        "VALUES ('outbox', ?, ?, strftime('%s', 'now'), ?, '{}')",
        (first, end - 1, why),
    )
    before = sum(max(0, min(end - 1, last) - max(first, place) + 1) for place, last in told)
    return max(0, end - first - before)


def _told(source: sqlite3.Connection) -> list[tuple[int, int]]:
    """Numbers (first, last) that the store has passed over, or lost, before."""
    if "last" not in _columns(source, "quarantine"):
        return []
    try:
        rows = source.execute("SELECT place, last FROM quarantine WHERE source = 'outbox'").fetchall()
    except sqlite3.DatabaseError:
        return []
    return [(place, last) for place, last in rows if isinstance(place, int) and isinstance(last, int)]


def _columns(source: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in source.execute(f"PRAGMA table_info({table})")}


def _sentences(found: Counter[str]) -> tuple[str, ...]:
    told = (
        ("bad", "rows of the outbox were damaged and are left out"),
        ("without image", "frames that wait for the fog have lost their image and are left out"),
        ("bad corrections", "corrected labels were damaged and are left out"),
        ("lost", "numbers have no frame that can be read; what the fog has of them it keeps"),
    )
    sentences = tuple(f"{found[kind]} {words}" for kind, words in told if found[kind])
    return sentences if found["frames"] else (*sentences, NOTHING)


def _sync(target: Path) -> None:
    """Make the new store durable before the damaged one is given up."""
    with store_errors(target):
        for path in target.rglob("*"):
            if path.is_dir():
                sync_folder(path)
                continue
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(target)
