"""What a process holds now, read from /proc (Linux)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FIGURES", "Held", "held_by"]

FIGURES = ("rss_bytes", "own_bytes", "descriptors", "threads")
"""Names of the figures, as in :class:`Held`."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds.

    Attributes:
        rss_bytes: Resident memory.
        own_bytes: Of it what no file backs: heap and stacks.
        descriptors: Open files and sockets.
        threads: Threads.
    """

    rss_bytes: int
    own_bytes: int
    descriptors: int
    threads: int


def held_by(pid: int) -> Held | None:
    """What a process holds; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.split("\n") if ":" in line)
    if "VmRSS" not in fields:
        return None
    return Held(
        rss_bytes=_kilobytes(fields["VmRSS"]),
        own_bytes=_kilobytes(fields.get("RssAnon", "0")),
        descriptors=descriptors,
        threads=int(fields["Threads"]),
    )


def _kilobytes(text: str) -> int:
    return int(text.split()[0]) * 1024
