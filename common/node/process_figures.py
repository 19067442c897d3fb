"""Memory, time and files of this process and its children, as the system counts them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any

from prometheus_client import ProcessCollector

from common.node.child import Child

__all__ = ["child_figures", "own_figures"]

NAMES = {
    "process_resident_memory_bytes": "rss_bytes",
    "process_cpu_seconds_total": "cpu_s",
    "process_open_fds": "open_files",
}
"""What is told, by the name under which Prometheus knows it."""


def own_figures() -> dict[str, Any]:
    """Of this process; what the system does not tell is left out."""
    return {**_figures(os.getpid()), "threads": threading.active_count()}


def child_figures(children: Iterable[Child]) -> list[dict[str, Any]]:
    """Of each child process that still runs, with its ``pid``."""
    found = [(child.pid, _figures(child.pid)) for child in children]
    return [{"pid": pid, **figures} for pid, figures in found if figures]


def _figures(pid: int) -> dict[str, float]:
    families = ProcessCollector(pid=lambda: pid, registry=None).collect()
    samples = {sample.name: sample.value for family in families for sample in family.samples}
    return {name: samples[known] for known, name in NAMES.items() if known in samples}
