"""A large payload fetched in chunks into a file; goes on where it was stopped, also by a kill."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

from common.errors import MessageError, StoreError, StoreFullError, reason
from common.wire.messages import Chunk, Fetch

__all__ = ["BlobReceiver"]

READ_BYTES = 1 << 20
"""Memory used to hash the file."""


class BlobReceiver:
    """Collects the chunks of one payload; one Fetch at a time.

    Args:
        folder: Where the file ``<digest>.part`` grows; an existing one is continued.
        digest: Content hash of the whole.
        size: Bytes of the whole, as its record says.
        chunk_bytes: Length of a Fetch at most.

    Raises:
        StoreError: The file cannot be used.
    """

    def __init__(self, folder: Path, digest: bytes, size: int, chunk_bytes: int) -> None:
        self.digest = digest
        self.size = size
        self.path = folder / f"{digest.hex()}.part"
        self._chunk_bytes = chunk_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._received = self.path.stat().st_size if self.path.exists() else 0
            if self._received > size:
                self._restart()
        except OSError as error:
            raise self._typed(error) from error

    @property
    def received(self) -> int:
        """Bytes in the file."""
        return self._received

    @property
    def complete(self) -> bool:
        """Whether every byte is here; :meth:`verify` says whether they are right."""
        return self._received >= self.size

    def request(self) -> Fetch | None:
        """The Fetch to send next (or again), or None when complete."""
        if self.complete:
            return None
        length = min(self._chunk_bytes, self.size - self._received)
        return Fetch(self.digest, self._received, length)

    def accept(self, chunk: Chunk) -> bool:
        """Append a chunk; returns False for one that was not asked for, such as a late repetition.

        Raises:
            MessageError: The fog holds another size than the record says, or sent nothing.
            StoreFullError: No space left; the chunk may be accepted again later.
        """
        if chunk.digest != self.digest or chunk.offset != self._received or self.complete:
            return False
        if chunk.total != self.size:
            raise MessageError(
                f"content {self.digest.hex()} has {chunk.total} bytes at the fog, not the "
                f"{self.size} of its record"
            )
        length = min(self._chunk_bytes, self.size - self._received)
        if not 0 < len(chunk.payload) <= length:
            raise MessageError(
                f"a chunk of {len(chunk.payload)} bytes came where 1 to {length} were asked for"
            )
        try:
            with self.path.open("r+b" if self.path.exists() else "w+b") as handle:
                # Whatever a failed write left behind is overwritten.
                handle.seek(self._received)
                handle.write(chunk.payload)
                handle.truncate()
        except OSError as error:
            raise self._typed(error) from error
        self._received += len(chunk.payload)
        return True

    def verify(self) -> Path:
        """The complete file, checked against its hash: ready for ``EdgeStore.adopt_blob``.

        Raises:
            MessageError: It is not complete, or does not match: it was emptied to be fetched anew.
        """
        if not self.complete:
            raise MessageError(f"content {self.digest.hex()} is not complete; fetch the rest")
        state = hashlib.sha256()
        try:
            with self.path.open("rb") as handle:
                while part := handle.read(READ_BYTES):
                    state.update(part)
            if state.digest() != self.digest:
                self._restart()
                raise MessageError(f"content {self.digest.hex()} arrived damaged; it is fetched anew")
        except OSError as error:
            raise self._typed(error) from error
        return self.path

    def discard(self) -> None:
        """Remove the file: the content is no longer wanted."""
        self._restart()

    def _restart(self) -> None:
        self.path.unlink(missing_ok=True)
        self._received = 0

    def _typed(self, error: OSError) -> StoreError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreFullError(f"no space left for {self.path}; make room on its disk")
        return StoreError(f"{self.path} cannot be used: {reason(error)}")
