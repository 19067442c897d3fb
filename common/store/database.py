"""One SQLite database opened safely: pragmas, schema version, lock, transactions, typed errors."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.errors import StoreCorruptError, StoreError, StoreFullError, reason
from common.store.blobs import durable_folder
from common.store.high_water import HighWater, HighWaterFile
from common.store.schema import APPLICATION_IDS, SCHEMAS, Role
from common.store.schema_check import altered_table
from common.store.settings import StoreSettings

__all__ = [
    "DATABASE_NAME",
    "UNREADABLE_SCHEMA",
    "Database",
    "damaged_sentence",
    "lock_folder",
    "store_error",
]

DATABASE_NAME = "store.sqlite3"
"""File name inside the store's folder."""

BUSY_SECONDS = 10.0
"""Wait for another connection's lock; readers in WAL mode never hold one for long."""

CHECKPOINT_MS = 100
"""Wait for readers when the write-ahead log is to be emptied, milliseconds; it is tried again later."""

PAGE_BYTES = 8192
"""SQLite's page size in a new store; one made before keeps its own (4,096). An image of 60 kB costs a quarter
less processor time than in pages of 4,096 bytes, and small rows still dirty few bytes."""

CHECKPOINT_BYTES = 16 << 20
"""Size of the write-ahead log at which it is written into the database: with SQLite's 4 MB a loaded fog would
do that, with three more syncs, after nearly every group of uploads."""

HEADROOM_BYTES = 8 << 20
"""Room that retention keeps above the reserve, so that a group of uploads finds some at once."""

SPARE_PAGES = 16
"""Freed pages that are not counted as room: the tree of an index may grow by some."""

SHRINK_PAGES = 1_000
"""Freed pages given back to the disk at a time, 8 MB."""

JOURNAL_LIMIT_BYTES = 64 << 20
"""The write-ahead log is cut back to this after a checkpoint."""

UNREADABLE_SCHEMA = "the definitions of its tables are no text"
"""What is wrong when SQLite's complaint about a definition quotes bytes that Python cannot decode."""

_log = logging.getLogger(__name__)


class Database:
    """A connection shared by the threads of one process.

    Args:
        folder: The store's folder; made when missing, unless read-only.
        role: What kind of store it is; None takes what is there.
        settings: Bounds; None opens an existing store for reading beside its writer.

    Attributes:
        fresh: Whether the database was made just now.
        measure: How far the store has come, asked after every commit; None: nothing is noted.

    Raises:
        StoreError: Locked by another process, of another role or a newer schema, or not there.
        StoreCorruptError: The file is no SQLite database.
    """

    def __init__(
        self,
        folder: Path,
        role: Role | None,
        settings: StoreSettings | None = None,
    ) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._settings = settings
        self._lock_file: IO[bytes] | None = None
        self._connection: sqlite3.Connection | None = None
        self._marks: HighWaterFile | None = None
        self.fresh = False
        self.measure: Callable[[], HighWater] | None = None
        try:
            if settings is not None:
                try:
                    durable_folder(folder)
                    self._lock_file = lock_folder(folder)
                    self._marks = HighWaterFile(folder)
                except OSError as error:
                    raise StoreError(
                        f"{folder} cannot be the folder of a store ({error.strerror}); name another folder"
                    ) from error
            self._open(role)
        except BaseException:
            self.close()
            raise

    def _open(self, role: Role | None) -> None:
        path = self.folder / DATABASE_NAME
        writable = self._settings is not None
        if not writable and not path.is_file():
            raise StoreError(f"there is no store in {self.folder}; start the node that keeps it first")
        with self.errors():
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={'rwc' if writable else 'rw'}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection = connection
            # Damaged text must fail its checksum, not the reading of every row behind it.
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            found = int(connection.execute("PRAGMA application_id").fetchone()[0])
            fresh = self.fresh = version == 0
            known = {number: name for name, number in APPLICATION_IDS.items()}.get(found)
            if not fresh and (known is None or (role is not None and known != role)):
                owner = "an edge" if role == "edge" else "a fog"
                raise StoreError(f"{path} is not the store of {owner}; use another folder")
            self.role: Role = role or known or ""
            newest = len(SCHEMAS.get(self.role, ()))
            if version > newest:
                raise StoreError(
                    f"store {path} has schema version {version}, newer than {newest} which is "
                    f"understood here; update this program or use another folder"
                )
            if self._settings is None:
                if fresh:
                    raise StoreError(f"store {path} is empty; start the node that keeps it first")
                if version < newest:
                    raise StoreError(
                        f"store {path} was written by an older program; start the node that keeps it first"
                    )
                connection.execute("PRAGMA query_only = ON")
                return
            self._check(connection)
            # Both only before the first table; with the second a store can give freed pages back to the disk.
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // self._page_bytes(connection)}"
            )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = {-(self._settings.cache_bytes // 1024)}")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")
            if self._settings.max_database_bytes is not None:
                pages = self._settings.max_database_bytes // self._page_bytes(connection)
                connection.execute(f"PRAGMA max_page_count = {pages}")
            if version < newest:
                steps = " ".join(SCHEMAS[self.role][version:]).replace(":now", str(int(time.time())))
                # One transaction: a kill in the middle leaves the version before; the next start repeats it.
                connection.executescript(
                    f"BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION_IDS[self.role]}; "
                    f"PRAGMA user_version = {newest}; COMMIT;"
                )
            altered = altered_table(connection, self.role)
            if altered is not None:
                problem = f"the definition of its table {altered} is not as it was written"
                raise StoreCorruptError(damaged_sentence(self.folder, problem))

    def _check(self, connection: sqlite3.Connection) -> None:
        """Look at every page of a database that is not too large for that; make damaged indexes anew."""
        limit = self._settings.max_check_bytes if self._settings else 0
        size = int(connection.execute("PRAGMA page_count").fetchone()[0]) * self._page_bytes(connection)
        if size > limit or not (problem := _problem(connection, "integrity_check")):
            return
        # Whatever else is damaged, the tables are sound when the lesser check passes.
        if _problem(connection, "quick_check"):
            raise StoreCorruptError(damaged_sentence(self.folder, problem))
        try:
            connection.execute("REINDEX")
        except sqlite3.IntegrityError as error:
            # A damaged row passes for another: it goes into quarantine when it is read.
            _log.error(
                "an index of store %s cannot be made anew before a damaged row is put away (%s)",
                self.folder,
                error,
            )
            return
        _log.error("an index of store %s was damaged (%s); all were made anew", self.folder, problem)
        if problem := _problem(connection, "integrity_check"):
            raise StoreCorruptError(damaged_sentence(self.folder, problem))

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection.

        Raises:
            StoreError: It was closed.
        """
        if self._connection is None:
            raise StoreError(f"store {self.folder} is closed")
        return self._connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn SQLite's and the file system's errors into typed ones."""
        try:
            yield
        except sqlite3.Error as error:
            raise store_error(error, self.folder) from error
        except UnicodeDecodeError as error:
            raise StoreCorruptError(damaged_sentence(self.folder, UNREADABLE_SCHEMA)) from error
        except OSError as error:
            raise StoreError(f"store {self.folder} cannot be used: {reason(error)}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection under the lock."""
        with self.lock, self.errors():
            yield self.connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction: committed and synced at the end, else rolled back."""
        with self.lock, self.errors():
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and isinstance(
                    store_error(error, self.folder), StoreFullError
                ):
                    self._give_log_back()
                raise
            self._note()

    def _note(self) -> None:
        """Write down how far the store has come."""
        if self._marks is not None and self.measure is not None:
            # The commit is done: nothing that goes wrong here takes it back.
            with contextlib.suppress(sqlite3.Error):
                self._marks.write(self.measure())

    @property
    def high_water(self) -> HighWater | None:
        """How far the store had come when it was opened, by what stands beside the database."""
        return None if self._marks is None else self._marks.found

    def require_room(self, inline: int, files: int = 0) -> None:
        """Refuse to take in more bytes when the disk would fall below its reserve.

        Args:
            inline: Bytes for the database, where pages that were freed are used again.
            files: Bytes for files beside it.

        Raises:
            StoreFullError: Too little free space.
        """
        reserve = self._settings.min_free_bytes if self._settings else 0
        free = shutil.disk_usage(self.folder).free
        size = files + (inline if inline > self._reusable() else 0)
        if size and free - size < reserve:
            raise StoreFullError(
                f"the disk of store {self.folder} has {free} bytes free, too few for {size} more above "
                f"the reserve of {reserve}; make room or lower min_free_bytes"
            )

    def shortage(self) -> int:
        """Bytes that should be given up so that the next writes find room on the disk and in the database."""
        if self._settings is None:
            return 0
        short = self._short()
        if short > 0:
            self._give_log_back()
            short = self._short()
        return max(0, short)

    def _short(self) -> int:
        settings = self._settings or StoreSettings()
        reusable = self._reusable()
        free = shutil.disk_usage(self.folder).free + reusable
        short = settings.min_free_bytes + HEADROOM_BYTES - free
        limit = settings.max_database_bytes
        if limit is not None:
            pages = int(self.connection.execute("PRAGMA page_count").fetchone()[0])
            used = pages * self._page_bytes(self.connection)
            short = max(short, min(HEADROOM_BYTES, limit // 8) - (limit - used + reusable))
        return short

    def _give_log_back(self) -> None:
        """Empty the write-ahead log, whose file takes room too; not while a reader is in the way."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_MS}")
            try:
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def shrink(self) -> None:
        """Give some of the pages that were freed back to the disk when that is short of room."""
        if self._settings is None:
            return
        short = self._settings.min_free_bytes + HEADROOM_BYTES - shutil.disk_usage(self.folder).free
        if short > 0 and self._reusable():
            with self.reading() as connection:
                # A transaction of its own. It frees a page at each step: as one statement only the first.
                connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
                self._give_log_back()

    def _reusable(self) -> int:
        """Bytes of freed pages, without a few that indexes may want."""
        pages = int(self.connection.execute("PRAGMA freelist_count").fetchone()[0])
        return max(0, pages - SPARE_PAGES) * self._page_bytes(self.connection)

    @staticmethod
    def _page_bytes(connection: sqlite3.Connection) -> int:
        """The page size of this store."""
        return int(connection.execute("PRAGMA page_size").fetchone()[0])

    def state(self, key: str) -> int | None:
        """A number kept in the table ``state``."""
        with self.reading() as connection:
            row = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def set_state(self, key: str, value: int) -> None:
        """Keep a number in the table ``state``; within a transaction of the caller."""
        self.connection.execute(
            "INSERT INTO state (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def close(self) -> None:
        """Close the connection and release the lock; harmless when closed."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._marks is not None:
                self._marks.close()
                self._marks = None
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None


def _problem(connection: sqlite3.Connection, check: str) -> str:
    """What SQLite's check says first; empty when all is well."""
    found = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    return "" if found == "ok" else " ".join(found.split())


def damaged_sentence(folder: Path, problem: str) -> str:
    """What to do about a damaged database."""
    return (
        f"the database of store {folder} is damaged ({problem}); stop the node, then at a fog run fog-node "
        f"salvage and fog-node restore, or restore a backup; at an edge run edge-node salvage, or move the "
        f"folder away and start anew"
    )


def lock_folder(folder: Path) -> IO[bytes]:
    """Hold the folder's lock file until it is closed; the kernel frees it if the process dies."""
    handle = (folder / "lock").open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise StoreError(
            f"store {folder} is in use by another process; stop that one or use another folder"
        ) from error
    return handle


def store_error(error: sqlite3.Error, folder: Path) -> StoreError:
    """The typed error of one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(f"store {folder} is full; make room on its disk or raise max_database_bytes")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorruptError(damaged_sentence(folder, str(error)))
    return StoreError(f"store {folder} failed: {error}")
