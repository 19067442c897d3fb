"""An impairment proxy in a process of its own, from the outside."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

import yaml

from common.errors import DeploymentError
from simulations.impairment.settings import Direction, ImpairmentSettings

__all__ = ["ImpairmentProxy", "LinkCounters"]

STOP_S = 5.0
"""Seconds that the process may take to end."""

Directions = Direction | Literal["both"]


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What one link has carried, in bytes of the connections (no TCP or IP headers).

    Attributes:
        bytes_up, bytes_down: Handed on.
        held_up, held_down: Read and not handed on.
        flipped: Bits flipped.
        connections: Accepted so far.
        open: Open now.
    """

    bytes_up: int
    bytes_down: int
    held_up: int
    held_down: int
    flipped: int
    connections: int
    open: int


class ImpairmentProxy:
    """A running proxy; leaving the ``with`` block ends it. Not for use by several threads at once.

    Args:
        settings: Links and media.

    Raises:
        DeploymentError: It did not start; the sentence says why.
    """

    def __init__(self, settings: ImpairmentSettings) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump(settings.model_dump(mode="json"), file)
            file.flush()
            # In a session of its own a Ctrl-C reaches only this process, which ends the proxy last.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "simulations.impairment", "--config", str(Path(file.name))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                self._ports: dict[str, int] = self._line()["ports"]
            except BaseException:
                self.close()
                raise

    def port(self, link: str) -> int:
        """Port to connect to in place of the target's."""
        return self._ports[link]

    def counters(self) -> dict[str, LinkCounters]:
        """What each link has carried so far."""
        return {name: LinkCounters(**values) for name, values in self._ask(do="counters").items()}

    def stall(self, link: str, direction: Directions = "both") -> None:
        """Forward nothing and keep the connections, until :meth:`resume`."""
        self._ask(do="stall", link=link, direction=direction)

    def resume(self, link: str, direction: Directions = "both") -> None:
        """Forward again."""
        self._ask(do="resume", link=link, direction=direction)

    def reset(self, link: str) -> None:
        """End the link's connections by RST at both ends."""
        self._ask(do="reset", link=link)

    def drop(self, link: str) -> None:
        """Close the link's connections at both ends; what was on its way is lost."""
        self._ask(do="drop", link=link)

    def cut(self, link: str) -> None:
        """Reset the link's connections and every new one, until :meth:`mend`."""
        self._ask(do="cut", link=link)

    def mend(self, link: str) -> None:
        """Take connections again."""
        self._ask(do="mend", link=link)

    def flip(self, link: str, direction: Directions, offset: int = 0) -> None:
        """Flip one bit of the byte that is ``offset`` >= 0 bytes after the next one."""
        self._ask(do="flip", link=link, direction=direction, offset=offset)

    def change(self, link: str, direction: Directions, **values: float | None) -> None:
        """Give a direction other settings (:class:`.settings.DirectionSettings`); the rest stays."""
        self._ask(do="change", link=link, direction=direction, values=values)

    def share(self, medium: str, bytes_per_s: float) -> None:
        """Give a medium another rate, B/s."""
        self._ask(do="rate", medium=medium, bytes_per_s=bytes_per_s)

    def close(self) -> None:
        """End the process and with it every connection."""
        process = self._process
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, **command: Any) -> Mapping[str, Any]:
        """Send a command and return its answer.

        Raises:
            DeploymentError: It was refused, or the process has ended.
        """
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise DeploymentError("the impairment proxy is closed; make a new one")
        try:
            pipe.write(json.dumps(command) + "\n")
            pipe.flush()
        except BrokenPipeError:
            self._ended()
        answer = self._line()
        if not answer["ok"]:
            raise DeploymentError(f"the impairment proxy refused {command['do']}: {answer['error']}")
        found: Mapping[str, Any] = answer["answer"]
        return found

    def _line(self) -> Mapping[str, Any]:
        pipe = self._process.stdout
        line = pipe.readline() if pipe is not None else ""
        if not line:
            self._ended()
        value: Mapping[str, Any] = json.loads(line)
        return value

    def _ended(self) -> NoReturn:
        code = self._process.wait(STOP_S)
        words = "" if self._process.stderr is None else self._process.stderr.read().strip().split("\n")[-1]
        raise DeploymentError(f"the impairment proxy ended with code {code}: {words or 'it said nothing'}")
