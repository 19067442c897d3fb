"""How far a store has come, beside its database, so that commits which vanish from that are noticed.

SQLite takes the first damaged page of a write-ahead log for its end, and drops the commits behind it without
a word. The marks are written after each commit and are not synced: a kill leaves them as they are, and the
loss of power may leave older ones, which say nothing, but never newer ones than the database.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HIGH_WATER_NAME", "HighWater", "HighWaterFile", "read_high_water"]

HIGH_WATER_NAME = "high-water"
"""File name inside the store's folder."""

MAGIC = b"RINRHW1\n"

SLOT = struct.Struct(">8s5Q")
"""Magic, number of the write, store, three marks; a checksum follows."""

CHECKSUM_BYTES = 8

SLOT_BYTES = 512
"""Two slots are written in turn, each in a sector of its own: a torn write leaves the other."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HighWater:
    """Marks of one store; they only grow.

    Attributes:
        store: Which store: a fog's log id, an edge's epoch.
        marks: At a fog the newest position of the log, the newest arrival of an upload, and 0; at an edge how
            many frames were recorded, the newest place of the inbox, and how often labels were corrected.
    """

    store: int
    marks: tuple[int, int, int]


class HighWaterFile:
    """The file of the marks, open for writing by the one process that writes the store.

    Where it cannot be written the store works without it.

    Args:
        folder: Of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / HIGH_WATER_NAME
        self._descriptor: int | None = None
        self._told = False
        self.found, self._writes = _newest(self._path)
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if os.fstat(self._descriptor).st_size < 2 * SLOT_BYTES:
                # The room is taken now: on a disk that is full later the marks are still written.
                os.pwrite(self._descriptor, bytes(2 * SLOT_BYTES), 0)
        except OSError as error:
            self._fail(error)

    def write(self, marks: HighWater) -> None:
        """Set the marks; harmless where that cannot be done."""
        if self._descriptor is None:
            return
        self._writes += 1
        body = SLOT.pack(MAGIC, self._writes, marks.store, *marks.marks)
        try:
            os.pwrite(self._descriptor, body + _checksum(body), self._writes % 2 * SLOT_BYTES)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file; harmless when closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _fail(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            _log.warning(
                "%s cannot be written (%s): a loss of the newest commits would not be noticed",
                self._path,
                error.strerror,
            )


def read_high_water(folder: Path) -> HighWater | None:
    """The newest sound marks of a store; None when there are none."""
    return _newest(folder / HIGH_WATER_NAME)[0]


def _newest(path: Path) -> tuple[HighWater | None, int]:
    """The marks, and the number of the write that set them."""
    try:
        data = path.read_bytes()[: 2 * SLOT_BYTES]
    except OSError:
        return None, 0
    newest: HighWater | None = None
    writes = 0
    for begin in (0, SLOT_BYTES):
        body = data[begin : begin + SLOT.size]
        if len(body) < SLOT.size or data[begin + SLOT.size :][:CHECKSUM_BYTES] != _checksum(body):
            continue
        magic, number, store, *marks = SLOT.unpack(body)
        if magic == MAGIC and number > writes:
            newest, writes = HighWater(store, (marks[0], marks[1], marks[2])), number
    return newest, writes


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM_BYTES).digest()
