"""Carries out the reads that the sessions ask of the store, in its reading thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from common.errors import StoreCorruptError
from common.node.jobs import Jobs
from common.store.contract import FogStore
from common.store.records import LogPage
from fog_node.downlinks import Downlinks
from fog_node.instructions import Instruction, ReadBlob, ReadLog
from fog_node.state import FogState

__all__ = ["LogReader"]

_log = logging.getLogger(__name__)


class LogReader:
    """Pages of the log and pieces of content for the sessions of a fog.

    What a session asked for that has ended by then is not read: a device that says Hello and asks again and
    again would else keep the thread from all others.

    Args:
        state: The sessions; told of each outcome.
        store: The fog's store.
        reads: Its reading thread.
        downlinks: Told of what is sent.
        perform: Carries out instructions.
    """

    def __init__(
        self,
        state: FogState,
        store: FogStore,
        reads: Jobs,
        downlinks: Downlinks,
        perform: Callable[[Sequence[Instruction]], None],
    ) -> None:
        self._state = state
        self._store = store
        self._reads = reads
        self._downlinks = downlinks
        self._perform = perform

    def read_log(self, request: ReadLog) -> None:
        """Read a page of the log."""

        def read() -> LogPage | None:
            if self._state.session(request.session) is None:
                return None
            return self._store.read(
                request.after, request.limit, request.max_bytes, request.devices, request.kinds
            )

        def done(page: LogPage | None) -> None:
            if page is None:
                return
            self._perform(self._state.page_read(request.session, page))
            session = self._state.session(request.session)
            if session is not None:
                self._downlinks.sent(session.key, session.window.records_in_flight, time.monotonic())

        def failed(error: Exception) -> None:
            _log.error("the log cannot be read: %s", error)
            self._state.page_failed(request.session, time.monotonic())

        self._reads.run(read, done, failed)

    def read_blob(self, request: ReadBlob) -> None:
        """Read a piece of content."""

        def read() -> tuple[int | None, bytes]:
            if self._state.session(request.session) is None:
                return None, b""
            total = self._store.blob_size(request.digest)
            allowed = request.devices is None or request.devices & self._store.blob_sources(request.digest)
            if total is None or not allowed:
                return None, b""
            return total, self._store.blob(request.digest, request.offset, request.length)

        def done(answer: tuple[int | None, bytes]) -> None:
            self._perform(self._state.blob_read(request.session, request, *answer))
            session = self._state.session(request.session)
            if session is not None:
                self._downlinks.fetched(session.key, len(answer[1]), time.monotonic())

        def failed(error: Exception) -> None:
            _log.error("content %s cannot be read: %s", request.digest.hex(), error)
            if isinstance(error, StoreCorruptError):
                # Damaged content does not mend: for the edge it is not there.
                done((None, b""))
            else:
                self._perform(self._state.blob_failed(request.session, request))

        self._reads.run(read, done, failed)
