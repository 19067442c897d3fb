"""Reads the log again, slowly, from beginning to end, so that damage is found before a reader comes.

The store verifies what it reads, and puts what is damaged into quarantine; this only says what to read when.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.errors import StoreCorruptError
from common.node.jobs import Jobs
from common.store.contract import FogStore
from common.store.records import RecordKind
from common.store.settings import ScrubSettings

__all__ = ["Scrub"]

PAGE_RECORDS, PAGE_BYTES = 256, 1 << 18
"""Read at a time at most; one record always is."""

RETRY_S = 60.0
"""Seconds after which a page that could not be read is tried again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Page:
    through: int
    more: bool
    records: int
    size: int
    damaged: int


class Scrub:
    """Passes over the log of a fog; the first one begins at a random place, as a fog may restart often.

    Args:
        store: The fog's.
        jobs: Its reading thread.
        settings: How quickly, and how often.
        on_damage: Called in the I/O thread after something was put into quarantine.
    """

    def __init__(
        self, store: FogStore, jobs: Jobs, settings: ScrubSettings, on_damage: Callable[[], None]
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._settings = settings
        self._on_damage = on_damage
        self._after = self._begun_after = random.randrange(store.last_position + 1)
        self._running = False
        self._due = 0.0
        self._begun = 0.0
        self._records = self._bytes = self._damaged = 0
        self._last_pass: float | None = None
        self._problem = ""

    def tick(self, now: float) -> None:
        """Time has passed; ``now`` is monotonic, seconds."""
        if self._settings.bytes_per_s is None or self._running or now < self._due:
            return
        if self._after == self._begun_after:
            self._begun = time.monotonic()
        self._running = True
        self._jobs.run(self._read, self._done, self._failed)

    def status(self) -> dict[str, Any]:
        """Where it is, and what it has found since the start, for the status file."""
        return {
            "bytes_per_s": self._settings.bytes_per_s,
            "position": self._after,
            "records": self._records,
            "bytes": self._bytes,
            "damaged": self._damaged,
            "last_pass_time": self._last_pass,
            "problem": self._problem,
        }

    def _read(self) -> _Page:
        most = min(PAGE_BYTES, int(self._settings.bytes_per_s or PAGE_BYTES) + 1)
        page = self._store.read(self._after, PAGE_RECORDS, most)
        size, damaged = 0, len(page.damaged)
        for record in page.records:
            if record.kind is RecordKind.GAP:
                continue
            size += record.size
            if record.large:
                try:
                    self._store.blob(record.digest, 0, 1)
                except StoreCorruptError:
                    damaged += 1
        return _Page(page.through, page.more, len(page.records), size, damaged)

    def _done(self, page: _Page) -> None:
        now = time.monotonic()
        self._running, self._problem = False, ""
        self._after = page.through
        self._records += page.records
        self._bytes += page.size
        self._damaged += page.damaged
        self._due = now + page.size / (self._settings.bytes_per_s or 1.0)
        if page.damaged:
            _log.error("reading the log again has found %d damaged items", page.damaged)
            self._on_damage()
        if not page.more:
            if self._begun_after == 0:
                self._last_pass = time.time()
                # A small log would be read all the time.
                self._due = max(self._due, self._begun + self._settings.every_s)
            self._after = self._begun_after = 0

    def _failed(self, error: Exception) -> None:
        self._running = False
        self._due = time.monotonic() + RETRY_S
        if str(error) != self._problem:
            _log.error("the log cannot be read again to look for damage: %s", error)
        self._problem = str(error)
