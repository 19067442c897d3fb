"""Making way for the daemon: niceness that also acts between sessions (no torch)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["AUTOGROUP", "make_way", "session_makes_way"]

AUTOGROUP = Path("/proc/self/autogroup")
"""Niceness of this process's session where Linux shares processors between sessions (autogroup); there the
niceness of a process counts within its session only, and a child process of a daemon has its own."""


def make_way(nice: int) -> None:
    """Raise the niceness of this process and, if it leads a session, of that session.

    Args:
        nice: By how much, 0 to 19; 0 changes nothing.
    """
    os.nice(nice)
    session_makes_way(nice)


def session_makes_way(nice: int) -> None:
    """Give the session that this process leads, if it leads one, a niceness.

    For a process that inherited its own from its parent: that of the parent's session it did not.

    Args:
        nice: 0 to 19; 0 changes nothing.
    """
    if nice > 0 and os.getsid(0) == os.getpid():
        # There is no such file elsewhere, and in some containers it may not be written.
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(nice))
