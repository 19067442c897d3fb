"""Counts the frames that the log held before the fog's start, without holding anything else up."""

from __future__ import annotations

import logging
from collections.abc import Callable

from common.node.jobs import Jobs
from common.store.contract import FogStore
from common.store.records import LogPage, RecordKind
from fog_node.log_records import Figures

__all__ = ["LogCount"]

SCAN_RECORDS = 256
"""Records of one page when the log is counted after a start."""

SCAN_BYTES = 8 << 20
"""Payload bytes of such a page."""

_log = logging.getLogger(__name__)


class LogCount:
    """Counts the frames encoded before this start, page by page behind other reads.

    Args:
        figures: Takes the counts.
        store: Its log is read.
        reads: Runs the reads.
        until: Last position of the log that is counted; 0 when the log is empty.
        on_counted: Called in the I/O thread when all is counted, unless there was nothing to count or a
            page could not be read.
    """

    def __init__(
        self,
        figures: Figures,
        store: FogStore,
        reads: Jobs,
        *,
        until: int,
        on_counted: Callable[[], None],
    ) -> None:
        self._figures = figures
        self._store = store
        self._reads = reads
        self._until = until
        self._on_counted = on_counted
        self._ended = until <= 0
        if not self._ended:
            self._read(0)

    @property
    def ended(self) -> bool:
        """Whether the count is over, be it complete or broken off by a page that could not be read."""
        return self._ended

    def _read(self, after: int) -> None:
        kinds = (RecordKind.PACKET, RecordKind.TOMBSTONE, RecordKind.LABELS)
        self._reads.run(
            lambda: self._store.read(after, SCAN_RECORDS, SCAN_BYTES, None, kinds), self._add, self._failed
        )

    def _add(self, page: LogPage) -> None:
        for record in page.records:
            if record.position <= self._until:
                self._figures.add_record(record)
        if page.more and page.through < self._until:
            self._read(page.through)
            return
        self._ended = True
        self._on_counted()

    def _failed(self, error: Exception) -> None:
        _log.error("frames of earlier runs are left out of the plan: %s", error)
        self._ended = True
