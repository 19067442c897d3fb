"""Rows of a table of records, as both the fog's log and the edge's inbox hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.errors import StoreCorruptError
from common.frame import FrameIdentity
from common.store.records import Record, RecordKind
from common.store.rows import checksum, columns_match, json_text, signed, unsigned, verified

__all__ = ["LOG_COLUMNS", "columns_sound", "log_row", "record_of"]

LOG_COLUMNS = "position, kind, device, epoch, number, digest, size, meta"
"""The columns under a record's checksum, in the order that rows are passed here."""


LOG_TYPES = (int, str, str, int, int, bytes, int, str)
"""Their types."""


def log_row(
    position: int,
    kind: RecordKind,
    identity: FrameIdentity,
    digest: bytes,
    size: int,
    meta: Mapping[str, Any],
) -> tuple[Any, ...]:
    """The columns ``LOG_COLUMNS`` of a record, and their checksum.

    Raises:
        StoreError: A number or the meta cannot be stored.
    """
    row = (
        position,
        kind.value,
        identity.device,
        signed(identity.epoch),
        signed(identity.number),
        digest,
        size,
        json_text(meta),
    )
    return (*row, checksum(*row))


def columns_sound(row: tuple[Any, ...], check: bytes) -> bool:
    """Whether the columns ``LOG_COLUMNS`` of a row match their checksum."""
    return columns_match(row, check, LOG_TYPES)


def record_of(row: tuple[Any, ...], check: bytes, payload: object) -> Record:
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
    if not columns_sound(row, check):
        raise StoreCorruptError(f"{name} does not match its checksum")
    data = None if payload is None else verified(f"the payload of {name}", payload, digest)
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
