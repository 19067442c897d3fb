"""When the fog's store was last backed up: a note in its folder, left by the command, told by the daemon."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.node.detector_history import write_durably

__all__ = ["last_backup", "note_backup"]

NAME = "last_backup.json"
"""Name of the note in the store's folder."""


def note_backup(folder: Path, position: int, size: int) -> None:
    """Write down that a backup has just been made; a disk that is full does not make the backup worse.

    Args:
        folder: The store's.
        position: Newest log position that the backup holds.
        size: Its bytes.
    """
    note = {"time": time.time(), "position": position, "bytes": size}
    with suppress(OSError):
        write_durably(folder / NAME, json.dumps(note).encode())


def last_backup(folder: Path) -> dict[str, Any] | None:
    """``time`` (seconds since 1970), ``position`` and ``bytes`` of the last backup; None without one."""
    try:
        value = json.loads((folder / NAME).read_bytes())
        return {name: float(value[name]) for name in ("time", "position", "bytes")}
    except (OSError, ValueError, TypeError, KeyError):
        return None
