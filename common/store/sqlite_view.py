"""The trainer's read-only view of an SQLite store, in any process, beside the writing daemon."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from common.errors import StoreCorruptError
from common.frame import Frame, FrameIdentity
from common.store.content import ContentDatabase
from common.store.contract import Closable
from common.store.corrections import Correction, corrected_frame, correction_of
from common.store.log_rows import LOG_COLUMNS, record_of
from common.store.records import Record, RecordKind
from common.store.rows import checksum, frame_of, signed, source_frame, unsigned
from common.store.sqlite_corrections import newest_correction, own_correction

__all__ = ["SqliteTrainingView"]

USABLE = {"fog": "", "edge": "AND waiting = 0"}
"""Of each role: the condition of packets whose keyframe is there; in a log it precedes them."""

PACKETS = {
    "fog": "SELECT payload FROM log WHERE digest = :digest AND kind = 'packet' LIMIT 1",
    "edge": "SELECT payload FROM inbox WHERE digest = :digest AND kind = 'packet' "
    "UNION ALL SELECT packet FROM keyframes WHERE digest = :digest LIMIT 1",
}
"""Of each role: the query of a packet by content hash."""

TABLES = {"fog": ("log", "position"), "edge": ("inbox", "sequence")}
"""Of each role: the table of records and the column that orders them."""


class SqliteTrainingView(Closable):
    """:class:`common.store.contract.TrainingView` on a store's folder.

    Args:
        folder: Of a fog's or an edge's store.

    Raises:
        StoreError: There is no store, or a newer program wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self._database = ContentDatabase(folder, None)
        self._table, self._order = TABLES[self._database.role]
        self._damaged: dict[str, None] = {}

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    @property
    def last_position(self) -> int:
        """Position of the newest record."""
        with self._database.reading() as connection:
            row = connection.execute(f"SELECT max({self._order}) FROM {self._table}").fetchone()
        return int(row[0] or 0)

    @property
    def damaged(self) -> tuple[str, ...]:
        """One sentence for each damaged item left out so far."""
        return tuple(self._damaged)

    def packets_after(self, position: int, limit: int, max_bytes: int = 64 << 20) -> list[tuple[int, bytes]]:
        """Packets in order."""
        packets: list[tuple[int, bytes]] = []
        total = 0
        with self._database.reading() as connection:
            cursor = connection.execute(
                f"SELECT {self._order}, {LOG_COLUMNS}, checksum, payload FROM {self._table} "
                f"WHERE kind = ? AND {self._order} > ? {USABLE[self._database.role]} ORDER BY {self._order}",
                (RecordKind.PACKET.value, position),
            )
            for row in cursor:
                size = row[7] if isinstance(row[7], int) else 0
                if len(packets) >= limit or (packets and total + size > max_bytes):
                    break
                try:
                    _, payload = self._whole(row[1:9], row[9], row[10])
                except StoreCorruptError as error:
                    self._damaged[str(error)] = None
                    continue
                packets.append((row[0], payload))
                total += len(payload)
            cursor.close()
        return packets

    def packet(self, digest: bytes) -> bytes | None:
        """The packet with this content hash."""
        with self._database.reading() as connection:
            row = connection.execute(PACKETS[self._database.role], {"digest": digest}).fetchone()
            if row is None:
                return None
            try:
                return self._database.content(f"packet {digest.hex()}", digest, row[0])
            except StoreCorruptError as error:
                self._damaged[str(error)] = None
                return None

    def packet_of(self, identity: FrameIdentity) -> bytes | None:
        """The packet of this frame."""
        with self._database.reading() as connection:
            row = connection.execute(
                f"SELECT {LOG_COLUMNS}, checksum, payload FROM {self._table} WHERE device = ? AND epoch = ? "
                f"AND number = ? AND kind = ? {USABLE[self._database.role]}",
                (
                    identity.device,
                    signed(identity.epoch),
                    signed(identity.number),
                    RecordKind.PACKET.value,
                ),
            ).fetchone()
            if row is None:
                return None
            try:
                return self._whole(row[:8], row[8], row[9])[1]
            except StoreCorruptError as error:
                self._damaged[str(error)] = None
                return None

    def corrections_after(self, position: int, limit: int) -> list[tuple[int, Correction]]:
        """Corrected labels in order."""
        corrections: list[tuple[int, Correction]] = []
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {self._order}, {LOG_COLUMNS}, checksum, payload FROM {self._table} "
                f"WHERE kind = ? AND {self._order} > ? ORDER BY {self._order}",
                (RecordKind.LABELS.value, position),
            )
            for row in rows:
                if len(corrections) >= limit:
                    break
                try:
                    corrections.append((row[0], correction_of(*self._whole(row[1:9], row[9], row[10]))))
                except StoreCorruptError as error:
                    self._damaged[str(error)] = None
            rows.close()
        return corrections

    def correction(self, identity: FrameIdentity) -> Correction | None:
        """The newest correction of this frame."""
        with self._database.reading():
            return newest_correction(self._database, self._table, identity)

    def validation_originals(self, limit: int) -> list[Frame]:
        """The newest labelled validation frames whose original is here."""
        frames: dict[bytes, Frame] = {}
        with self._database.reading() as connection:
            sources = (
                [self._fog_originals(connection)]
                if self._database.role == "fog"
                else [self._own_originals(connection), self._fetched_originals(connection)]
            )
            # An edge takes its own and fetched ones in turn, so that neither crowds the other out.
            for item in chain.from_iterable(zip_longest(*sources)):
                if len(frames) >= limit:
                    break
                if item is not None and item[1].labelled:
                    frames.setdefault(item[0], item[1])
        return list(frames.values())

    def latest_weights(self) -> tuple[Record, bytes] | None:
        """The newest sound weights record with its bytes."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {LOG_COLUMNS}, checksum, payload FROM {self._table} "
                f"WHERE kind = ? ORDER BY {self._order} DESC",
                (RecordKind.WEIGHTS.value,),
            )
            for row in rows:
                try:
                    return self._whole(row[:8], row[8], row[9])
                except StoreCorruptError as error:
                    self._damaged[str(error)] = None
        return None

    def _whole(self, row: tuple[Any, ...], check: bytes, payload: bytes | None) -> tuple[Record, bytes]:
        record = record_of(row, check, payload)
        return record, self._database.blobs.read(record.digest) if record.payload is None else record.payload

    def _image(self, name: str, digest: bytes, image: bytes | None) -> bytes | None:
        """An original, or None when it is damaged."""
        try:
            return self._database.content(name, digest, image)
        except StoreCorruptError as error:
            self._damaged[str(error)] = None
            return None

    def _fog_originals(self, connection: sqlite3.Connection) -> Iterator[tuple[bytes, Frame]]:
        rows = connection.execute(
            "SELECT device, epoch, number, fingerprint, digest, size, facts, checksum, image FROM frames "
            "WHERE held_out = 1 ORDER BY arrival DESC"
        )
        for device, epoch, number, mark, digest, size, facts, check, image in rows:
            name = f"the original of frame {number} of device {device}"
            if check != checksum(device, epoch, number, mark, digest, size, facts):
                self._damaged[f"{name} does not match its checksum"] = None
                continue
            data = self._image(name, digest, image)
            if data is not None:
                identity = FrameIdentity(device, unsigned(epoch), unsigned(number))
                correction = newest_correction(self._database, self._table, identity)
                yield digest, corrected_frame(frame_of(json.loads(facts), data, identity), correction)

    def _own_originals(self, connection: sqlite3.Connection) -> Iterator[tuple[bytes, Frame]]:
        rows = connection.execute(
            "SELECT number, device, epoch, source_key, digest, size, facts, checksum, image FROM outbox "
            "WHERE held_out = 1 AND kept = 1 ORDER BY number DESC"
        )
        for number, device, epoch, source_key, digest, size, facts, check, image in rows:
            name = f"the original of frame {number}"
            if check != checksum(number, device, epoch, source_key, digest, size, facts):
                self._damaged[f"{name} does not match its checksum"] = None
                continue
            data = self._image(name, digest, image)
            if data is not None:
                frame = frame_of(json.loads(facts), data, FrameIdentity(device, unsigned(epoch), number))
                # Its own corrections hold here before the fog has them.
                own = own_correction(connection, number)
                yield digest, frame if own is None else replace(frame, labelled=own[0], boxes=own[1])

    def _fetched_originals(self, connection: sqlite3.Connection) -> Iterator[tuple[bytes, Frame]]:
        rows = connection.execute(
            f"SELECT {', '.join('i.' + name for name in LOG_COLUMNS.split(', '))}, i.checksum, o.image "
            "FROM inbox i JOIN originals o ON o.digest = i.source_digest ORDER BY i.sequence DESC"
        )
        for row in rows:
            try:
                record = record_of(row[:8], row[8], None)
            except StoreCorruptError as error:
                self._damaged[str(error)] = None
                continue
            source = source_frame(record.meta)
            if source is None:
                continue
            data = self._image(f"the original of record {record.position}", source.digest, row[9])
            if data is not None:
                frame = source.frame(data, record.identity)
                correction = newest_correction(self._database, self._table, record.identity)
                yield source.digest, corrected_frame(frame, correction)
