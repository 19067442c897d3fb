"""Where frames wait that the training device has no room for: host memory, then a private file on disk."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

from common.errors import LearningError, reason

__all__ = ["Spill"]

OVERHEAD_BYTES = 128
"""Host memory of a record beside its bytes: the object, and its entry in a table."""
PAGE_BYTES = 4096
"""Page size of the file."""


class Spill:
    """Records of bytes by number, in two tiers of bounded size; may be used from any thread.

    The disk tier is an SQLite file without a name: it is unlinked as soon as it is open, so it goes with the
    process, however that ends. Nothing in it outlives a training process, so it is neither synced nor logged.

    Args:
        host_bytes: Bound on the records in host memory.
        disk_bytes: Bound on the file; 0: no file.
        folder: Where the file is made.

    Raises:
        LearningError: The file cannot be made.
    """

    def __init__(self, host_bytes: int, disk_bytes: int, folder: Path | None = None) -> None:
        self._host_bytes = host_bytes
        self._disk_bytes = disk_bytes if folder is not None else 0
        self._lock = threading.Lock()
        self._host: dict[int, bytes] = {}
        self._on_disk: dict[int, int] = {}
        self._host_used = 0
        self._disk_used = 0
        self._file = _open(folder, disk_bytes) if folder is not None and self._disk_bytes else None

    def __len__(self) -> int:
        return len(self._host) + len(self._on_disk)

    @property
    def host_nbytes(self) -> int:
        """Bytes of the records in host memory."""
        return self._host_used

    @property
    def disk_nbytes(self) -> int:
        """Bytes of the records on disk, in whole pages."""
        return self._disk_used

    def put(self, number: int, record: bytes) -> bool:
        """Keep a record where there is room, host memory first; False when there is none."""
        size = len(record) + OVERHEAD_BYTES
        with self._lock:
            if self.host_nbytes + size <= self._host_bytes:
                self._host[number] = record
                self._host_used += size
                return True
            pages = _pages(len(record))
            if self._file is None or self._disk_used + pages > self._disk_bytes:
                return False
            try:
                self._file.execute(
                    "INSERT INTO records VALUES (?, ?, ?)", (number, record, zlib.crc32(record))
                )
            except sqlite3.Error:
                # A full disk is a smaller disk.
                self._disk_bytes = self._disk_used
                return False
            self._on_disk[number] = pages
            self._disk_used += pages
            return True

    def get(self, numbers: Sequence[int]) -> list[bytes | None]:
        """The records of these numbers; None for one that is not here or cannot be read."""
        with self._lock:
            return [self._host.get(number) or self._read(number) for number in numbers]

    def drop(self, numbers: Collection[int]) -> None:
        """Forget these records."""
        with self._lock:
            for number in numbers:
                record = self._host.pop(number, None)
                if record is not None:
                    self._host_used -= len(record) + OVERHEAD_BYTES
                pages = self._on_disk.pop(number, 0)
                self._disk_used -= pages
                if pages and self._file is not None and not self._deleted(number):
                    # What a damaged file holds takes room until it is closed.
                    self._disk_used += pages

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            self._host.clear()
            self._on_disk.clear()
            self._host_used = self._disk_used = self._disk_bytes = self._host_bytes = 0
            if self._file is not None:
                self._file.close()
                self._file = None

    def _read(self, number: int) -> bytes | None:
        if number not in self._on_disk or self._file is None:
            return None
        try:
            query = "SELECT record, checksum FROM records WHERE number = ?"
            row = self._file.execute(query, (number,)).fetchone()
        except sqlite3.Error:
            return None
        return bytes(row[0]) if row is not None and zlib.crc32(row[0]) == row[1] else None

    def _deleted(self, number: int) -> bool:
        try:
            if self._file is not None:
                self._file.execute("DELETE FROM records WHERE number = ?", (number,))
        except sqlite3.Error:
            return False
        return True


def _pages(size: int) -> int:
    """Bytes of the pages that a record of ``size`` bytes takes, its share of the table included."""
    return -(-(size + 64) // PAGE_BYTES) * PAGE_BYTES


def _open(folder: Path, disk_bytes: int) -> sqlite3.Connection:
    path = folder / "spill.sqlite3"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA max_page_count = {max(8, disk_bytes // PAGE_BYTES)}")
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(
            "CREATE TABLE records (number INTEGER PRIMARY KEY, record BLOB NOT NULL, checksum INTEGER)"
        )
        path.unlink()
    except (OSError, sqlite3.Error) as error:
        raise LearningError(
            f"frames cannot be laid aside in {path}: {reason(error)}; make room there or set disk_bytes to 0"
        ) from error
    return connection
