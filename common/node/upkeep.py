"""Retention of a node's store as it runs: when to look, and what it has dropped; the store is elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from common.node.jobs import Jobs
from common.store.quarantine import QuarantineState
from common.store.retention import Retained, Usage

__all__ = ["Retaining", "Upkeep"]

LOG_EVERY_S = 600.0
"""Least seconds between two log lines about what was dropped: a full store drops some at each look."""

_log = logging.getLogger(__name__)


class Retaining(Protocol):
    """What is needed of a store."""

    @property
    def usage(self) -> Usage:
        """What its records and originals take."""
        ...

    @property
    def full(self) -> str | None:
        """One sentence when retention refuses more at present."""
        ...

    @property
    def quarantined(self) -> QuarantineState:
        """What was found damaged."""
        ...

    def retain(self, now: float) -> Retained:
        """Drop a batch of what is no longer kept."""
        ...


class Upkeep:
    """Looks at a store every so often, and batch after batch while there is more to drop.

    Each batch is a job of its own, so that what a node has to write meanwhile comes in between.

    Args:
        store: The store.
        jobs: Runs the batches.
        every_s: Seconds between two looks.
        clock: Present time, seconds since 1970.
        on_dropped: Called in the I/O thread after a batch that dropped something.
    """

    def __init__(
        self,
        store: Retaining,
        jobs: Jobs,
        *,
        every_s: float,
        clock: Callable[[], float] = time.time,
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._every_s = every_s
        self._clock = clock
        self._on_dropped = on_dropped
        self._due = 0.0
        self._running = False
        self._dropped = Retained()
        self._logged = Retained()
        self._log_at = 0.0
        self._problem = ""

    def hurry(self) -> None:
        """Look at the next tick: something was refused for lack of room."""
        self._due = 0.0

    def tick(self, now: float) -> None:
        """Time has passed; ``now`` is monotonic, seconds."""
        if self._running or now < self._due:
            return
        self._due = now + self._every_s
        self._running = True
        self._jobs.run(lambda: self._store.retain(self._clock()), self._done, self._failed)

    def status(self) -> dict[str, Any]:
        """What is held, was dropped since the start, and was found damaged, for the status file."""
        usage, damaged = self._store.usage, self._store.quarantined
        retention = {
            "records": usage.records,
            "record_bytes": usage.record_bytes,
            "full": self._store.full,
            "dropped_records": self._dropped.records,
            "dropped_record_bytes": self._dropped.record_bytes,
            "dropped_originals": self._dropped.originals,
            "problem": self._problem,
        }
        return {"retention": retention, "quarantine": {"items": damaged.items, "latest": damaged.latest}}

    def _done(self, dropped: Retained) -> None:
        self._running, self._problem = False, ""
        if dropped.more:
            self._due = 0.0
        before = self._dropped
        self._dropped = Retained(
            before.records + dropped.records,
            before.record_bytes + dropped.record_bytes,
            before.originals + dropped.originals,
        )
        if dropped.records:
            self._on_dropped()
        now = time.monotonic()
        if self._dropped != self._logged and now >= self._log_at:
            _log.info(
                "retention has dropped %d records of %d bytes and %d originals since the start",
                self._dropped.records,
                self._dropped.record_bytes,
                self._dropped.originals,
            )
            self._logged, self._log_at = self._dropped, now + LOG_EVERY_S

    def _failed(self, error: Exception) -> None:
        self._running = False
        if str(error) != self._problem:
            _log.error("what retention no longer keeps cannot be dropped: %s", error)
        self._problem = str(error)
