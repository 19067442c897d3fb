"""The part of a status that a daemon adds whichever node it carries: its process, its disk, its monitor."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.node.monitor import Monitor
from common.node.process_figures import own_figures

__all__ = ["node_status"]


def node_status(folder: Path, unwritable: str, monitor: Monitor) -> dict[str, Any]:
    """Facts about the process.

    Args:
        folder: Folder of the node's store.
        unwritable: Why the last status file could not be written; empty when it was.
        monitor: The daemon's HTTP server.
    """
    try:
        free: int | None = shutil.disk_usage(folder).free
    except OSError:
        free = None
    return {
        "process": own_figures(),
        "disk_free_bytes": free,
        "store_unwritable": unwritable,
        "monitoring": {"address": monitor.address, "problem": monitor.problem},
    }
