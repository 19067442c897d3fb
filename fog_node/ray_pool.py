"""Encoder workers on Ray as the fog daemon sees them; the daemon itself never imports ray.

A child process (:mod:`fog_node.ray_driver`) is the driver of the cluster. When it dies, all its workers are
lost, and it is started anew with growing waits, as each worker is.
"""

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
from fog_node.encoder_messages import BatchEncoded, EncodeBatch, StartEncoder, from_map, to_map
from fog_node.encoding import Assign
from fog_node.ray_messages import (
    ClusterFailed,
    ClusterNotice,
    ClusterReady,
    FromWorker,
    KillWorker,
    RayMessage,
    StartCluster,
    StartWorker,
    ToWorker,
    WorkerLost,
    WorkerReady,
    ray_message_of,
    ray_message_to_map,
)
from fog_node.ray_settings import RaySettings
from fog_node.settings import WorkerSettings

__all__ = ["RayPool"]

DRIVER_MODULE = "fog_node.ray_driver"

MESSAGES_PER_WORKER = 4
"""Messages to one worker that can wait for the driver at once: a start, a batch, a kill, one to spare."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    """One worker.

    Attributes:
        backoff: Waits between its starts.
        asked: Whether the driver was asked for it and has not lost it.
        host: Where it runs, once it can encode.
        pid: Its process there.
        restart_at: When it may be asked for again.
        killed_at: When the driver was told to kill it; 0 if it was not.
        crashes: How often it was lost.
    """

    backoff: Backoff
    asked: bool = False
    host: str | None = None
    pid: int | None = None
    restart_at: float = 0.0
    killed_at: float = 0.0
    crashes: int = 0


class RayPool:
    """Ray workers numbered 0 to workers - 1.

    Args:
        settings: Number of workers, module.
        ray: Where they run and what each reserves.
        children: Bounds of the driver's process, waits between starts.
        start: First message to each new worker.
        mailbox: Brings what the driver says to the I/O thread.
        on_ready: Called with the worker's number once it can encode.
        on_encoded: Called with the worker's number and its answer.
        on_lost: Called with the worker's number and how it ended.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        ray: RaySettings,
        children: ChildSettings,
        start: StartEncoder,
        mailbox: Mailbox[Call],
        *,
        on_ready: Callable[[int], None],
        on_encoded: Callable[[int, BatchEncoded], None],
        on_lost: Callable[[int, str], None],
    ) -> None:
        self._settings = settings
        self._ray = ray
        self._limits = children
        self._first = to_map(start)
        self._mailbox = mailbox
        self._on_ready = on_ready
        self._on_encoded = on_encoded
        self._on_lost = on_lost
        self._slots = [
            _Slot(Backoff(children.restart_first_s, children.restart_max_s)) for _ in range(settings.workers)
        ]
        self._driver: Child | None = None
        self._backoff = Backoff(children.restart_first_s, children.restart_max_s)
        self._restart_at = 0.0
        self._connected = False
        self._problem = ""
        self._stopped = False

    @property
    def children(self) -> list[Child]:
        """The driver's process, if it runs."""
        return [] if self._driver is None else [self._driver]

    def tick(self, now: float) -> None:
        """Start the driver and every worker that is due."""
        if self._stopped or not self._slots:
            return
        if self._driver is None and now >= self._restart_at:
            self._launch(now)
        if not self._connected:
            return
        for number, slot in enumerate(self._slots):
            if not slot.asked and now >= slot.restart_at:
                slot.asked = True
                self._send(StartWorker(number, self._first))

    def assign(self, instruction: Assign) -> None:
        """Send a batch to its worker."""
        batch = to_map(EncodeBatch(instruction.batch, instruction.frames))
        self._send(ToWorker(instruction.worker, batch))

    def kill(self, number: int) -> None:
        """End a hung worker; a driver that does not do it in time is killed itself."""
        slot, now = self._slots[number], time.monotonic()
        if not slot.asked or self._driver is None:
            return
        if not slot.killed_at:
            _log.warning("encoder %d (pid %s) is silent for too long and is killed", number, slot.pid)
            slot.killed_at = now
            self._send(KillWorker(number))
        elif now - slot.killed_at > self._limits.terminate_s:
            _log.warning("the Ray driver (pid %d) does not answer and is killed", self._driver.pid)
            self._driver.terminate(signal.SIGKILL)

    def stop(self) -> None:
        """Start no worker any more."""
        self._stopped = True

    def status(self) -> list[dict[str, Any]]:
        """The workers' part of the status file."""
        return [
            {"pid": slot.pid, "crashes": slot.crashes, "host": slot.host, "problem": self._problem}
            for slot in self._slots
        ]

    def _launch(self, now: float) -> None:
        try:
            self._driver = Child(
                DRIVER_MODULE,
                arguments=[str(self._limits.pipe_bytes)],
                max_bytes=self._limits.pipe_bytes,
                queue_messages=1 + MESSAGES_PER_WORKER * len(self._slots),
                on_message=lambda value: self._mailbox.post(lambda: self._said(value)),
                on_exit=lambda code: self._mailbox.post(lambda: self._ended(code)),
            )
        except OSError as error:
            self._restart_at = now + self._backoff.failed(now)
            _log.error("the Ray driver cannot be started: %s", error)
            return
        settings = self._ray.model_dump(mode="json")
        self._send(StartCluster(settings, self._settings.module, len(self._slots)))

    def _send(self, message: RayMessage) -> None:
        if self._driver is None:
            return
        try:
            self._driver.send(ray_message_to_map(message))
        except MessageError as error:
            _log.error("the Ray driver is restarted: %s", error)
            self._driver.terminate(signal.SIGKILL)

    def _said(self, value: dict[str, Any]) -> None:
        try:
            self._hear(ray_message_of(value))
        except (MessageError, IndexError) as error:
            _log.error("the Ray driver is restarted: %s", error)
            if self._driver is not None:
                self._driver.terminate(signal.SIGKILL)

    def _hear(self, message: RayMessage) -> None:
        match message:
            case ClusterReady(nodes, cpus, gpus):
                self._connected = True
                self._problem = ""
                self._backoff.succeeded()
                _log.info("connected to a Ray of %d nodes, %g CPUs and %g GPUs", nodes, cpus, gpus)
            case ClusterFailed(reason):
                self._problem = reason
            case ClusterNotice(sentence):
                _log.warning("%s", sentence)
            case WorkerReady(number, host, pid):
                slot = self._slots[number]
                slot.host, slot.pid = host, pid
                self._on_ready(number)
            case FromWorker(number, answer):
                encoded = from_map(answer)
                if isinstance(encoded, BatchEncoded):
                    self._slots[number].backoff.succeeded()
                    self._on_encoded(number, encoded)
            case WorkerLost(number, reason):
                self._lost(number, reason)
            case _:
                raise MessageError(f"the Ray driver said {message.kind!r}")

    def _lost(self, number: int, how: str) -> None:
        slot, now = self._slots[number], time.monotonic()
        if not slot.asked:
            return
        slot.asked, slot.host, slot.pid, slot.killed_at = False, None, None, 0.0
        if self._stopped:
            return
        slot.crashes += 1
        wait = slot.backoff.failed(now)
        slot.restart_at = now + wait
        _log.warning("encoder %d has ended by %s; it is restarted in %.1f s", number, how, wait)
        self._on_lost(number, how)

    def _ended(self, code: int) -> None:
        self._driver = None
        self._connected = False
        if self._stopped:
            return
        now = time.monotonic()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        wait = self._backoff.failed(now)
        self._restart_at = now + wait
        if self._problem:
            _log.error("%s; it is tried again in %.1f s", self._problem, wait)
        else:
            _log.warning("the Ray driver has ended by %s; it is restarted in %.1f s", how, wait)
        for number, slot in enumerate(self._slots):
            if slot.asked:
                self._lost(number, f"the end of the Ray driver by {how}")
