"""The process between a fog daemon and its encoder workers on Ray: ``python -m fog_node.workers.ray_driver``.

The daemon starts it as a child and speaks :mod:`fog_node.workers.ray_messages` with it. It holds one actor
for each worker and hands batches on; the daemon decides which worker gets what, what is tried again and when
a worker is started anew, as it does with worker processes. Ray itself retries nothing: an actor that made a
keyframe which the daemon never got must not live on.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from common import __version__
from common.errors import MessageError, ResidualInrError
from common.node.pipe import ParentPipe, connect_parent
from fog_node.workers import ray_cluster
from fog_node.workers.encoder_messages import StopEncoder
from fog_node.workers.ray_actor import EncoderActor
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
from fog_node.workers.ray_reaper import swept_folder
from fog_node.workers.ray_settings import RaySettings

__all__ = ["RayDriver", "main"]

CHECK_S = 1.0
"""Seconds between two looks at workers that wait for a place."""


@dataclass(slots=True)
class _Worker:
    """One actor.

    Attributes:
        actor: Ray's handle.
        since: When it was asked for, or last told to wait for a place.
        started: Whether it can encode.
    """

    actor: Any
    since: float
    started: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """A remote call of an actor has ended."""

    number: int
    actor: Any
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class _End:
    """The daemon or a signal asks the driver to end."""


class RayDriver:
    """Actors by worker number; one thread does everything but wait.

    Args:
        pipe: The daemon.
        ray: The connected module ``ray``.
        start: The daemon's first message.
        settings: Its settings, checked.
    """

    def __init__(self, pipe: ParentPipe, ray: ModuleType, start: StartCluster, settings: RaySettings) -> None:
        self._pipe = pipe
        self._ray = ray
        self._module = start.module
        self._settings = settings
        self._workers: dict[int, _Worker] = {}
        self._events: queue.SimpleQueue[RayMessage | _Answer | _End] = queue.SimpleQueue()
        self._class = ray.remote(EncoderActor).options(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            resources=dict(settings.resources),
            max_restarts=0,
            max_task_retries=0,
        )

    def end(self) -> None:
        """Ask :meth:`run` to return; from any thread or a signal handler."""
        self._events.put(_End())

    def run(self) -> None:
        """Serve the daemon until it says stop or closes the pipe."""
        resources = self._ray.cluster_resources()
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        self._say(ClusterReady(nodes, resources.get("CPU", 0.0), resources.get("GPU", 0.0)))
        threading.Thread(target=self._read, name="daemon-reader", daemon=True).start()
        while True:
            try:
                event = self._events.get(timeout=CHECK_S)
            except queue.Empty:
                self._remind(time.monotonic())
                continue
            match event:
                case StartWorker():
                    self._start(event)
                case ToWorker(number, message):
                    worker = self._workers.get(number)
                    if worker is not None:
                        self._call(number, worker.actor, worker.actor.encode, message)
                case KillWorker(number, reason):
                    self._lose(number, reason)
                case _Answer():
                    self._answered(event)
                case _End():
                    return
                case _:
                    raise MessageError(f"the driver of Ray workers was told {event.kind!r}")

    def _read(self) -> None:
        try:
            while (value := self._pipe.receive()) is not None and value.get("type") != StopEncoder.kind:
                self._events.put(ray_message_of(value))
        except (MessageError, OSError) as error:
            sys.stderr.write(f"encoder cluster: {error}\n")
        self.end()

    def _say(self, message: RayMessage) -> None:
        self._pipe.send(ray_message_to_map(message))

    def _start(self, message: StartWorker) -> None:
        number = message.worker
        if number in self._workers:
            return
        actor = self._class.remote()
        self._workers[number] = _Worker(actor, time.monotonic())
        self._call(number, actor, actor.start, self._module, __version__, message.message)

    def _call(self, number: int, actor: Any, method: Any, *arguments: Any) -> None:
        try:
            future = method.remote(*arguments).future()
        except Exception as error:  # a full object store, a lost cluster, a worker that has just died
            self._fail(number, error)
            return
        future.add_done_callback(lambda done: self._events.put(_Answer(number, actor, done)))

    def _answered(self, answer: _Answer) -> None:
        worker = self._workers.get(answer.number)
        if worker is None or worker.actor is not answer.actor:
            return
        try:
            result = answer.future.result()
            if worker.started:
                self._say(FromWorker(answer.number, result))
            else:
                worker.started = True
                self._say(WorkerReady(answer.number, *result))
        except OSError:
            raise
        except Exception as error:  # whatever the encoder, its process or its machine died of
            self._fail(answer.number, error)

    def _fail(self, number: int, error: Exception) -> None:
        self._lose(number, ray_cluster.reason_of(error), own=ray_cluster.is_own(error))

    def _lose(self, number: int, reason: str, *, own: bool = False) -> None:
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        # It may live on behind a broken connection, or in a call that failed.
        self._ray.kill(worker.actor, no_restart=True)
        self._say(WorkerLost(number, reason, own))

    def _remind(self, now: float) -> None:
        """Tell which workers wait for a place in the cluster."""
        late = [
            number
            for number, worker in self._workers.items()
            if not worker.started and now - worker.since >= self._settings.start_s
        ]
        if not late:
            return
        for number in late:
            self._workers[number].since = now
        free = self._ray.available_resources()
        wanted = {"CPU": self._settings.cpus, "GPU": self._settings.gpus, **self._settings.resources}
        needs = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
        have = ", ".join(f"{free.get(name, 0.0):g} {name}" for name, amount in wanted.items() if amount)
        numbers = ", ".join(map(str, late))
        self._say(
            ClusterNotice(
                f"encoder {numbers} has no place in the Ray cluster yet: each needs {needs or 'nothing'}, "
                f"free are {have or 'no such things'} in all; add nodes or lower workers.workers"
            )
        )


def main() -> int:
    """Serve one daemon; what is wrong is told to it in one sentence."""
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 64 * 1024 * 1024
    pipe = connect_parent(max_bytes=limit)
    first = pipe.receive()
    if first is None:
        return 0
    start = ray_message_of(first)
    if not isinstance(start, StartCluster):
        raise MessageError(f"the driver of Ray workers must be told of its cluster first, not {start.kind!r}")
    try:
        with ExitStack() as resources:
            # Ray prints a paragraph of advice for each worker that ends; the daemon logs one line.
            nothing = resources.enter_context(Path(os.devnull).open("w"))
            resources.enter_context(redirect_stdout(nothing))
            settings = RaySettings.model_validate(start.settings)
            local = settings.address == "local"
            folder = resources.enter_context(swept_folder()) if local else ""
            ray = ray_cluster.connect(settings, workers=start.workers, folder=folder)
            resources.callback(ray_cluster.disconnect, ray)
            driver = RayDriver(pipe, ray, start, settings)
            # Ray has put a handler of its own in the place of the default.
            signal.signal(signal.SIGTERM, lambda *_: driver.end())
            driver.run()
    except (ResidualInrError, OSError) as error:
        pipe.send(ray_message_to_map(ClusterFailed(str(error))))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
