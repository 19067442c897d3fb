"""What the fog daemon and the process that drives its Ray workers say to each other (no torch, no ray).

A conversation over the pipe of :mod:`common.node.pipe`::

    daemon -> StartCluster, then StartWorker, ToWorker and KillWorker of any worker, StopEncoder
    driver -> ClusterReady or ClusterFailed, then WorkerReady, FromWorker and WorkerLost

What is inside ToWorker and FromWorker, and starts a worker, are the messages of
:mod:`fog_node.workers.encoder_messages` as maps: the driver hands them on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

from common.errors import MessageError

__all__ = [
    "ClusterFailed",
    "ClusterNotice",
    "ClusterReady",
    "FromWorker",
    "KillWorker",
    "RayMessage",
    "StartCluster",
    "StartWorker",
    "ToWorker",
    "WorkerLost",
    "WorkerReady",
    "ray_message_of",
    "ray_message_to_map",
]


@dataclass(frozen=True, slots=True)
class StartCluster:
    """First message.

    Attributes:
        settings: Settings of ``workers.ray`` as a plain map.
        module: Module of the encoder that the workers load.
        workers: How many will be asked for.
    """

    kind: ClassVar[str] = "cluster"
    settings: dict[str, Any]
    module: str
    workers: int


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start worker ``worker`` with this StartEncoder."""

    kind: ClassVar[str] = "start_worker"
    worker: int
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToWorker:
    """Hand this EncodeBatch to the worker."""

    kind: ClassVar[str] = "to_worker"
    worker: int
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KillWorker:
    """End the worker, whatever it does; answered by WorkerLost with this reason."""

    kind: ClassVar[str] = "kill_worker"
    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class ClusterReady:
    """The driver is connected to a Ray of ``nodes`` nodes with ``cpus`` CPUs and ``gpus`` GPUs in all."""

    kind: ClassVar[str] = "cluster_ready"
    nodes: int
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class ClusterFailed:
    """The driver ends: why, in one sentence."""

    kind: ClassVar[str] = "cluster_failed"
    reason: str


@dataclass(frozen=True, slots=True)
class ClusterNotice:
    """Something that a person should know, in one sentence."""

    kind: ClassVar[str] = "cluster_notice"
    sentence: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker can encode; where it runs."""

    kind: ClassVar[str] = "worker_ready"
    worker: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class FromWorker:
    """The worker's BatchEncoded."""

    kind: ClassVar[str] = "from_worker"
    worker: int
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker is no more.

    Attributes:
        worker: Its number.
        reason: How it ended, in a few words.
        own: Whether an error of its own ended it, which will come again if nothing changes.
    """

    kind: ClassVar[str] = "worker_lost"
    worker: int
    reason: str
    own: bool


RayMessage: TypeAlias = (
    StartCluster
    | StartWorker
    | ToWorker
    | KillWorker
    | ClusterReady
    | ClusterFailed
    | ClusterNotice
    | WorkerReady
    | FromWorker
    | WorkerLost
)

_READERS: dict[str, Callable[[dict[str, Any]], RayMessage]] = {
    StartCluster.kind: lambda m: StartCluster(dict(m["settings"]), str(m["module"]), int(m["workers"])),
    StartWorker.kind: lambda m: StartWorker(int(m["worker"]), dict(m["message"])),
    ToWorker.kind: lambda m: ToWorker(int(m["worker"]), dict(m["message"])),
    KillWorker.kind: lambda m: KillWorker(int(m["worker"]), str(m["reason"])),
    ClusterReady.kind: lambda m: ClusterReady(int(m["nodes"]), float(m["cpus"]), float(m["gpus"])),
    ClusterFailed.kind: lambda m: ClusterFailed(str(m["reason"])),
    ClusterNotice.kind: lambda m: ClusterNotice(str(m["sentence"])),
    WorkerReady.kind: lambda m: WorkerReady(int(m["worker"]), str(m["host"]), int(m["pid"])),
    FromWorker.kind: lambda m: FromWorker(int(m["worker"]), dict(m["message"])),
    WorkerLost.kind: lambda m: WorkerLost(int(m["worker"]), str(m["reason"]), bool(m["own"])),
}


def ray_message_to_map(message: RayMessage) -> dict[str, Any]:
    """The message as a plain map with its ``type``, ready for the pipe."""
    return {"type": message.kind, **{entry.name: getattr(message, entry.name) for entry in fields(message)}}


def ray_message_of(value: dict[str, Any]) -> RayMessage:
    """The message of a map from the pipe.

    Raises:
        MessageError: It is none.
    """
    try:
        return _READERS[value["type"]](value)
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"a message between daemon and Ray driver is malformed: {error!r}") from error
