"""The encoding of frames as it is carried out: workers, reads of frames and writes of their records.

What is to be done is decided by :class:`fog_node.encoding.EncodingState`. Every method runs in the daemon's
I/O thread; the store is read and written by the given jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from common.node.child import Child
from common.node.jobs import Call, Jobs
from common.node.logs import about
from common.node.mailbox import Mailbox
from common.store.contract import FogStore
from common.store.records import PendingFrame, RecordKind
from fog_node.encoding import (
    Assign,
    EncodingInstruction,
    EncodingState,
    Finish,
    FinishFrames,
    Kill,
    LoadPending,
)
from fog_node.log_records import finish_frames, record_of
from fog_node.settings import FogSettings
from fog_node.workers.encoder_messages import BatchEncoded, StartEncoder
from fog_node.workers.encoder_pool import encoder_pool

__all__ = ["FrameEncoding"]

_log = logging.getLogger(__name__)


class FrameEncoding:
    """Takes committed frames from the store, has them encoded, and writes what became of them.

    Args:
        settings: Of the fog.
        store: Its store.
        reads, writes: Threads for the store.
        mailbox: Brings outcomes of jobs and workers to the I/O thread.
        on_finished: Called with frames whose records were written, in order, and the log's last position.
    """

    def __init__(
        self,
        settings: FogSettings,
        store: FogStore,
        reads: Jobs,
        writes: Jobs,
        mailbox: Mailbox[Call],
        on_finished: Callable[[Sequence[Finish], int], None],
    ) -> None:
        workers, encoder = settings.workers, settings.encoder
        self._store = store
        self._reads = reads
        self._writes = writes
        self._on_finished = on_finished
        self._state = EncodingState(
            workers=workers.workers,
            batch_frames=encoder.batch_frames,
            wait_s=workers.wait_s,
            attempts=workers.attempts,
            batch_timeout_s=workers.batch_timeout_s,
            retry_s=settings.retry_full_s,
        )
        self._pool = encoder_pool(
            workers,
            settings.children,
            StartEncoder(encoder.model_dump(mode="json"), workers.device, workers.threads),
            mailbox,
            on_ready=lambda number: self._perform(self._state.worker_ready(number, time.monotonic())),
            on_encoded=self._encoded,
            on_lost=lambda number, how, blamed: self._perform(
                self._state.worker_lost(number, how, time.monotonic(), blamed=blamed)
            ),
        )

    @property
    def children(self) -> list[Child]:
        """The running encoder workers."""
        return self._pool.children

    @property
    def held(self) -> int:
        """Frames that encoders have, or whose records are not written yet."""
        return self._state.held

    @property
    def writing(self) -> bool:
        """Whether records are being written."""
        return self._state.writing

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._pool.tick(now)
        self._perform(self._state.tick(now))

    def frames_committed(self) -> None:
        """There are new frames in the store."""
        self._perform(self._state.frames_committed(time.monotonic()))

    def stop(self) -> None:
        """Assign nothing new and end the workers."""
        self._state.stop()
        self._pool.stop()

    def status(self) -> list[dict[str, Any]]:
        """A map for each worker."""
        return self._pool.status()

    def _encoded(self, number: int, message: BatchEncoded) -> None:
        self._perform(self._state.batch_encoded(number, message.batch, message.results, time.monotonic()))

    def _perform(self, instructions: Sequence[EncodingInstruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Assign():
                    self._pool.assign(instruction)
                case Kill(worker):
                    self._pool.kill(worker)
                case LoadPending():
                    self._load(instruction)
                case FinishFrames(items):
                    self._finish(items)

    def _load(self, request: LoadPending) -> None:
        def done(frames: list[PendingFrame]) -> None:
            self._perform(self._state.loaded(frames, request.limit, time.monotonic()))

        def failed(error: Exception) -> None:
            _log.error("frames to encode cannot be read: %s", error)
            self._perform(self._state.load_failed(time.monotonic()))

        self._reads.run(lambda: self._store.pending_frames(request.limit, request.without), done, failed)

    def _finish(self, items: tuple[Finish, ...]) -> None:
        def done(last_position: int) -> None:
            for item in items:
                kind, meta, _ = record_of(item)
                if kind is RecordKind.TOMBSTONE:
                    number, device = item.identity.number, item.identity.device
                    facts = about(device=device, frame=number)
                    _log.warning(
                        "frame %d of %s was not encoded: %s", number, device, meta["reason"], extra=facts
                    )
            self._on_finished(items, last_position)
            self._perform(self._state.finished(time.monotonic()))

        def failed(error: Exception) -> None:
            _log.error("packets wait to be written: %s", error)
            self._perform(self._state.finish_failed(time.monotonic()))

        self._writes.run(lambda: finish_frames(self._store, items), done, failed)
