"""Log lines of a daemon on stderr: as text or JSON, one an event, bounded in number by kind."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from common.node.log_limit import LogLimit
from common.node.settings import LogSettings
from common.printable import printable

__all__ = ["JsonFormatter", "RateFilter", "TextFormatter", "about", "set_up_logging"]

PERIOD_S = 60.0
"""Seconds in which lines of one kind are counted."""

FACTS = ("device", "frame", "job")
"""What a line may be about beside its sentence: fields of their own in JSON."""


def about(device: str | None = None, frame: int | None = None, job: str | None = None) -> dict[str, Any]:
    """The ``extra`` of a log call.

    Args:
        device: Public key of the device that the line is about.
        frame: Number of its frame.
        job: What was being done: an encoder with its batch, a training round.
    """
    return {"device": device, "frame": frame, "job": job}


class TextFormatter(logging.Formatter):
    """One line a record, whatever a name or a peer's sentence holds; a traceback has lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with control characters written as their codes."""
        clean = copy.copy(record)
        clean.msg, clean.args = printable(record.getMessage()), None
        return super().format(clean)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, node, logger, message, and of :func:`about` what is known.

    Args:
        node: The daemon's name.
    """

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        value: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "node": self._node,
            "logger": record.name,
            "message": record.getMessage(),
        }
        value |= {name: fact for name in FACTS if (fact := getattr(record, name, None)) is not None}
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False)


class RateFilter(logging.Filter):
    """Lines from one place in the code are bounded in number; the next one after that tells how many went.

    Args:
        lines: Lines from one place in a minute.
        clock: Monotonic time, seconds.
    """

    def __init__(self, lines: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._limit = LogLimit(lines, PERIOD_S)
        self._clock = clock

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        note = self._limit.admit(f"{record.pathname}:{record.lineno}", self._clock())
        if note:
            record.msg, record.args = record.getMessage() + note, None
        return note is not None


def set_up_logging(settings: LogSettings, prog: str) -> None:
    """Log to stderr; libraries are heard from WARNING on.

    Args:
        settings: Level, format and bound.
        prog: Name of the daemon.
    """
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter(prog))
    else:
        handler.setFormatter(TextFormatter(f"%(asctime)s {prog} %(levelname)s %(message)s"))
    if settings.log_lines_per_minute is not None:
        handler.addFilter(RateFilter(settings.log_lines_per_minute))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("common", "fog_node", "edge_node"):
        logging.getLogger(package).setLevel(settings.log_level)
