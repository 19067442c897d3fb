"""A thread-safe queue that wakes a poller: how worker threads hand events to a daemon's one I/O thread."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Events from any thread to one reader, which polls ``fileno()`` together with its sockets.

    What is posted is bounded by its posters: each has at most one unanswered job or a bounded queue.
    """

    def __init__(self) -> None:
        self._events: deque[T] = deque()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    @property
    def waiting(self) -> bool:
        """Whether there are events; looking costs next to nothing."""
        return bool(self._events)

    def fileno(self) -> int:
        """Descriptor that is readable while events wait."""
        return self._reader

    def post(self, event: T) -> None:
        """Add an event; never blocks, from any thread or signal handler."""
        self._events.append(event)
        # A full pipe already wakes the reader; a closed one has no reader left to wake.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._writer, b"\0")

    def drain(self) -> list[T]:
        """Every event posted so far, oldest first."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reader, 65_536):
                pass
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def close(self) -> None:
        """Release the descriptors; later posts are kept but wake nobody."""
        os.close(self._writer)
        os.close(self._reader)
