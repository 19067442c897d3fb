"""The uploads of a fog's store in SQLite: frames on disk, until they are encoded and, in part, longer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import StoreCorruptError, StoreFullError
from common.frame import Frame, FrameIdentity
from common.store.content import ContentDatabase
from common.store.records import CommitOutcome, PendingFrame
from common.store.rows import (
    checksum,
    fingerprint,
    frame_facts,
    frame_of,
    identity_of,
    json_text,
    signed,
    unsigned,
)

__all__ = ["SqliteUploads"]


class SqliteUploads:
    """The half of :class:`common.store.contract.FogStore` that takes frames in.

    Args:
        database: Of a fog, in its first transaction.
        refusal: Told how many frames are to be records of the log, says why none more are taken in, if so.
    """

    def __init__(self, database: ContentDatabase, refusal: Callable[[int], str | None]) -> None:
        self._database = database
        self._refusal = refusal
        with database.reading() as connection:
            waiting = connection.execute("SELECT count(*) FROM frames WHERE position IS NULL")
            self._pending_count = int(waiting.fetchone()[0])

    @property
    def pending_count(self) -> int:
        """Committed frames that are not finished."""
        return self._pending_count

    def commit_frames(self, frames: Sequence[Frame]) -> list[CommitOutcome]:
        """Commit uploads in one transaction."""
        for frame in frames:
            identity_of(frame)
        with self._database.lock:
            with self._database.writing() as connection:
                self._database.require_room_for(frame.image for frame in frames)
                outcomes = [self._commit(connection, frame) for frame in frames]
                stored = outcomes.count(CommitOutcome.STORED)
                refusal = self._refusal(self._pending_count + stored) if stored else None
                if refusal is not None:
                    raise StoreFullError(refusal)
            self._pending_count += stored
            return outcomes

    def _commit(self, connection: sqlite3.Connection, frame: Frame) -> CommitOutcome:
        identity, mark = identity_of(frame), fingerprint(frame)
        key = (identity.device, signed(identity.epoch), signed(identity.number))
        row = connection.execute(
            "SELECT fingerprint FROM frames WHERE device = ? AND epoch = ? AND number = ?", key
        ).fetchone()
        if row is not None:
            return CommitOutcome.DUPLICATE if row[0] == mark else CommitOutcome.CONFLICT
        digest, size, facts = frame.digest, len(frame.image), json_text(frame_facts(frame))
        inline = self._database.keep(digest, frame.image)
        connection.execute(
            "INSERT INTO frames (device, epoch, number, fingerprint, digest, size, facts, held_out, "
            "checksum, kept, image) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            (
                *key,
                mark,
                digest,
                size,
                facts,
                int(frame.validation and frame.labelled),
                checksum(*key, mark, digest, size, facts),
                inline,
            ),
        )
        return CommitOutcome.STORED

    def pending_frames(self, limit: int, after: int = 0) -> list[PendingFrame]:
        """Committed frames that are not finished, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT arrival, device, epoch, number, fingerprint, digest, size, facts, checksum, image "
                "FROM frames WHERE position IS NULL AND arrival > ? ORDER BY arrival LIMIT ?",
                (after, limit),
            ).fetchall()
            return [self._pending(row) for row in rows]

    def _pending(self, row: tuple[Any, ...]) -> PendingFrame:
        arrival, device, epoch, number, mark, digest, size, facts, check, image = row
        identity = FrameIdentity(device, unsigned(epoch), unsigned(number))
        name = f"frame {number} of device {device}"
        try:
            if check != checksum(device, epoch, number, mark, digest, size, facts):
                raise StoreCorruptError(f"{name} does not match its checksum")
            data = self._database.content(name, digest, image)
        except StoreCorruptError as error:
            return PendingFrame(arrival, identity, None, str(error))
        return PendingFrame(arrival, identity, frame_of(json.loads(facts), data, identity))
