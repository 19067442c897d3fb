"""The edge's store in memory: the same contract for tests and simulations; nothing outlives it."""

from __future__ import annotations

import threading
from itertools import chain, zip_longest

from common.errors import StoreError
from common.frame import Frame
from common.store.contract import Closable, TrainingView
from common.store.memory_corrections import MemoryEdgeCorrections
from common.store.memory_inbox import MemoryInbox
from common.store.memory_outbox import MemoryOutbox
from common.store.memory_view import MemoryTrainingView
from common.store.records import Record
from common.store.settings import EdgeStoreSettings

__all__ = ["MemoryEdgeStore"]


class MemoryEdgeStore(MemoryOutbox, MemoryInbox, MemoryEdgeCorrections, Closable):
    """:class:`common.store.contract.EdgeStore` without a disk.

    Args:
        device: This device's key.
        settings: As of the durable one; bounds on the disk mean nothing here.
    """

    def __init__(self, device: str, settings: EdgeStoreSettings | None = None) -> None:
        settings = settings or EdgeStoreSettings()
        self._lock = threading.RLock()
        self._closed = False
        MemoryOutbox.__init__(self, device, settings)
        MemoryInbox.__init__(self, settings)
        MemoryEdgeCorrections.__init__(self)

    def close(self) -> None:
        """Refuse further calls."""
        self._closed = True
        self._folder.cleanup()

    def _open(self) -> threading.RLock:
        if self._closed:
            raise StoreError("the store in memory is closed")
        return self._lock

    def training_view(self) -> TrainingView:
        """A view for the same process."""
        return MemoryTrainingView(self._records, self._originals, self._keyframes, self._own_correction)

    def _records(self) -> list[tuple[int, Record]]:
        with self._open():
            return list(self._inbox.items())

    def _originals(self) -> list[Frame]:
        with self._open():
            own, fetched = self._own_originals(), self._fetched_originals()
        # Its own and fetched ones in turn, so that neither crowds the other out.
        turns = chain.from_iterable(zip_longest(own, fetched))
        return [frame for frame in turns if frame is not None]
