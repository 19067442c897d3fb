"""A database and the files beside it that hold its large content, kept in step."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.store.blobs import BlobFolder
from common.store.database import Database
from common.store.lost_commits import keep_marks, tell_lost_commits
from common.store.records import INLINE_LIMIT_BYTES
from common.store.rows import verified
from common.store.schema import Role
from common.store.settings import StoreSettings

__all__ = ["ContentDatabase"]


class ContentDatabase(Database):
    """A store's database; content above ``INLINE_LIMIT_BYTES`` is a file named by its hash.

    Args:
        folder: As of :class:`Database`.
        role: As of :class:`Database`.
        references: SQL that gives a row when one refers to the file of hash ``:digest``.
        settings: As of :class:`Database`.

    Attributes:
        blobs: The files.

    Raises:
        StoreError: As of :class:`Database`.
    """

    def __init__(
        self,
        folder: Path,
        role: Role | None,
        references: str = "",
        settings: StoreSettings | None = None,
    ) -> None:
        super().__init__(folder, role, settings)
        self._references = references
        self._written: list[bytes] = []
        try:
            self.blobs = BlobFolder(folder / "blobs")
        except BaseException:
            self.close()
            raise

    @contextmanager
    def opening(self, held: Callable[[bytes], bool] = lambda _: False) -> Iterator[sqlite3.Connection]:
        """The first transaction: removes what a killed writer left, and tells what a damaged log has lost.

        The database is closed if it fails.

        Args:
            held: As of :meth:`BlobFolder.sweep`.
        """
        try:
            with self.transaction() as connection:
                self.blobs.sweep(self.refers, held)
                tell_lost_commits(self)
                yield connection
                keep_marks(self)
            if self.fresh:
                # The tables and the store's identity must not hang on a write-ahead log for long.
                self._give_log_back()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may :meth:`keep` content; its new files go when it is rolled back."""
        with self.lock:
            self._written = []
            try:
                with self.transaction() as connection:
                    yield connection
            except BaseException:
                self.discard(self._written)
                raise

    def require_room_for(self, contents: Iterable[bytes]) -> None:
        """Refuse to take this content in when the disk would fall below its reserve.

        Raises:
            StoreFullError: Too little free space.
        """
        sizes = [len(data) for data in contents]
        large = sum(size for size in sizes if size > INLINE_LIMIT_BYTES)
        self.require_room(sum(sizes) - large, large)

    def keep(self, digest: bytes, data: bytes) -> bytes | None:
        """The column value of content: itself, or None once it is a durable file; within :meth:`writing`.

        Raises:
            StoreFullError: No space for the file.
        """
        if len(data) <= INLINE_LIMIT_BYTES:
            return data
        self._written.append(digest)
        self.blobs.write(digest, data)
        return None

    def content(self, name: str, digest: bytes, inline: object) -> bytes:
        """Whole content, from its column or, where that is None, from its file.

        Raises:
            StoreCorruptError: It is missing or damaged; ``name`` says what it is.
        """
        return self.blobs.read(digest) if inline is None else verified(name, inline, digest)

    def refers(self, digest: bytes) -> bool:
        """Whether a row refers to the file of this hash."""
        return self.connection.execute(self._references, {"digest": digest}).fetchone() is not None

    def discard(self, digests: Iterable[bytes]) -> None:
        """Remove files that no row refers to (any longer)."""
        with self.reading():
            for digest in digests:
                if not self.refers(digest):
                    self.blobs.delete(digest)
