"""What the daemon asks of its encoder workers, wherever they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from common.node.child import Child
from common.node.jobs import Call
from common.node.mailbox import Mailbox
from common.node.settings import ChildSettings
from fog_node.encoding import Assign
from fog_node.settings import WorkerSettings
from fog_node.workers.encoder_messages import BatchEncoded, StartEncoder
from fog_node.workers.ray_cluster import ray_version
from fog_node.workers.ray_pool import RayPool
from fog_node.workers.worker_pool import WorkerPool

__all__ = ["EncoderPool", "encoder_pool"]


class EncoderPool(Protocol):
    """Encoder workers numbered from 0: started, fed, killed when hung, restarted."""

    @property
    def children(self) -> list[Child]:
        """The processes on this machine that the daemon must end."""
        ...

    def tick(self, now: float) -> None:
        """Start every worker that is due."""
        ...

    def assign(self, instruction: Assign) -> None:
        """Send a batch to its worker."""
        ...

    def kill(self, number: int) -> None:
        """End a hung worker."""
        ...

    def stop(self) -> None:
        """Start no worker any more."""
        ...

    def status(self) -> list[dict[str, Any]]:
        """The workers' part of the status file."""
        ...


def encoder_pool(
    settings: WorkerSettings,
    children: ChildSettings,
    start: StartEncoder,
    mailbox: Mailbox[Call],
    *,
    on_ready: Callable[[int], None],
    on_encoded: Callable[[int, BatchEncoded], None],
    on_lost: Callable[[int, str, bool], None],
) -> EncoderPool:
    """Worker processes, or workers on Ray if the settings say so; arguments as of :class:`WorkerPool`.

    Raises:
        ConfigError: Ray is asked for and not installed.
    """
    if settings.ray is None:
        return WorkerPool(
            settings, children, start, mailbox, on_ready=on_ready, on_encoded=on_encoded, on_lost=on_lost
        )
    ray_version()
    return RayPool(
        settings,
        settings.ray,
        children,
        start,
        mailbox,
        on_ready=on_ready,
        on_encoded=on_encoded,
        on_lost=on_lost,
    )
