"""When an encoder worker that has ended is started again, and when it is given up."""

from __future__ import annotations

import logging

from common.node.logs import about
from common.node.settings import ChildSettings
from common.wire.backoff import Backoff

__all__ = ["WorkerSlot"]

_log = logging.getLogger(__name__)


class WorkerSlot:
    """The history of one worker's starts and ends.

    Args:
        number: Number of the worker.
        limits: Waits between starts.
        start_attempts: Starts in a row that end alike before the worker is ready, after which it is given up.

    Attributes:
        ready: Whether it can encode.
        crashes: How often it has ended unasked.
        failed: Whether it is given up.
    """

    def __init__(self, number: int, limits: ChildSettings, start_attempts: int) -> None:
        self.number = number
        self.ready = False
        self.crashes = 0
        self.failed = False
        self._backoff = Backoff(limits.restart_first_s, limits.restart_max_s)
        self._start_attempts = start_attempts
        self._restart_at = 0.0
        self._start_failures = 0
        self._ended_by = ""
        self._job = about(job=f"encoder {number}")

    @property
    def state(self) -> str:
        """For the status file: starting, ready or failed."""
        return "failed" if self.failed else "ready" if self.ready else "starting"

    def due(self, now: float) -> bool:
        """Whether it may be started."""
        return not self.failed and now >= self._restart_at

    def started(self) -> None:
        """It can encode."""
        self.ready = True
        self._start_failures = 0

    def worked(self) -> None:
        """It has answered a batch."""
        self._backoff.succeeded()

    def not_started(self, error: OSError, now: float) -> None:
        """It could not even be started."""
        self._restart_at = now + self._backoff.failed(now)
        _log.error("encoder %d cannot be started: %s", self.number, error, extra=self._job)

    def ended(self, how: str, now: float, *, own: bool) -> None:
        """It has ended.

        Args:
            how: In a few words.
            now: Monotonic time, seconds.
            own: Whether it ended by itself, and so will again, not by memory or a person.
        """
        self.crashes += 1
        alike = own and how == self._ended_by
        self._start_failures = 0 if self.ready or not own else self._start_failures + 1 if alike else 1
        self.ready, self._ended_by = False, how
        self.failed = self._start_failures >= self._start_attempts
        if self.failed:
            _log.error(
                "encoder %d ended %d times by %s before it was ready and is not started any more: mend what "
                "it said and start the fog again; frames are taken and wait meanwhile",
                self.number,
                self._start_failures,
                how,
                extra=self._job,
            )
            return
        wait = self._backoff.failed(now)
        self._restart_at = now + wait
        sentence = "encoder %d has ended by %s; it is restarted in %.1f s"
        _log.warning(sentence, self.number, how, wait, extra=self._job)
