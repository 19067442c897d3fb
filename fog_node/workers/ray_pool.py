"""Encoder workers on Ray as the fog daemon sees them; the daemon itself never imports ray.

A child process (:mod:`fog_node.workers.ray_driver`) is the driver of the cluster. When it dies, all its
workers are lost, and it is started anew with growing waits, as each worker is.
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
from fog_node.encoding import Assign
from fog_node.settings import WorkerSettings
from fog_node.workers.encoder_messages import BatchEncoded, EncodeBatch, StartEncoder, from_map, to_map
from fog_node.workers.ray_messages import (
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
from fog_node.workers.ray_settings import RaySettings
from fog_node.workers.worker_slot import WorkerSlot

__all__ = ["RayPool"]

DRIVER_MODULE = "fog_node.workers.ray_driver"

MESSAGES_PER_WORKER = 4
"""Messages to one worker that can wait for the driver at once: a start, a batch, a kill, one to spare."""

FRAME_FACTS_BYTES = 50_000
"""What a frame takes in a message beside its image, bytes: a thousand boxes with their names at most."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    """One worker.

    Attributes:
        slot: Its starts and ends.
        asked: Whether the driver was asked for it and has not lost it.
        host: Where it runs, once it can encode.
        pid: Its process there.
        killed_at: When the driver was told to kill it; 0 if it was not.
    """

    slot: WorkerSlot
    asked: bool = False
    host: str | None = None
    pid: int | None = None
    killed_at: float = 0.0


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
        on_lost: Called with the worker's number, how it ended, and whether its batch may be why.
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
        on_lost: Callable[[int, str, bool], None],
    ) -> None:
        self._settings = settings
        self._ray = ray
        self._limits = children
        self._first = to_map(start)
        self._mailbox = mailbox
        self._on_ready = on_ready
        self._on_encoded = on_encoded
        self._on_lost = on_lost
        self._workers = [
            _Worker(WorkerSlot(number, children, settings.start_attempts))
            for number in range(settings.workers)
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
        if self._stopped or not self._workers:
            return
        if self._driver is None and now >= self._restart_at:
            self._launch(now)
        if not self._connected:
            return
        for number, worker in enumerate(self._workers):
            if not worker.asked and worker.slot.due(now):
                worker.asked = True
                self._send(StartWorker(number, self._first))

    def assign(self, instruction: Assign) -> None:
        """Send a batch to its worker."""
        number, frames = instruction.worker, instruction.frames
        size = sum(len(frame.image) + FRAME_FACTS_BYTES for frame in frames)
        if size > self._limits.pipe_bytes:
            # The driver would not get it and end, and with it the work of all others.
            self._send(KillWorker(number, f"a batch of {size} bytes, over children.pipe_bytes"))
            return
        self._send(ToWorker(number, to_map(EncodeBatch(instruction.batch, frames))))

    def kill(self, number: int) -> None:
        """End a hung worker; a driver that does not do it in time is killed itself."""
        worker, now = self._workers[number], time.monotonic()
        if not worker.asked or self._driver is None:
            return
        if not worker.killed_at:
            _log.warning("encoder %d (pid %s) is silent for too long and is killed", number, worker.pid)
            worker.killed_at = now
            self._send(KillWorker(number, "silence"))
        elif now - worker.killed_at > self._limits.terminate_s:
            _log.warning("the Ray driver (pid %d) does not answer and is killed", self._driver.pid)
            self._driver.terminate(signal.SIGKILL)

    def stop(self) -> None:
        """Start no worker any more."""
        self._stopped = True

    def status(self) -> list[dict[str, Any]]:
        """The workers' part of the status file."""
        return [
            {
                "state": worker.slot.state,
                "pid": worker.pid,
                "host": worker.host,
                "crashes": worker.slot.crashes,
                "problem": self._problem,
            }
            for worker in self._workers
        ]

    def _launch(self, now: float) -> None:
        try:
            self._driver = Child(
                DRIVER_MODULE,
                arguments=[str(self._limits.pipe_bytes)],
                max_bytes=self._limits.pipe_bytes,
                queue_messages=1 + MESSAGES_PER_WORKER * len(self._workers),
                on_message=lambda value: self._mailbox.post(lambda: self._said(value)),
                on_exit=lambda code: self._mailbox.post(lambda: self._ended(code)),
            )
        except OSError as error:
            self._restart_at = now + self._backoff.failed(now)
            _log.error("the Ray driver cannot be started: %s", error)
            return
        settings = self._ray.model_dump(mode="json")
        self._send(StartCluster(settings, self._settings.module, len(self._workers)))

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
                if reason != self._problem:
                    _log.error("%s; it is tried again, and frames are taken and wait meanwhile", reason)
                self._problem = reason
            case ClusterNotice(sentence):
                _log.warning("%s", sentence)
            case WorkerReady(number, host, pid):
                worker = self._workers[number]
                worker.host, worker.pid = host, pid
                worker.slot.started()
                self._on_ready(number)
            case FromWorker(number, answer):
                encoded = from_map(answer)
                if isinstance(encoded, BatchEncoded):
                    self._workers[number].slot.worked()
                    self._on_encoded(number, encoded)
            case WorkerLost(number, reason, own):
                self._lost(number, reason, own=own, blamed=True)
            case _:
                raise MessageError(f"the Ray driver said {message.kind!r}")

    def _lost(self, number: int, how: str, *, own: bool, blamed: bool) -> None:
        worker = self._workers[number]
        if not worker.asked:
            return
        worker.asked, worker.host, worker.pid, worker.killed_at = False, None, None, 0.0
        if self._stopped:
            return
        worker.slot.ended(how, time.monotonic(), own=own)
        self._on_lost(number, how, blamed)

    def _ended(self, code: int) -> None:
        """The driver has ended: a matter of the cluster, whatever its workers had in work."""
        self._driver = None
        self._connected = False
        if self._stopped:
            return
        now = time.monotonic()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        wait = self._backoff.failed(now)
        self._restart_at = now + wait
        if not self._problem:
            _log.warning("the Ray driver has ended by %s; it is restarted in %.1f s", how, wait)
        for number, worker in enumerate(self._workers):
            if worker.asked:
                self._lost(number, f"the end of the Ray driver by {how}", own=False, blamed=False)
