"""Frames that are laid aside come to the device before their batch, while the one before it is trained on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from common.learning.laid_aside import Returned
from common.learning.resident import ResidentStore
from common.learning.views import View

__all__ = ["Prefetch"]


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
            self._store.stage(returned)
            yield views
        finally:
            self._store.unstage()
