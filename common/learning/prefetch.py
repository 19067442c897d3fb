"""Frames that are laid aside come to the device before their batch, while the one before it is trained on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from common.learning.laid_aside import Returned
from common.learning.resident import ResidentStore
from common.learning.views import View

__all__ = ["Prefetch", "stage_frames"]


def stage_frames(store: ResidentStore, frames: Sequence[int], returned: Sequence[Returned]) -> None:
    """Put frames on the device that were read back, and give up those that could not be.

    Args:
        store: Where the frames are; what is lost of it is named on stderr and lives on in the node's store.
        frames: Those that are wanted.
        returned: What was read of them.
    """
    store.stage(returned)
    lost = store.away(frames)
    if lost:
        store.remove(lost)
        sys.stderr.write(
            f"training: {len(lost)} frames that were laid aside cannot be read any more and are left out "
            "until the next start; look after the disk of the trainer's folder\n"
        )


class Prefetch:
    """Stages the frames of batches; one batch is read ahead, in a thread of its own.

    Args:
        store: Where the frames are.

    Attributes:
        waited: Seconds that a batch had to wait for its frames, all batches together.
        fetched: Frames read back.
    """

    def __init__(self, store: ResidentStore) -> None:
        self._store = store
        self.waited = 0.0
        self.fetched = 0

    def batches(self, batches: Iterable[Sequence[View]]) -> Iterator[Sequence[View]]:
        """Each batch, once its frames can be decoded; they can until the next one is asked for."""
        with ThreadPoolExecutor(1, "prefetch") as pool:
            before: tuple[Sequence[View], Future[list[Returned]]] | None = None
            for views in batches:
                away = self._store.away([frame for view in views for frame in view.frames])
                future = pool.submit(self._store.fetch, away)
                if before is not None:
                    yield from self._staged(*before)
                before = views, future
            if before is not None:
                yield from self._staged(*before)

    def _staged(self, views: Sequence[View], future: Future[list[Returned]]) -> Iterator[Sequence[View]]:
        begin = time.perf_counter()
        returned = future.result()
        self.waited += time.perf_counter() - begin
        self.fetched += len(returned)
        try:
            stage_frames(self._store, [frame for view in views for frame in view.frames], returned)
            yield views
        finally:
            self._store.unstage()
