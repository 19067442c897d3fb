"""Large payloads as files named by content hash: whole and durable, or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import StoreCorruptError, StoreError, StoreFullError, reason

__all__ = ["BlobFolder", "durable_folder", "sync_folder"]

READ_BYTES = 1 << 20
"""Memory used to hash a file."""

PART_SECONDS = 7 * 86_400
"""A file being received that has not grown for so long is given up; asked for again, it begins anew."""


class BlobFolder:
    """Files ``<first 2 hex digits>/<64 hex digits>`` below a folder.

    A file appears by rename after its content is synced, so a name that exists is complete.

    Args:
        folder: Made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        durable_folder(self._incoming)
        # Folders that a killed process made may not have been synced.
        sync_folder(folder)
        sync_folder(folder.parent)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._folder

    @property
    def incoming(self) -> Path:
        """Folder for files being received; kept across restarts."""
        return self._incoming

    def path(self, digest: bytes) -> Path:
        """Where the content with this hash is, or would be."""
        name = digest.hex()
        return self._folder / name[:2] / name

    def size(self, digest: bytes) -> int | None:
        """Bytes of the content, or None if it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def write(self, digest: bytes, data: bytes) -> bool:
        """Store content durably; returns False if it was here already.

        A file of that name whose content is damaged is replaced.

        Raises:
            StoreFullError: No space; nothing is left behind.
        """
        if self.size(digest) == len(data) and self._intact(digest):
            return False
        temporary = self._folder / f"{digest.hex()}.{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("xb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            self._place(temporary, digest)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _typed(error, self._folder) from error
        return True

    def adopt(self, digest: bytes, source: Path) -> None:
        """Move a file of this file system in, after verifying it.

        Raises:
            StoreError: Its content does not have this hash, or it cannot be read.
        """
        try:
            if _hash(source) != digest:
                raise StoreError(f"{source} does not have the content hash {digest.hex()}; fetch it again")
            with source.open("rb+") as handle:
                os.fsync(handle.fileno())
            self._place(source, digest)
        except OSError as error:
            raise _typed(error, self._folder) from error

    def read(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        """Content, or a part of it; whole content (no length) is verified.

        Raises:
            StoreCorruptError: It is missing or damaged.
        """
        try:
            with self.path(digest).open("rb") as handle:
                # Beyond the end nothing is; far beyond it the system would call the offset an error.
                handle.seek(min(offset, os.fstat(handle.fileno()).st_size))
                data = handle.read(-1 if length is None else length)
        except FileNotFoundError as error:
            raise StoreCorruptError(f"blob {digest.hex()} is missing from {self._folder}") from error
        except OSError as error:
            raise _typed(error, self._folder) from error
        if length is None and offset == 0 and hashlib.sha256(data).digest() != digest:
            raise StoreCorruptError(f"blob {digest.hex()} in {self._folder} does not match its checksum")
        return data

    def verify(self, digest: bytes) -> None:
        """Check the whole content in bounded memory.

        Raises:
            StoreCorruptError: It is missing or damaged.
            StoreError: It cannot be read at present.
        """
        try:
            intact = _hash(self.path(digest)) == digest
        except FileNotFoundError:
            intact = False
        except OSError as error:
            raise _typed(error, self._folder) from error
        if not intact:
            raise StoreCorruptError(f"blob {digest.hex()} in {self._folder} is missing or damaged")

    def delete(self, digest: bytes) -> None:
        """Remove content; harmless if it is not here."""
        self.path(digest).unlink(missing_ok=True)

    def sweep(self, wanted: Callable[[bytes], bool], held: Callable[[bytes], bool] = lambda _: False) -> int:
        """Remove what a killed writer left behind; returns how many files went.

        Args:
            wanted: Whether content is still referred to.
            held: Whether content is here, in a file or a row: it need not be received any more.
        """
        removed = 0
        for path in [*self._folder.glob("*.tmp"), *self._folder.glob("??/*")]:
            try:
                keep = path.suffix != ".tmp" and wanted(bytes.fromhex(path.name))
            except ValueError:
                continue
            if not keep:
                path.unlink(missing_ok=True)
                removed += 1
        oldest = time.time() - PART_SECONDS
        for path in self._incoming.glob("*.part"):
            try:
                done = held(bytes.fromhex(path.stem))
            except ValueError:
                done = False
            if done or path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _intact(self, digest: bytes) -> bool:
        try:
            self.verify(digest)
        except StoreError:
            return False
        return True

    def _place(self, source: Path, digest: bytes) -> None:
        """Rename into place and make both the name and a new folder durable."""
        target = self.path(digest)
        durable_folder(target.parent)
        source.replace(target)
        sync_folder(target.parent)


def _hash(path: Path) -> bytes:
    state = hashlib.sha256()
    with path.open("rb") as handle:
        while part := handle.read(READ_BYTES):
            state.update(part)
    return state.digest()


def durable_folder(folder: Path) -> None:
    """Make a folder with its parents, so that none of their names goes with the power."""
    if not folder.is_dir():
        durable_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _typed(error: OSError, folder: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFullError(f"no space left for {folder}; make room on its disk")
    return StoreError(f"{folder} cannot be used: {reason(error)}")
