"""The small JSON file in which a daemon tells how it is, and the command that reads it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import StoreError, reason

__all__ = ["STATUS_NAME", "process_lives", "process_start", "read_status", "write_status"]

STATUS_NAME = "status.json"
"""Name of the file in a node's store folder."""


def write_status(folder: Path, status: Mapping[str, Any]) -> str:
    """Replace the status file in one step; a full disk is passed over, since it is no record.

    ``pid`` and ``process_start`` of this process are added; NaN and infinity, which JSON lacks, become null.

    Returns:
        Why it could not be written; empty when it was.
    """
    value = {"pid": os.getpid(), "process_start": process_start(os.getpid()), **status}
    path = folder / STATUS_NAME
    part = path.with_name(f".{STATUS_NAME}.part")
    try:
        part.write_text(json.dumps(_finite(value), allow_nan=False, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def read_status(folder: Path) -> dict[str, Any]:
    """The status, with ``alive``: whether the process that wrote it still runs.

    Raises:
        StoreError: There is none, or it is no status.
    """
    path = folder / STATUS_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"there is no {path}: the node has not run with this configuration yet") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the status {path}: {reason(error)}") from error
    if not isinstance(value, dict) or not isinstance(value.get("pid"), int):
        raise StoreError(f"{path} is no status of a node; remove it and start the node again")
    value.pop("alive", None)
    return {"alive": process_lives(value["pid"], value.get("process_start")), **value}


def _finite(value: Any) -> Any:
    """The same value with None for every number that is NaN or infinite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where the system does not tell.

    0 for a process that has ended and waits for its parent to notice.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # Fields are counted from the last parenthesis: a program's name may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    if len(fields) <= 19:
        return None
    return 0 if fields[0] == "Z" else int(fields[19])


def process_lives(pid: int, started: int | None) -> bool:
    """Whether this process runs; its start tells it from another one that was given its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    now = process_start(pid)
    if now == 0:
        return False
    return started is None or now is None or now == started
