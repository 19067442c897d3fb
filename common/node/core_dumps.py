"""No image of a daemon's memory on disk."""

from __future__ import annotations

import contextlib
import resource

__all__ = ["refuse_core_dumps"]


def refuse_core_dumps() -> None:
    """A crash of this process, or of a child, writes no core file: it would hold the node's secret key.

    Only the soft limit is lowered, so that a child may be told otherwise. A program that the system pipes
    cores to is told of the limit and decides for itself.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
