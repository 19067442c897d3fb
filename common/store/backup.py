"""Copies of a fog's store: of a running one, of what a damaged one still holds, and back again."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.errors import StoreCorruptError, StoreError, reason
from common.frame import content_digest
from common.store.blobs import BlobFolder, durable_folder, sync_folder
from common.store.database import (
    DATABASE_NAME,
    UNREADABLE_SCHEMA,
    damaged_sentence,
    lock_folder,
    store_error,
)
from common.store.log_rows import LOG_COLUMNS, columns_sound
from common.store.records import INLINE_LIMIT_BYTES
from common.store.rows import columns_match, signed, unsigned
from common.store.schema import APPLICATION_IDS, SCHEMAS
from common.store.sqlite_uploads import FRAME_TYPES

__all__ = [
    "FRAME_COLUMNS",
    "MANIFEST_NAME",
    "BackupSummary",
    "Progress",
    "back_up",
    "connect",
    "filling",
    "link_files",
    "restore",
    "store_errors",
    "verify",
    "write_manifest",
]

MANIFEST_NAME = "backup.json"
"""Written last: a folder without it holds no whole backup."""

FORMAT = 1
"""Version of the manifest."""

ATTEMPTS = 5
"""Snapshots tried when files that one refers to were dropped before they were linked."""

FILES = """
SELECT digest FROM frames WHERE kept = 1 AND image IS NULL AND size > :limit
UNION SELECT digest FROM log WHERE payload IS NULL AND size > :limit
"""
"""Hashes of the files that a snapshot refers to."""

FRAME_COLUMNS = "device, epoch, number, fingerprint, digest, size, facts"
"""The columns under a frame's checksum."""

Progress = Callable[[Iterable[bytes]], Iterable[bytes]]
"""Passes on hashes of files, and shows how far it has come."""


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What a backup holds.

    Attributes:
        log_id: Id of the log that was copied; a restored store draws a new one.
        position: Newest position of its log.
        records: Records in the log.
        frames: Uploads known, encoded or waiting.
        waiting: Those that wait to be encoded.
        files: Files of large content.
        bytes: Of the database and the files.
        damaged: One sentence for each item that was damaged in the store, and is so in the backup.
        time: When the snapshot was taken, seconds since 1970.
    """

    log_id: int
    position: int
    records: int
    frames: int
    waiting: int
    files: int
    bytes: int
    damaged: tuple[str, ...]
    time: int


def back_up(folder: Path, target: Path, progress: Progress = lambda files: files) -> BackupSummary:
    """Copy a fog's store, which may be in use, into an empty folder; the copy is verified.

    Args:
        folder: Of the store.
        target: Made when missing.
        progress: Shows how far the files have come.

    Raises:
        StoreError: There is no fog's store, the target is not empty, or the copy cannot be written.
        StoreCorruptError: The database cannot be copied.
    """
    if not (folder / DATABASE_NAME).is_file():
        raise StoreError(f"there is no store in {folder}; name the configuration of a fog that ran")
    with filling(target):
        blobs = BlobFolder(target / "blobs")
        for attempt in range(ATTEMPTS):
            with _snapshot(folder) as source:
                # Links keep what the running node drops meanwhile, in a moment whatever the size.
                missing = link_files(folder, target, _files(source))
                if not missing or attempt == ATTEMPTS - 1:
                    with closing(connect(target / DATABASE_NAME)) as copy:
                        source.backup(copy)
                        copy.execute("PRAGMA journal_mode = DELETE")
                        wanted = _files(copy)
                    break
        for path in (target / "blobs").glob("??/*"):
            if bytes.fromhex(path.name) not in wanted:
                path.unlink()
        summary = verify(target, blobs, progress)
        write_manifest(target, summary)
    return summary


def restore(backup: Path, folder: Path, progress: Progress = lambda files: files) -> BackupSummary:
    """Make a fog's store of a backup, with a new log id, in a folder that holds none.

    Edges may have seen positions beyond the backup's end, which will be used for other records: only with
    another id do they read the log from its beginning again, and they store each record once all the same.

    Raises:
        StoreError: There is no whole backup, the folder holds a store, or it cannot be written.
        StoreCorruptError: The backup is damaged beyond what its manifest says.
    """
    expected = _manifest(backup)
    durable_folder(folder)
    with lock_folder(folder), store_errors(folder):
        # SQLite would take a write-ahead log that was left behind for that of the restored database.
        if any((folder / f"{DATABASE_NAME}{end}").exists() for end in ("", "-wal", "-journal")):
            raise StoreError(
                f"{folder} holds a store already, or the write-ahead log of one; move the whole folder away "
                f"or name another, then restore again"
            )
        _check_version(backup / DATABASE_NAME)
        blobs = BlobFolder(folder / "blobs")
        for path in progress([bytes.fromhex(path.name) for path in sorted((backup / "blobs").glob("??/*"))]):
            blobs.write(path, BlobFolder(backup / "blobs").path(path).read_bytes())
        part = folder / f"{DATABASE_NAME}.part"
        shutil.copyfile(backup / DATABASE_NAME, part)
        with closing(connect(part)) as connection:
            connection.execute(
                "UPDATE state SET value = ? WHERE key = 'log_id'", (signed(secrets.randbits(64)),)
            )
            connection.commit()
        summary = _checked(part, blobs)
        if (summary.position, summary.records, summary.frames) != (
            expected.position,
            expected.records,
            expected.frames,
        ) or set(summary.damaged) - set(expected.damaged):
            part.unlink()
            raise StoreCorruptError(f"the backup {backup} is damaged; restore another one")
        _sync(part)
        part.replace(folder / DATABASE_NAME)
        sync_folder(folder)
    return summary


def _check_version(database: Path) -> None:
    """Refuse a backup that this program could not serve afterwards."""
    with closing(connect(database, "ro")) as connection:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = len(SCHEMAS["fog"])
    if version > newest:
        raise StoreError(
            f"the backup {database.parent} has schema version {version}, newer than {newest} which is "
            f"understood here; update this program, then restore again"
        )


def verify(target: Path, blobs: BlobFolder, progress: Progress = lambda files: files) -> BackupSummary:
    """Check a copy from its first row to its last file, and make it durable.

    Raises:
        StoreCorruptError: The database is damaged.
        StoreError: The copy cannot be read or written.
    """
    with store_errors(target):
        summary = _checked(target / DATABASE_NAME, blobs, progress)
        _sync(target / DATABASE_NAME)
        for path in blobs.folder.glob("??/*"):
            _sync(path)
        for place in {blobs.folder, target, *(path.parent for path in blobs.folder.glob("??/*"))}:
            sync_folder(place)
    return summary


def write_manifest(target: Path, summary: BackupSummary) -> None:
    """Say that a backup is whole."""
    with store_errors(target):
        part = target / f"{MANIFEST_NAME}.part"
        part.write_text(json.dumps({"format": FORMAT, "role": "fog", **asdict(summary)}, indent=1) + "\n")
        _sync(part)
        part.replace(target / MANIFEST_NAME)
        sync_folder(target)


def _manifest(backup: Path) -> BackupSummary:
    path = backup / MANIFEST_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("format") != FORMAT or value.pop("role") != "fog":
            raise StoreError(f"{path} is of a version not known here; update this program")
        return BackupSummary(**{**value, "damaged": tuple(value["damaged"])})
    except FileNotFoundError as error:
        raise StoreError(f"{backup} holds no whole backup, for lack of {MANIFEST_NAME}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read: {reason(error)}; restore another backup") from error


def _checked(database: Path, blobs: BlobFolder, progress: Progress = lambda files: files) -> BackupSummary:
    damaged: list[str] = []
    with closing(connect(database)) as connection:
        problems = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if problems != [("ok",)]:
            raise StoreCorruptError(f"the database {database} is damaged: {problems[0][0]}")
        rows = connection.execute(f"SELECT {LOG_COLUMNS}, checksum, payload FROM log ORDER BY position")
        for *row, check, payload in rows:
            inline = isinstance(payload, bytes) and content_digest(payload) == row[5]
            if not columns_sound(tuple(row), check) or (row[6] <= INLINE_LIMIT_BYTES and not inline):
                damaged.append(f"record {row[0]} does not match its checksum")
        frames = connection.execute(f"SELECT {FRAME_COLUMNS}, checksum, kept, image FROM frames")
        for *row, check, kept, image in frames:
            small = isinstance(row[5], int) and row[5] <= INLINE_LIMIT_BYTES
            lacks = bool(kept) and small and not isinstance(image, bytes)
            wrong = isinstance(image, bytes) and content_digest(image) != row[4]
            if not columns_match(row, check, FRAME_TYPES) or wrong or lacks:
                damaged.append(f"frame {row[2]} of device {row[0]} does not match its checksum")
        files = _files(connection)
        for digest in progress(sorted(files)):
            try:
                blobs.verify(digest)
            except StoreCorruptError:
                damaged.append(f"blob {digest.hex()} is missing or damaged")
        figures = connection.execute(
            "SELECT (SELECT value FROM state WHERE key = 'log_id'), "
            "max(coalesce((SELECT max(position) FROM log), 0), "
            "coalesce((SELECT value FROM state WHERE key = 'trimmed'), 0)), "
            "(SELECT count(*) FROM log), (SELECT count(*) FROM frames), "
            "(SELECT count(*) FROM frames WHERE position IS NULL)"
        ).fetchone()
    size = database.stat().st_size + sum(blobs.size(digest) or 0 for digest in files)
    log_id, position, records, uploads, waiting = figures
    return BackupSummary(
        log_id=unsigned(log_id),
        position=position,
        records=records,
        frames=uploads,
        waiting=waiting,
        files=len(files),
        bytes=size,
        damaged=tuple(damaged),
        time=int(time.time()),
    )


def _files(connection: sqlite3.Connection) -> set[bytes]:
    rows = connection.execute(FILES, {"limit": INLINE_LIMIT_BYTES})
    return {row[0] for row in rows if isinstance(row[0], bytes)}


def link_files(folder: Path, target: Path, digests: Iterable[bytes]) -> list[bytes]:
    """Bring files of content over from one store's folder to another's; returns those that are not there."""
    missing: list[bytes] = []
    source, copy = BlobFolder(folder / "blobs"), BlobFolder(target / "blobs")
    for digest in digests:
        if copy.size(digest) is not None:
            continue
        copy.path(digest).parent.mkdir(exist_ok=True)
        try:
            copy.path(digest).hardlink_to(source.path(digest))
        except FileNotFoundError:
            missing.append(digest)
        except OSError:
            # Another file system, or one without links.
            try:
                shutil.copyfile(source.path(digest), copy.path(digest))
            except FileNotFoundError:
                missing.append(digest)
    return missing


@contextmanager
def _snapshot(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees the store as it is now, whatever the node writes meanwhile."""
    path = folder / DATABASE_NAME
    if not os.access(folder, os.W_OK) or not os.access(path, os.W_OK):
        raise StoreError(
            f"a backup reads {folder} beside its node, for which SQLite has to write there, and nothing can "
            f"be written; copy the whole folder to another disk and back up the copy"
        )
    with closing(connect(path, "rw")) as connection:
        connection.execute("PRAGMA query_only = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        role = connection.execute("PRAGMA application_id").fetchone()[0]
        if role != APPLICATION_IDS["fog"] or version == 0:
            raise StoreError(f"{path} is not the store of a fog; only a fog's store is backed up")
        if version != len(SCHEMAS["fog"]):
            raise StoreError(f"store {path} is of another version of this program; start the fog first")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM state").fetchone()
        yield connection


@contextmanager
def filling(target: Path) -> Iterator[None]:
    """An empty folder; what is in it is removed again when it is not filled to the end."""
    with store_errors(target):
        durable_folder(target)
        if any(target.iterdir()):
            raise StoreError(f"{target} is not empty; name a new folder")
        try:
            yield
        except BaseException:
            for entry in target.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            raise


@contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into typed ones."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error, folder) from error
    except UnicodeDecodeError as error:
        raise StoreCorruptError(damaged_sentence(folder, UNREADABLE_SCHEMA)) from error
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {reason(error)}") from error


def connect(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    """A connection that reads damaged text too; ``mode`` is that of SQLite's file names."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=10)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> Any:
    return data.decode("utf-8", "surrogateescape")


def _sync(path: Path) -> None:
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
