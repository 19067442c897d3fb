"""The encoder workers as the fog daemon sees them: started, fed, killed when hung, restarted."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common.errors import MessageError
from common.node.child import Child
from common.node.jobs import Call
from common.node.mailbox import Mailbox
from common.node.settings import ChildSettings
from fog_node.encoding import Assign
from fog_node.settings import WorkerSettings
from fog_node.workers.encoder_messages import (
    BatchEncoded,
    EncodeBatch,
    EncoderMessage,
    EncoderReady,
    StartEncoder,
    from_map,
    to_map,
)
from fog_node.workers.worker_slot import WorkerSlot

__all__ = ["WorkerPool"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    slot: WorkerSlot
    child: Child | None = None


class WorkerPool:
    """Child processes numbered 0 to workers - 1.

    Args:
        settings: Number of workers, module, threads.
        children: Bounds of child processes.
        start: First message to each new worker.
        mailbox: Brings what workers say to the I/O thread.
        on_ready: Called with the worker's number once it can encode.
        on_encoded: Called with the worker's number and its answer.
        on_lost: Called with the worker's number, how it ended, and whether its batch may be why.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        children: ChildSettings,
        start: StartEncoder,
        mailbox: Mailbox[Call],
        *,
        on_ready: Callable[[int], None],
        on_encoded: Callable[[int, BatchEncoded], None],
        on_lost: Callable[[int, str, bool], None],
    ) -> None:
        self._settings = settings
        self._limits = children
        self._start = start
        self._mailbox = mailbox
        self._on_ready = on_ready
        self._on_encoded = on_encoded
        self._on_lost = on_lost
        self._workers = [
            _Worker(WorkerSlot(number, children, settings.start_attempts))
            for number in range(settings.workers)
        ]
        self._stopped = False

    @property
    def children(self) -> list[Child]:
        """The running processes."""
        return [worker.child for worker in self._workers if worker.child is not None]

    def tick(self, now: float) -> None:
        """Start every worker that is due."""
        for number, worker in enumerate(self._workers):
            if worker.child is None and worker.slot.due(now) and not self._stopped:
                self._launch(number, worker, now)

    def assign(self, instruction: Assign) -> None:
        """Send a batch to its worker."""
        self._send(instruction.worker, EncodeBatch(instruction.batch, instruction.frames))

    def kill(self, number: int) -> None:
        """End a hung worker."""
        child = self._workers[number].child
        if child is not None:
            _log.warning("encoder %d (pid %d) is silent for too long and is killed", number, child.pid)
            child.terminate(signal.SIGKILL)

    def stop(self) -> None:
        """Start no worker any more."""
        self._stopped = True

    def status(self) -> list[dict[str, Any]]:
        """The workers' part of the status file."""
        return [
            {
                "state": worker.slot.state,
                "pid": None if worker.child is None else worker.child.pid,
                "crashes": worker.slot.crashes,
            }
            for worker in self._workers
        ]

    def _launch(self, number: int, worker: _Worker, now: float) -> None:
        try:
            worker.child = Child(
                self._settings.module,
                arguments=[str(self._limits.pipe_bytes)],
                threads=self._settings.threads,
                max_bytes=self._limits.pipe_bytes,
                on_message=lambda value: self._mailbox.post(lambda: self._said(number, value)),
                on_exit=lambda code: self._mailbox.post(lambda: self._ended(number, code)),
            )
        except OSError as error:
            worker.slot.not_started(error, now)
            return
        self._send(number, self._start)

    def _send(self, number: int, message: EncoderMessage) -> None:
        child = self._workers[number].child
        if child is None:
            return
        try:
            child.send(to_map(message))
        except MessageError as error:
            _log.error("encoder %d is restarted: %s", number, error)
            child.terminate(signal.SIGKILL)

    def _said(self, number: int, value: dict[str, Any]) -> None:
        try:
            message = from_map(value)
        except MessageError as error:
            _log.error("encoder %d is restarted: %s", number, error)
            child = self._workers[number].child
            if child is not None:
                child.terminate(signal.SIGKILL)
            return
        if isinstance(message, EncoderReady):
            self._workers[number].slot.started()
            self._on_ready(number)
        elif isinstance(message, BatchEncoded):
            self._workers[number].slot.worked()
            self._on_encoded(number, message)

    def _ended(self, number: int, code: int) -> None:
        worker = self._workers[number]
        worker.child = None
        if self._stopped:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        worker.slot.ended(how, time.monotonic(), own=code > 0)
        self._on_lost(number, how, True)
