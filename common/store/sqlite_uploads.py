"""The uploads of a fog's store in SQLite: frames on disk, until they are encoded and, in part, longer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any

from common.errors import StoreCorruptError, StoreFullError
from common.frame import Frame, FrameIdentity
from common.store.content import ContentDatabase
from common.store.quarantine import Quarantine
from common.store.records import CommitOutcome, PendingFrame
from common.store.rows import (
    checksum,
    columns_match,
    fingerprint,
    frame_facts,
    frame_of,
    identity_of,
    json_text,
    signed,
    unsigned,
)

__all__ = ["FRAME_TYPES", "SqliteUploads"]

FRAME_TYPES = (str, int, int, bytes, bytes, int, str)
"""Types of the columns under a frame's checksum: device, epoch, number, fingerprint, digest, size, facts."""


class SqliteUploads:
    """The half of :class:`common.store.contract.FogStore` that takes frames in.

    Args:
        database: Of a fog, in its first transaction.
        quarantine: Takes damaged frames.
        refusal: Told how many frames are to be records of the log, says why none more are taken in, if so.
    """

    def __init__(
        self, database: ContentDatabase, quarantine: Quarantine, refusal: Callable[[int], str | None]
    ) -> None:
        self._database = database
        self._damaged = quarantine
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
            "checksum, kept, image, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)",
            (
                *key,
                mark,
                digest,
                size,
                facts,
                int(frame.validation and frame.labelled),
                checksum(*key, mark, digest, size, facts),
                inline,
                frame.priority,
            ),
        )
        return CommitOutcome.STORED

    def pending_frames(self, limit: int, without: Collection[int] = ()) -> list[PendingFrame]:
        """Committed frames that are not finished, the most urgent first."""
        with self._database.reading() as connection:
            waiting = connection.execute(
                "SELECT arrival FROM frames WHERE position IS NULL ORDER BY priority DESC, arrival LIMIT ?",
                (limit + len(without),),
            ).fetchall()
            chosen = [arrival for (arrival,) in waiting if arrival not in without][:limit]
            rows = [
                connection.execute(
                    "SELECT arrival, device, epoch, number, fingerprint, digest, size, facts, checksum, "
                    "image FROM frames WHERE arrival = ?",
                    (arrival,),
                ).fetchone()
                for arrival in chosen
            ]
            return [item for row in rows if (item := self._pending(row)) is not None]

    def _pending(self, row: tuple[Any, ...]) -> PendingFrame | None:
        """The frame of a row; None when it is so damaged that nobody can tell which frame it was."""
        arrival, device, epoch, number, mark, digest, size, facts, check, image = row
        name = f"frame {number} of device {device}"
        try:
            if not columns_match((device, epoch, number, mark, digest, size, facts), check, FRAME_TYPES):
                raise StoreCorruptError(f"{name} does not match its checksum")
            data = self._database.content(name, digest, image)
        except StoreCorruptError as error:
            return self._lose_frame(arrival, (device, epoch, number), str(error))
        identity = FrameIdentity(device, unsigned(epoch), unsigned(number))
        return PendingFrame(arrival, identity, frame_of(json.loads(facts), data, identity))

    def _lose_frame(self, arrival: int, key: tuple[Any, Any, Any], reason: str) -> PendingFrame | None:
        """Put a damaged frame into quarantine: itself, or a copy while its row is to end in a tombstone."""
        row = self._database.connection.execute(
            "SELECT arrival FROM frames WHERE device = ? AND epoch = ? AND number = ?", key
        ).fetchone()
        # The index is stored apart from the row: where both name the same frame it is that one.
        known = row == (arrival,) and all(isinstance(part, int) for part in key[1:])
        if not known:
            if self._damaged.take("frames", "arrival", arrival, reason):
                self._pending_count -= 1
            return None
        self._damaged.take("frames", "arrival", arrival, reason, remove=False)
        identity = FrameIdentity(str(key[0]), unsigned(key[1]), unsigned(key[2]))
        return PendingFrame(arrival, identity, None, reason)
