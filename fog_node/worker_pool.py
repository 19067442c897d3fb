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
from common.wire.backoff import Backoff
from fog_node.encoder_messages import (
    BatchEncoded,
    EncodeBatch,
    EncoderMessage,
    EncoderReady,
    StartEncoder,
    from_map,
    to_map,
)
from fog_node.encoding import Assign
from fog_node.settings import WorkerSettings

__all__ = ["WorkerPool"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    backoff: Backoff
    child: Child | None = None
    restart_at: float = 0.0
    crashes: int = 0
    ready: bool = False
    start_failures: int = 0
    ended_by: str = ""
    failed: bool = False


class WorkerPool:
    """Child processes numbered 0 to workers - 1.

    Args:
        settings: Number of workers, module, threads.
        children: Bounds of child processes.
        start: First message to each new worker.
        mailbox: Brings what workers say to the I/O thread.
        on_ready: Called with the worker's number once it can encode.
        on_encoded: Called with the worker's number and its answer.
        on_lost: Called with the worker's number and how it ended.
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
        on_lost: Callable[[int, str], None],
    ) -> None:
        self._settings = settings
        self._limits = children
        self._start = start
        self._mailbox = mailbox
        self._on_ready = on_ready
        self._on_encoded = on_encoded
        self._on_lost = on_lost
        self._slots = [
            _Slot(Backoff(children.restart_first_s, children.restart_max_s)) for _ in range(settings.workers)
        ]
        self._stopped = False

    @property
    def children(self) -> list[Child]:
        """The running processes."""
        return [slot.child for slot in self._slots if slot.child is not None]

    def tick(self, now: float) -> None:
        """Start every worker that is due."""
        for number, slot in enumerate(self._slots):
            if slot.child is None and now >= slot.restart_at and not (self._stopped or slot.failed):
                self._launch(number, slot, now)

    def assign(self, instruction: Assign) -> None:
        """Send a batch to its worker."""
        self._send(instruction.worker, EncodeBatch(instruction.batch, instruction.frames))

    def kill(self, number: int) -> None:
        """End a hung worker."""
        child = self._slots[number].child
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
                "state": "failed" if slot.failed else "ready" if slot.ready else "starting",
                "pid": None if slot.child is None else slot.child.pid,
                "crashes": slot.crashes,
            }
            for slot in self._slots
        ]

    def _launch(self, number: int, slot: _Slot, now: float) -> None:
        try:
            slot.child = Child(
                self._settings.module,
                arguments=[str(self._limits.pipe_bytes)],
                threads=self._settings.threads,
                max_bytes=self._limits.pipe_bytes,
                on_message=lambda value: self._mailbox.post(lambda: self._said(number, value)),
                on_exit=lambda code: self._mailbox.post(lambda: self._ended(number, code)),
            )
        except OSError as error:
            slot.restart_at = now + slot.backoff.failed(now)
            _log.error("encoder %d cannot be started: %s", number, error)
            return
        self._send(number, self._start)

    def _send(self, number: int, message: EncoderMessage) -> None:
        child = self._slots[number].child
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
            child = self._slots[number].child
            if child is not None:
                child.terminate(signal.SIGKILL)
            return
        if isinstance(message, EncoderReady):
            self._slots[number].ready = True
            self._slots[number].start_failures = 0
            self._on_ready(number)
        elif isinstance(message, BatchEncoded):
            self._slots[number].backoff.succeeded()
            self._on_encoded(number, message)

    def _ended(self, number: int, code: int) -> None:
        slot = self._slots[number]
        slot.child = None
        if self._stopped:
            return
        now = time.monotonic()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        slot.crashes += 1
        # A signal comes from outside (memory, a person); an exit code of its own will be the same again.
        alike = code > 0 and how == slot.ended_by
        slot.start_failures = 0 if slot.ready or code < 0 else slot.start_failures + 1 if alike else 1
        slot.ready, slot.ended_by = False, how
        slot.failed = slot.start_failures >= self._settings.start_attempts
        if slot.failed:
            _log.error(
                "encoder %d ended %d times by %s before it was ready and is not started any more: mend what "
                "it said above and start the fog again; frames are taken and wait meanwhile",
                number,
                slot.start_failures,
                how,
            )
        else:
            wait = slot.backoff.failed(now)
            slot.restart_at = now + wait
            _log.warning("encoder %d has ended by %s; it is restarted in %.1f s", number, how, wait)
        self._on_lost(number, how)
