"""Progress of a loopback run on a terminal, and the wall clock of its stages."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

__all__ = ["Stages"]


class Stages:
    """Stages one after the other: timed always, shown on stderr only when it is a terminal.

    Args:
        quiet: Show nothing even on a terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = self._stage_begin = time.monotonic()
        self._name: str | None = None
        self._bar: Any = None
        self._task: Any = None
        self._shown = not quiet and sys.stderr.isatty()

    def update(self, name: str, done: int = 0, total: int = 0) -> None:
        """The stage ``name`` has done ``done`` of ``total`` (0: unknown); a new name ends the one before."""
        now = time.monotonic()
        if name != self._name:
            self._end(now)
            self._name, self._stage_begin = name, now
            if self._bar is not None:
                self._task = self._bar.add_task(name, total=total or None)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None)

    def finish(self) -> dict[str, float]:
        """End the last stage; seconds of each and of all (``total``)."""
        now = time.monotonic()
        self._end(now)
        self._name = None
        return {**self.seconds, "total": now - self._begin}

    def _end(self, now: float) -> None:
        if self._name is None:
            return
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._stage_begin
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=1, total=1)

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
