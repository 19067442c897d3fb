"""Corrected labels in SQLite: into the fog's log, out of an edge's outbox, and found for the trainer."""

from __future__ import annotations

import json
import sqlite3
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import StoreCorruptError, StoreError
from common.frame import Box, FrameIdentity
from common.store.content import ContentDatabase
from common.store.corrections import (
    LAST_REVISION,
    Correction,
    CorrectionOutcome,
    CorrectionResult,
    correction_meta,
    correction_of,
    label_facts,
    record_numbers,
    trainable_change,
)
from common.store.log_rows import LOG_COLUMNS, columns_sound, log_row, record_of
from common.store.lost_commits import REVISION_FLOOR, REVISIONS
from common.store.records import RecordKind
from common.store.rows import checksum, json_text, signed, unsigned

__all__ = [
    "SqliteEdgeCorrections",
    "SqliteFogCorrections",
    "carry_on",
    "newest_correction",
    "own_correction",
]


def newest_correction(database: ContentDatabase, table: str, identity: FrameIdentity) -> Correction | None:
    """The newest sound correction of a frame in a table of records; under the database's lock."""
    first, last = record_numbers(identity.number)
    rows = database.connection.execute(
        f"SELECT {LOG_COLUMNS}, checksum, payload FROM {table} WHERE device = ? AND epoch = ? "
        "AND number BETWEEN ? AND ? AND kind = ? ORDER BY number DESC",
        (identity.device, signed(identity.epoch), first, last, RecordKind.LABELS.value),
    )
    for *row, check, payload in rows:
        try:
            record = record_of(tuple(row), check, payload)
            return correction_of(record, database.content(f"record {row[0]}", record.digest, payload))
        except StoreCorruptError:
            continue
    return None


def carry_on(
    connection: sqlite3.Connection, identity: FrameIdentity, through: int, last_position: int
) -> None:
    """Move the newest correction of a frame to the log's end, if it is within positions to be dropped.

    Behind its packet it is dropped after it. Whoever has it knows it again by its number.

    Args:
        connection: Of a fog's store, in a transaction.
        identity: The frame.
        through: Last position to be dropped.
        last_position: Newest position ever appended.
    """
    first, last = record_numbers(identity.number)
    row = connection.execute(
        f"SELECT {LOG_COLUMNS}, checksum FROM log WHERE device = ? AND epoch = ? "
        "AND number BETWEEN ? AND ? AND kind = ? ORDER BY number DESC LIMIT 1",
        (identity.device, signed(identity.epoch), first, last, RecordKind.LABELS.value),
    ).fetchone()
    # A damaged one goes into quarantine where it stands, when it is read.
    if row is None or row[0] > through or not columns_sound(row[:8], row[8]):
        return
    record = FrameIdentity(identity.device, identity.epoch, row[4])
    moved = log_row(last_position + 1, RecordKind.LABELS, record, row[5], row[6], json.loads(row[7]))
    connection.execute(
        "UPDATE log SET position = ?, checksum = ?, time = ? WHERE position = ?",
        (moved[0], moved[-1], int(time.time()), row[0]),
    )


def own_correction(connection: sqlite3.Connection, number: int) -> tuple[bool, tuple[Box, ...]] | None:
    """An edge's newest labels of its own frame, if they were corrected; a damaged row counts as none."""
    row = connection.execute(
        "SELECT number, revision, labels, checksum FROM corrections WHERE number = ?", (number,)
    ).fetchone()
    return None if row is None or checksum(*row[:3]) != row[3] else _labels(row[2])


class SqliteFogCorrections:
    """The part of :class:`common.store.contract.FogStore` that takes corrections."""

    _database: ContentDatabase

    @abstractmethod
    def _append(
        self,
        connection: sqlite3.Connection,
        kind: RecordKind,
        identity: FrameIdentity,
        meta: Mapping[str, Any],
        payload: bytes,
    ) -> int: ...

    @abstractmethod
    def _appended(self, size: int) -> None: ...

    def correct(
        self, identity: FrameIdentity, revision: int, labelled: bool, boxes: Sequence[Box]
    ) -> CorrectionResult:
        """Append corrected labels of a committed frame."""
        key = (identity.device, signed(identity.epoch), signed(identity.number))
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT facts FROM frames WHERE device = ? AND epoch = ? AND number = ?", key
            ).fetchone()
            if row is None:
                return CorrectionResult(CorrectionOutcome.UNKNOWN_FRAME)
            facts = json.loads(row[0])
            before = newest_correction(self._database, "log", identity)
            correction = Correction(
                identity, revision, facts["width"], facts["height"], labelled, tuple(boxes)
            )
            number, payload = correction.record_number, correction.payload()
            if before is not None and before.revision >= revision:
                other = before.revision == revision and before.payload() != payload
                return CorrectionResult(CorrectionOutcome.CONFLICT if other else CorrectionOutcome.KNOWN)
            was = facts["labelled"] if before is None else before.labelled
            meta = correction_meta(correction, was_labelled=was, validation=facts["validation"])
            record = FrameIdentity(identity.device, identity.epoch, number)
            self._append(connection, RecordKind.LABELS, record, meta, payload)
        self._appended(len(payload))
        return CorrectionResult(CorrectionOutcome.STORED, trainable_change(meta))


class SqliteEdgeCorrections:
    """The part of :class:`common.store.contract.EdgeStore` that keeps corrections until the fog has them."""

    _database: ContentDatabase
    _device: str

    def correct(self, source_key: str, labelled: bool, boxes: Sequence[Box]) -> int | None:
        """Record new labels of a frame that was recorded before."""
        with self._database.lock, self._database.transaction() as connection:
            row = connection.execute(
                "SELECT number, facts FROM outbox WHERE source_key = ? "
                "AND state NOT IN ('refused', 'expired')",
                (source_key.encode("utf-8", "surrogateescape"),),
            ).fetchone()
            if row is None:
                return None
            number, facts = int(row[0]), json.loads(row[1])
            before = connection.execute(
                "SELECT revision, labels FROM corrections WHERE number = ?", (number,)
            ).fetchone()
            labels = json_text(label_facts(labelled, tuple(boxes)))
            first = tuple(Box(*box) for box in facts["boxes"])
            known = json_text(label_facts(facts["labelled"], first)) if before is None else before[1]
            if labels == known:
                return None
            # Beyond every revision that a damaged write-ahead log may have taken along.
            floor = self._database.state(REVISION_FLOOR) or 0
            revision = max(0 if before is None else int(before[0]), floor) + 1
            if revision > LAST_REVISION:
                raise StoreError(
                    f"the labels of frame {number} were corrected {LAST_REVISION} times; record it anew"
                )
            self._database.set_state(REVISIONS, (self._database.state(REVISIONS) or 0) + 1)
            connection.execute(
                "INSERT INTO corrections (number, revision, labels, checksum) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (number) DO UPDATE SET revision = excluded.revision, labels = excluded.labels, "
                "checksum = excluded.checksum, state = 'waiting', reason = NULL",
                (number, revision, labels, checksum(number, revision, labels)),
            )
        return revision

    def waiting_corrections(self, limit: int, after: int = -1) -> list[Correction]:
        """Corrections that the fog may not have, of frames that it has."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT c.number, c.revision, c.labels, c.checksum, o.epoch, o.facts "
                "FROM corrections c JOIN outbox o USING (number) "
                "WHERE c.state = 'waiting' AND o.state = 'acknowledged' AND c.number > ? "
                "ORDER BY c.number LIMIT ?",
                (after, limit),
            ).fetchall()
        corrections = []
        for number, revision, labels, check, epoch, facts in rows:
            if checksum(number, revision, labels) != check:
                self.settle_correction(number, revision, "its row is damaged; correct the frame again")
                continue
            identity = FrameIdentity(self._device, unsigned(epoch), number)
            size = json.loads(facts)
            corrections.append(
                Correction(identity, revision, size["width"], size["height"], *_labels(labels))
            )
        return corrections

    def settle_correction(self, number: int, revision: int, reason: str | None = None) -> None:
        """The fog has this correction, or refuses it for good."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE corrections SET state = ?, reason = ? WHERE number = ? AND revision = ?",
                ("refused" if reason else "acknowledged", reason, number, revision),
            )


def _labels(text: str) -> tuple[bool, tuple[Box, ...]]:
    facts = json.loads(text)
    return facts["labelled"], tuple(Box(*box) for box in facts["boxes"])
