"""Rows of a table of records, as both the fog's log and the edge's inbox hold them."""

from __future__ import annotations

import json
from typing import Any

from common.errors import StoreCorruptError
from common.store.records import Record, RecordKind
from common.store.rows import checksum, unsigned, verified

__all__ = ["LOG_COLUMNS", "record_checksum", "record_of"]

LOG_COLUMNS = "position, kind, device, epoch, number, digest, size, meta"
"""The columns under a record's checksum, in the order that rows are passed here."""


def record_checksum(row: tuple[Any, ...]) -> bytes:
    """The checksum of these columns."""
    return checksum(*row)


def record_of(row: tuple[Any, ...], check: bytes, payload: bytes | None) -> Record:
    """The record of a row.

    Args:
        row: The columns ``LOG_COLUMNS``.
        check: The stored checksum.
        payload: The stored payload; None when it is a file, or was not read.

    Raises:
        StoreCorruptError: The row or its payload is damaged; names the position.
    """
    position, kind, device, epoch, number, digest, size, meta = row
    name = f"record {position}"
    if record_checksum(row) != check:
        raise StoreCorruptError(f"{name} does not match its checksum")
    data = None if payload is None else verified(f"the payload of {name}", bytes(payload), digest)
    return Record(
        position,
        RecordKind(kind),
        device,
        unsigned(epoch),
        unsigned(number),
        digest,
        json.loads(meta),
        size,
        data,
    )
