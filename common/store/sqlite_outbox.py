"""The outbox of an edge's store in SQLite: recorded frames, kept until the fog has them."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from common.errors import StoreCorruptError, StoreFullError
from common.frame import Frame, FrameIdentity, in_validation_block
from common.store.content import ContentDatabase
from common.store.quarantine import Quarantine, QuarantineState
from common.store.records import INLINE_LIMIT_BYTES, OutboxState
from common.store.rows import (
    checksum,
    columns_match,
    frame_facts,
    frame_of,
    json_text,
    marked,
    signed,
    unsigned,
)
from common.store.settings import EdgeStoreSettings

__all__ = ["OUTBOX_TYPES", "SqliteOutbox"]

OUTBOX_TYPES = (int, str, int, bytes, bytes, int, str)
"""Types of the columns under a frame's checksum: number, device, epoch, source_key, digest, size, facts."""


class SqliteOutbox:
    """The half of :class:`common.store.contract.EdgeStore` that the recorder fills and the fog empties.

    Args:
        database: Of an edge, in its first transaction.
        device: This device's key.
        settings: Bounds.
    """

    def __init__(self, database: ContentDatabase, device: str, settings: EdgeStoreSettings) -> None:
        self._database = database
        self._device = device
        self._settings = settings
        if database.state("epoch") is None:
            database.set_state("epoch", signed(secrets.randbits(64)))
        # What a node asks for all the time is held in memory: the answer waits for no disk.
        self._epoch = unsigned(database.state("epoch") or 0)
        with database.reading() as connection:
            recorded, acknowledged, refused, expired = connection.execute(
                # Numbers of frames that a damaged write-ahead log took along are not given again.
                "SELECT max(coalesce(max(number) + 1, 0), coalesce((SELECT max(last) + 1 FROM quarantine "
                "WHERE source = 'outbox'), 0)), count(*) FILTER (WHERE state = 'acknowledged'), "
                "count(*) FILTER (WHERE state = 'refused'), count(*) FILTER (WHERE state = 'expired') "
                "FROM outbox"
            ).fetchone()
            waiting, size = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM outbox WHERE state = 'waiting'"
            ).fetchone()
        self.quarantine = Quarantine(database, settings.max_quarantine_bytes)
        self._outbox = OutboxState(recorded, waiting, size, acknowledged, refused, expired)

    @property
    def quarantined(self) -> QuarantineState:
        """What was found damaged."""
        return self.quarantine.state

    @property
    def epoch(self) -> int:
        """Random number of this installation."""
        return self._epoch

    def recorded(self, source_key: str) -> int | None:
        """The number given to this source key."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT number FROM outbox WHERE source_key = ?", (_key(source_key),)
            ).fetchone()
        return None if row is None else int(row[0])

    def record_frame(
        self,
        source_key: str,
        frame: Frame,
        mark: Callable[[int], bool] = in_validation_block,
        expires: float | None = None,
    ) -> int:
        """Give a frame the next number and keep it until the fog has it."""
        size = len(frame.image)
        with self._database.lock:
            known = self.recorded(source_key)
            if known is not None:
                return known
            outbox = self._outbox
            if outbox.waiting and (
                outbox.waiting >= self._settings.max_outbox_frames
                or outbox.waiting_bytes + size > self._settings.max_outbox_bytes
            ):
                raise StoreFullError(
                    f"the outbox holds {outbox.waiting} frames ({outbox.waiting_bytes} bytes) that the fog "
                    f"has not taken yet; wait, or raise max_outbox_frames and max_outbox_bytes"
                )
            with self._database.writing() as connection:
                self._database.require_room_for([frame.image])
                number = outbox.recorded
                frame = marked(frame, mark(number))
                digest, facts = frame.digest, json_text(frame_facts(frame))
                inline = self._database.keep(digest, frame.image)
                columns = (number, self._device, signed(self.epoch), _key(source_key), digest, size, facts)
                connection.execute(
                    "INSERT INTO outbox (number, device, epoch, source_key, digest, size, facts, "
                    "held_out, checksum, image, priority, expires) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *columns,
                        int(frame.validation and frame.labelled),
                        checksum(*columns),
                        inline,
                        frame.priority,
                        expires,
                    ),
                )
            self._outbox = replace(
                outbox,
                recorded=number + 1,
                waiting=outbox.waiting + 1,
                waiting_bytes=outbox.waiting_bytes + size,
            )
        return number

    def unacknowledged(self, limit: int, max_bytes: int, without: Collection[int] = ()) -> list[Frame]:
        """Frames the fog may not have, by priority and number."""
        frames: list[Frame] = []
        damaged: list[tuple[int, str]] = []
        total = 0
        with self._database.lock:
            with self._database.reading() as connection:
                # The images of frames that are passed over are not read.
                cursor = connection.execute(
                    "SELECT number FROM outbox WHERE state = 'waiting' ORDER BY priority DESC, number"
                )
                for (chosen,) in cursor:
                    if len(frames) >= limit:
                        break
                    if chosen in without:
                        continue
                    *columns, check, image, priority = connection.execute(
                        "SELECT number, device, epoch, source_key, digest, size, facts, checksum, image, "
                        "priority FROM outbox WHERE number = ?",
                        (chosen,),
                    ).fetchone()
                    try:
                        frame = replace(self._stored(tuple(columns), check, image), priority=priority)
                    except StoreCorruptError as error:
                        damaged.append((columns[0], str(error)))
                        continue
                    if frames and total + len(frame.image) > max_bytes:
                        break
                    frames.append(frame)
                    total += len(frame.image)
                cursor.close()
            for number, sentence in damaged:
                self.quarantine.take("outbox", "number", number, sentence, remove=False)
                self.refuse(number, sentence)
        return frames

    def _stored(self, columns: tuple[Any, ...], check: bytes, image: bytes | None) -> Frame:
        number, device, epoch, _, digest, _, facts = columns
        name = f"frame {number} of the outbox"
        if not columns_match(columns, check, OUTBOX_TYPES):
            raise StoreCorruptError(f"{name} does not match its checksum")
        data = self._database.content(name, digest, image)
        return frame_of(json.loads(facts), data, FrameIdentity(device, unsigned(epoch), number))

    def expire(self, now: float, without: Collection[int] = ()) -> int:
        """Drop waiting frames that have outlived their time."""
        with self._database.lock:
            with self._database.reading() as connection:
                old = connection.execute(
                    "SELECT number FROM outbox WHERE state = 'waiting' AND expires <= ?", (now,)
                ).fetchall()
            gone = [number for (number,) in old if number not in without]
            if gone:
                self._settle([(number, "expired", None) for number in gone])
            return len(gone)

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """The fog has these on disk."""
        self._settle([(number, "acknowledged", None) for number in numbers])

    def refuse(self, number: int, reason: str) -> None:
        """The fog refuses this frame for good."""
        self._settle([(number, "refused", reason)])

    def _settle(self, outcomes: Sequence[tuple[int, str, str | None]]) -> None:
        """Take frames off the waiting ones: (number, its new state, why it was refused)."""
        large: list[bytes] = []
        settled: Counter[str] = Counter()
        size = 0
        with self._database.lock:
            with self._database.transaction() as connection:
                for number, state, reason in outcomes:
                    row = connection.execute(
                        "UPDATE outbox SET state = ?, reason = ?, kept = iif(held_out AND ?, 1, 0), "
                        "image = iif(held_out AND ?, image, NULL) "
                        "WHERE number = ? AND state = 'waiting' RETURNING digest, size",
                        (state, reason, state == "acknowledged", state == "acknowledged", number),
                    ).fetchone()
                    if row is not None:
                        settled[state] += 1
                        size += int(row[1])
                        if row[1] > INLINE_LIMIT_BYTES:
                            large.append(row[0])
            outbox = self._outbox
            self._outbox = OutboxState(
                recorded=outbox.recorded,
                waiting=outbox.waiting - settled.total(),
                waiting_bytes=outbox.waiting_bytes - size,
                acknowledged=outbox.acknowledged + settled["acknowledged"],
                refused=outbox.refused + settled["refused"],
                expired=outbox.expired + settled["expired"],
            )
            self._database.discard(large)

    def refused(self) -> list[tuple[int, str]]:
        """(number, reason) of every refused frame."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT number, reason FROM outbox WHERE state = 'refused' ORDER BY number"
            ).fetchall()
        return [(int(number), str(reason)) for number, reason in rows]

    def outbox_state(self) -> OutboxState:
        """How full the outbox is."""
        return self._outbox


def _key(source_key: str) -> bytes:
    """A source key as bytes: a path need not be legal text."""
    return source_key.encode("utf-8", "surrogateescape")
