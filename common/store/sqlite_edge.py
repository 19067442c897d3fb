"""The edge's store in SQLite: an outbox of recorded frames and an inbox of the fogs' records."""

from __future__ import annotations

from pathlib import Path

from common.store.content import ContentDatabase
from common.store.contract import Closable, TrainingView
from common.store.settings import EdgeStoreSettings
from common.store.sqlite_corrections import SqliteEdgeCorrections
from common.store.sqlite_inbox import SqliteInbox
from common.store.sqlite_outbox import SqliteOutbox
from common.store.sqlite_retained_inbox import SqliteRetainedInbox
from common.store.sqlite_view import SqliteTrainingView

__all__ = ["SqliteEdgeStore"]

FILE_REFERENCES = """
SELECT 1 FROM outbox WHERE digest = :digest AND kept = 1 AND image IS NULL
UNION ALL SELECT 1 FROM originals WHERE digest = :digest AND image IS NULL
UNION ALL SELECT 1 FROM keyframes WHERE digest = :digest AND packet IS NULL
UNION ALL SELECT 1 FROM inbox WHERE digest = :digest AND payload IS NULL LIMIT 1
"""

CONTENT_REFERENCES = """
SELECT 1 FROM outbox WHERE digest = :digest AND kept = 1
UNION ALL SELECT 1 FROM originals WHERE digest = :digest
UNION ALL SELECT 1 FROM keyframes WHERE digest = :digest
UNION ALL SELECT 1 FROM inbox WHERE digest = :digest LIMIT 1
"""
"""Rows that hold content or refer to its file."""


class SqliteEdgeStore(SqliteOutbox, SqliteRetainedInbox, SqliteEdgeCorrections, Closable):
    """:class:`common.store.contract.EdgeStore` in a folder: outbox and inbox on one database.

    Args:
        folder: Made when missing.
        device: This device's key.
        settings: Bounds.

    Raises:
        StoreError: Another process has it open, or a newer program wrote it.
    """

    def __init__(self, folder: Path, device: str, settings: EdgeStoreSettings | None = None) -> None:
        settings = settings or EdgeStoreSettings()
        database = ContentDatabase(folder, "edge", FILE_REFERENCES, settings)
        self._database = database
        with database.opening(self._has_row):
            SqliteOutbox.__init__(self, database, device, settings)
            SqliteInbox.__init__(self, database, settings)

    def close(self) -> None:
        """Give up files and locks."""
        self._database.close()

    def adopt_blob(self, digest: bytes, path: Path) -> None:
        """Take over a received file."""
        # Not under the lock: hashing and syncing a large file may take a slow disk seconds.
        self._database.blobs.adopt(digest, path)

    def has_blob(self, digest: bytes) -> bool:
        """Whether this content is here."""
        with self._database.reading():
            return self._database.blobs.size(digest) is not None or self._has_row(digest)

    @property
    def incoming_folder(self) -> Path:
        """Folder for files being received."""
        return self._database.blobs.incoming

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return SqliteTrainingView(self._database.folder)

    def _has_row(self, digest: bytes) -> bool:
        row = self._database.connection.execute(CONTENT_REFERENCES, {"digest": digest}).fetchone()
        return row is not None
