"""Fetches one large payload or original at a time, in chunks, into the edge's store."""

from __future__ import annotations

import logging
from collections.abc import Callable

from common.errors import MessageError, StoreFullError
from common.node.jobs import Jobs
from common.store.contract import EdgeStore
from common.wire.messages import Chunk, ErrorCode, Fetch
from common.wire.transfer import BlobReceiver
from edge_node.receiving import Content, FetchBlob, Problem

__all__ = ["Fetcher"]

RETRY_S = 2.0
"""Seconds between two attempts at content that cannot be read at the fog or written here."""

DAMAGED_TRIES = 4
"""Attempts at content that arrives damaged before it is passed over."""

_log = logging.getLogger(__name__)


class Fetcher:
    """Carries out :class:`edge_node.receiving.FetchBlob`; files are touched in the store's thread only.

    Args:
        store: The edge's store.
        jobs: The store's thread.
        send: Sends a Fetch.
        done: Called with the request and None when its content is in the store now, else with the problem:
            the fog does not have it, or its content is damaged. A record's payload that only cannot be read
            or written now is tried again without end; other content is given up for now.
    """

    def __init__(
        self,
        store: EdgeStore,
        jobs: Jobs,
        *,
        send: Callable[[Fetch], None],
        done: Callable[[FetchBlob, Problem | None], None],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._send = send
        self._done = done
        self._request: FetchBlob | None = None
        self._receiver: BlobReceiver | None = None
        self._chunk_bytes = 0
        self._damaged = 0
        self._retry_at: float | None = None
        self._problem = ""

    @property
    def busy(self) -> bool:
        """Whether a fetch is under way."""
        return self._request is not None

    def begin(self, request: FetchBlob, chunk_bytes: int) -> None:
        """Begin; at most ``chunk_bytes`` are asked for at a time."""
        self._damaged, self._problem = 0, ""
        self._begin(request, chunk_bytes)

    def _begin(self, request: FetchBlob, chunk_bytes: int) -> None:
        self._request, self._receiver, self._chunk_bytes = request, None, chunk_bytes
        self._retry_at = None

        def look() -> BlobReceiver | None:
            if self._store.has_blob(request.digest):
                return None
            return BlobReceiver(self._store.incoming_folder, request.digest, request.size, chunk_bytes)

        def found(receiver: BlobReceiver | None) -> None:
            if request is not self._request:
                return
            if receiver is None:
                self._end(None)
                return
            self._receiver = receiver
            self._ask()

        self._jobs.run(look, found, lambda error: self._failed(request, error))

    def cancel(self) -> None:
        """The session has ended; what was received stays on disk and is continued later."""
        self._request = self._receiver = None
        self._retry_at = None

    def chunk(self, chunk: Chunk) -> None:
        """A chunk has come."""
        request, receiver = self._request, self._receiver
        if request is None or receiver is None or chunk.digest != request.digest:
            return

        def take() -> bool:
            receiver.accept(chunk)
            if not receiver.complete:
                return False
            self._keep(request, receiver)
            return True

        def taken(kept: bool) -> None:
            if request is not self._request:
                return
            # Not receiver.complete: an original's file is gone once it is kept.
            if kept:
                self._end(None)
            else:
                self._ask()

        self._jobs.run(take, taken, lambda error: self._failed(request, error))

    def unavailable(self, digest: bytes, code: str, sentence: str) -> None:
        """The fog does not give this content; only NOT_FOUND says that it never will."""
        request = self._request
        if request is None or request.digest != digest:
            return
        if code == ErrorCode.NOT_FOUND:
            self._give_up(request, Problem(sentence, gone=True))
        else:
            self._try_again(request, sentence)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._retry_at is None:
            return
        if self._retry_at < 0:
            self._retry_at = now + RETRY_S
        elif now >= self._retry_at:
            self._retry_at = None
            if self._request is not None:
                self._begin(self._request, self._chunk_bytes)

    def _keep(self, request: FetchBlob, receiver: BlobReceiver) -> None:
        path = receiver.verify()
        match request.content:
            case Content.PAYLOAD:
                self._store.adopt_blob(request.digest, path)
                return
            case Content.ORIGINAL:
                self._store.store_original(request.digest, path.read_bytes())
            case Content.KEYFRAME:
                self._store.store_keyframe(request.digest, path.read_bytes())
        receiver.discard()

    def _ask(self) -> None:
        fetch = None if self._receiver is None else self._receiver.request()
        if fetch is None:
            # Everything was received before a restart, only not taken over.
            request, receiver = self._request, self._receiver
            if request is not None and receiver is not None:
                self._jobs.run(
                    lambda: self._keep(request, receiver),
                    lambda _: self._end(None) if request is self._request else None,
                    lambda error: self._failed(request, error),
                )
            return
        self._send(fetch)

    def _failed(self, request: FetchBlob, error: Exception) -> None:
        if request is not self._request:
            return
        damaged = isinstance(error, MessageError)
        self._damaged += damaged
        if damaged and self._damaged >= DAMAGED_TRIES:
            self._give_up(request, Problem(str(error)))
        elif damaged or isinstance(error, StoreFullError):
            self._begin_later(request, str(error))
        else:
            self._try_again(request, str(error))

    def _try_again(self, request: FetchBlob, sentence: str) -> None:
        """What fails may work later: a record must not be lost by it, other content holds nobody up."""
        if request.content is Content.PAYLOAD:
            self._begin_later(request, sentence)
        else:
            self._give_up(request, Problem(sentence))

    def _begin_later(self, request: FetchBlob, sentence: str) -> None:
        if sentence != self._problem:
            _log.warning("content %s will be fetched again: %s", request.digest.hex(), sentence)
        self._problem = sentence
        self._receiver = None
        self._retry_at = -1.0

    def _give_up(self, request: FetchBlob, problem: Problem) -> None:
        what = request.content.name.lower()
        _log.warning("%s %s is not to be had: %s", what, request.digest.hex(), problem.sentence)
        self._end(problem)

    def _end(self, problem: Problem | None) -> None:
        request, self._request, self._receiver = self._request, None, None
        self._retry_at = None
        if request is not None:
            self._done(request, problem)
