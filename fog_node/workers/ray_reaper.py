"""Ends what a Ray on this machine has left behind: ``python -m fog_node.workers.ray_reaper SESSION FOLDER``.

Ray's own processes end one after the other when their driver is killed, some only after a minute. This one
waits for the end of the driver, however it comes, then kills what is left of the driver's session and removes
the folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["end_session", "swept_folder"]

SETTLE_S = 0.01
"""Pause between two looks, seconds: a process that is being ended may just have started another."""

LOOKS = 500
"""Looks at most: a process in an uninterruptible wait ends by itself later."""


@contextmanager
def swept_folder() -> Iterator[str]:
    """An empty folder for the files of a Ray that this process starts.

    At the end of the context or of this process, even if it is killed, every other process of its session is
    killed (if it began one, as a child of a daemon does), and the folder removed.

    Raises:
        OSError: There is no room for the folder or the process.
    """
    folder = tempfile.mkdtemp(prefix="residual-inr-ray-")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(os.getpid()), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ):
        yield folder


def end_session(leader: int) -> None:
    """Kill every process of the session that process ``leader`` began, except the leader.

    Processes are found in ``/proc``; where there is none, nothing happens. As long as one of them is there,
    the system gives the number of their session to no other.
    """
    for _ in range(LOOKS):
        left = [pid for pid in _process_ids() if pid != leader and _belongs(pid, leader)]
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(SETTLE_S)


def _process_ids() -> list[int]:
    with suppress(OSError):
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return []


def _belongs(pid: int, leader: int) -> bool:
    try:
        if os.getsid(pid) != leader:
            return False
        # Whoever adopts a process reaps it in its own time; until then it is a name without a process.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def main() -> int:
    """Wait until the process at the other end of stdin is gone, then clean up after it."""
    leader, folder = int(sys.argv[1]), sys.argv[2]
    sys.stdin.buffer.read()
    end_session(leader)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
