"""Nodes as child processes: started with a log file each, watched, and always stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from common.errors import DeploymentError

__all__ = ["Node", "Nodes", "run_command", "termination_as_interrupt"]


@dataclass(frozen=True, slots=True)
class Node:
    """A daemon that was started.

    Attributes:
        name: "fog", "edge 1", ...
        log: File of its stdout and stderr.
        process: The child process.
    """

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")


class Nodes:
    """Daemons of one deployment; leaving the ``with`` block stops those that still run."""

    def __init__(self, environment: Mapping[str, str] | None = None, stop_s: float = 20.0) -> None:
        """Start with no node.

        Args:
            environment: Variables to set for every node.
            stop_s: Seconds from SIGTERM to SIGKILL.
        """
        self._environment = {**os.environ, **(environment or {})}
        self._stop_s = stop_s
        self._nodes: list[Node] = []

    @property
    def running(self) -> tuple[Node, ...]:
        """The nodes, in the order of their start."""
        return tuple(self._nodes)

    def start(
        self, name: str, module: str, arguments: Sequence[str], log: Path, *, prefix: Sequence[str] = ()
    ) -> Node:
        """Start ``python -m MODULE`` in a process group of its own.

        A Ctrl-C at the terminal therefore reaches only this process, which then stops the nodes in order.
        ``prefix`` is a command that runs the rest in its place, such as ``ip netns exec NAME``.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        node = Node(name, log, process)
        self._nodes.append(node)
        return node

    def check(self) -> None:
        """See that every node still runs.

        Raises:
            DeploymentError: One has ended; names its exit code, its last words and its log.
        """
        for node in self._nodes:
            code = node.process.poll()
            if code is not None:
                raise DeploymentError(
                    f"the {node.name} ended with code {code} before its work was done; "
                    f"its last words: {node.last_words!r}; see {node.log}"
                )

    def stop(self) -> dict[str, int]:
        """SIGTERM to all, the last started first; SIGKILL to the process groups that do not end.

        Returns:
            Exit code of each node by name.
        """
        for node in reversed(self._nodes):
            if node.process.poll() is None:
                node.process.terminate()
        deadline = time.monotonic() + self._stop_s
        for node in reversed(self._nodes):
            try:
                node.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.process.pid, signal.SIGKILL)
                node.process.wait()
        codes = {node.name: node.process.returncode for node in self._nodes}
        self._nodes.clear()
        return codes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not leave a node behind.
        with _interrupts_ignored():
            self.stop()


def run_command(module: str, arguments: Sequence[str]) -> str:
    """Run ``python -m MODULE`` to its end and return its stdout.

    Raises:
        DeploymentError: It failed; carries its own sentence.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().split("\n")[-1] or f"exit code {done.returncode}"
        raise DeploymentError(f"'python -m {module} {arguments[0]}' failed: {words}")
    return done.stdout


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within the block SIGTERM stops this process as cleanly as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
