"""The processes of a session (setsid), to end what a child that was killed has left behind."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["end_session"]

SETTLE_S = 0.01
"""Pause between two looks, seconds: a process that is being ended may just have started another."""

LOOKS = 200
"""Looks at most: a process in an uninterruptible wait ends by itself later."""


def end_session(leader: int) -> int:
    """Kill every process whose session was begun by process ``leader``, except the caller.

    Process ids are found in ``/proc``; where there is none, nothing happens. As long as such a process is
    there, the system gives the number of its session to no other.

    Returns:
        How many processes were told to end.
    """
    told: set[int] = set()
    for _ in range(LOOKS):
        left = [pid for pid in _process_ids() if _belongs(pid, leader)]
        if not left:
            break
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            told.add(pid)
        time.sleep(SETTLE_S)
    return len(told)


def _process_ids() -> list[int]:
    with suppress(OSError):
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return []


def _belongs(pid: int, leader: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        if os.getsid(pid) != leader:
            return False
        # Whoever adopts a process reaps it in its own time; until then it is a name without a process.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")
