"""The folder of a loopback run: made, locked, and cleared only if an earlier run made it."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from common.errors import UsageError, reason

__all__ = ["MARKER", "work_folder"]

MARKER = ".residual-inr-loopback"
"""File that says: everything in this folder was made by a loopback run and may be replaced."""


@contextlib.contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """An empty folder for one run, held against other runs; what an earlier run left is removed.

    Yields:
        The absolute path of ``out``.

    Raises:
        UsageError: It holds files that no loopback run made, cannot be written, or is in use.
    """
    out = out.absolute()
    marker = out / MARKER
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not marker.exists() and any(out.iterdir()):
            raise UsageError(
                f"the folder {out} holds files that no loopback run made; name an empty or new one by --out"
            )
        lock = marker.open("a")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot use the folder {out}: {reason(error)}; give another one by --out"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"another run uses the folder {out}; give another one by --out") from error
        for entry in out.iterdir():
            if entry.name == MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        yield out
