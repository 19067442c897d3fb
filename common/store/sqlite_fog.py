"""The fog's store in SQLite: uploads, the append-only log, and large payloads as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import StoreCorruptError, StoreError
from common.frame import FrameIdentity
from common.store.content import ContentDatabase
from common.store.contract import Closable, TrainingView
from common.store.quarantine import QuarantineState
from common.store.records import INLINE_LIMIT_BYTES, RecordKind
from common.store.rows import SOURCE_KEY, signed, source_facts, verified
from common.store.settings import FogStoreSettings
from common.store.sqlite_corrections import SqliteFogCorrections, carry_on
from common.store.sqlite_log import SqliteLog
from common.store.sqlite_uploads import SqliteUploads
from common.store.sqlite_view import SqliteTrainingView

__all__ = ["SqliteFogStore"]

FILE_REFERENCES = """
SELECT 1 FROM frames WHERE digest = :digest AND kept = 1 AND image IS NULL
UNION ALL SELECT 1 FROM log WHERE digest = :digest AND payload IS NULL LIMIT 1
"""


class SqliteFogStore(SqliteUploads, SqliteLog, SqliteFogCorrections, Closable):
    """:class:`common.store.contract.FogStore` in a folder: uploads and log on one database.

    Args:
        folder: Made when missing.
        settings: Bounds.

    Raises:
        StoreError: Another process has it open, or a newer program wrote it.
    """

    def __init__(self, folder: Path, settings: FogStoreSettings | None = None) -> None:
        self._settings = settings or FogStoreSettings()
        self._database = ContentDatabase(folder, "fog", FILE_REFERENCES, self._settings)
        with self._database.opening():
            SqliteLog.__init__(self, self._database, self._settings)
            SqliteUploads.__init__(
                self,
                self._database,
                self.quarantine,
                lambda frames: self.retention.refusal(self.usage, frames),
            )

    def close(self) -> None:
        """Give up files and locks."""
        self._database.close()

    @property
    def quarantined(self) -> QuarantineState:
        """What was found damaged."""
        return self.quarantine.state

    @property
    def full(self) -> str | None:
        """Why uploads are refused by retention."""
        return self.retention.refusal(self.usage, self.pending_count + 1)

    def finish(
        self, identity: FrameIdentity, kind: RecordKind, meta: Mapping[str, Any], payload: bytes
    ) -> int:
        """Append a frame's record and mark the frame done."""
        if kind not in (RecordKind.PACKET, RecordKind.TOMBSTONE):
            raise StoreError(f"a frame is finished by a packet or a tombstone, not by {kind.value}")
        key = (identity.device, signed(identity.epoch), signed(identity.number))
        drop: bytes | None = None
        with self._database.lock:
            with self._database.writing() as connection:
                row = connection.execute(
                    "SELECT arrival, position, digest, size, facts, held_out FROM frames "
                    "WHERE device = ? AND epoch = ? AND number = ?",
                    key,
                ).fetchone()
                if row is None:
                    raise StoreError(f"{identity} was never committed here; commit it first")
                arrival, position, digest, size, facts, held_out = row
                if position is not None:
                    return int(position)
                if held_out and kind is RecordKind.PACKET:
                    meta = {**meta, SOURCE_KEY: source_facts(json.loads(facts), digest, size)}
                position = self._append(connection, kind, identity, meta, payload)
                if kind is RecordKind.PACKET:
                    carry_on(connection, identity, self.oldest_position - 1, position)
                keep = held_out or kind is RecordKind.TOMBSTONE or self._settings.keep_training_originals
                connection.execute(
                    "UPDATE frames SET position = ?, kept = ?, image = iif(?, image, NULL) WHERE arrival = ?",
                    (position, int(keep), int(keep), arrival),
                )
                # Smaller images are in their row; asking for a file would cost every frame.
                drop = digest if size > INLINE_LIMIT_BYTES and not keep else None
            self._pending_count -= 1
            self._appended(len(payload), size if keep else 0)
            if drop is not None:
                self._database.discard([drop])
            return position

    # Content by hash

    def blob_size(self, digest: bytes) -> int | None:
        """Bytes of the payload or original with this hash."""
        with self._database.reading():
            inline = self._inline(digest)
            if inline is not None:
                return len(inline)
            return self._database.blobs.size(digest) if self._database.refers(digest) else None

    def blob(self, digest: bytes, offset: int, length: int) -> bytes:
        """Part of a payload or original; the whole is verified when its beginning is read."""
        with self._database.reading():
            inline = self._inline(digest)
            if inline is not None:
                return verified(f"content {digest.hex()}", inline, digest)[offset : offset + length]
            if not self._database.refers(digest):
                raise StoreError(f"content {digest.hex()} is not here; pull the log again")
            try:
                if offset == 0:
                    self._database.blobs.verify(digest)
                return self._database.blobs.read(digest, offset, length)
            except StoreCorruptError as error:
                self.lose_content(digest, str(error))
                raise

    def blob_sources(self, digest: bytes) -> frozenset[str]:
        """Devices whose records or originals have this content."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT device FROM log WHERE digest = ? "
                "UNION SELECT device FROM frames WHERE digest = ? AND kept = 1",
                (digest, digest),
            ).fetchall()
        return frozenset(row[0] for row in rows)

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return SqliteTrainingView(self._database.folder)

    def _inline(self, digest: bytes) -> bytes | None:
        row = self._database.connection.execute(
            "SELECT image FROM frames WHERE digest = ? AND image IS NOT NULL "
            "UNION ALL SELECT payload FROM log WHERE digest = ? AND payload IS NOT NULL LIMIT 1",
            (digest, digest),
        ).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else None
