"""One daemon of a chaos run: started, watched, killed, paused, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import DeploymentError
from simulations.watch import Status, status_of

__all__ = ["Daemon", "merged"]

POLL_S = 0.05
START_S = 60.0
"""Seconds that a start may take on a busy machine."""

STOP_S = 40.0


class Daemon:
    """A fog or an edge as a process of its own.

    Args:
        name: "fog", "edge1", ...
        folder: Its files; the configuration is ``node.yaml`` in there and the store ``disk/store``.
        command: Module and arguments behind ``python -m``, without ``--config``.
        settings: Its configuration.
        environment: Variables beside those of this process.
        prefix: A command that runs the rest in its place.

    Attributes:
        settings: May be replaced between two starts.
        lock: Held by whoever kills, pauses or replaces it.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Sequence[str],
        settings: dict[str, Any],
        environment: Mapping[str, str],
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self.settings = settings
        self.lock = threading.Lock()
        self._command = command
        self._environment = {**os.environ, **environment}
        self._prefix = tuple(prefix)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.disk.mkdir(exist_ok=True)

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / "node.yaml"

    @property
    def disk(self) -> Path:
        """Folder that its store is on; a small file system may be mounted there."""
        return self.folder / "disk"

    @property
    def store(self) -> Path:
        """Its store."""
        return self.disk / "store"

    @property
    def log(self) -> Path:
        """What it wrote to stderr, all starts together."""
        return self.folder / "log.txt"

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "it wrote nothing")

    @property
    def pid(self) -> int:
        """Of the running or last process; 0 before the first."""
        return 0 if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Exit code of the last process; None while it lives."""
        return None if self._process is None else self._process.poll()

    def start(self, **changes: Any) -> None:
        """Start it; :meth:`ready` tells when it serves. ``changes`` are settings of this start only."""
        self.config.write_text(yaml.safe_dump(merged(self.settings, changes)), encoding="utf-8")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", *self._command, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def status(self) -> Status | None:
        """Its status, if this very process has written one."""
        status = status_of(self.store)
        return status if status is not None and status["pid"] == self.pid else None

    def ready(self, seconds: float = START_S) -> bool:
        """Wait until it serves; False when it has ended instead.

        Raises:
            DeploymentError: Neither happened in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.status() is not None:
                return True
            if not self.running:
                return False
            time.sleep(POLL_S)
        raise DeploymentError(f"{self.name} did not begin to serve within {seconds:.0f} s; see {self.log}")

    def wait(self, condition: Callable[[Status], bool], seconds: float) -> bool:
        """Wait until its status meets a condition; False when that took too long or it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.running:
            status = self.status()
            if status is not None and condition(status):
                return True
            time.sleep(POLL_S)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait for its end; returns the exit code.

        Raises:
            DeploymentError: It does not end.
        """
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DeploymentError(
                f"{self.name} did not end within {STOP_S:.0f} s of SIGTERM; see {self.log}"
            ) from None

    def serve(self, **changes: Any) -> None:
        """Start it again and wait until it serves.

        Raises:
            DeploymentError: It ended instead.
        """
        self.start(**changes)
        if not self.ready():
            raise DeploymentError(
                f"{self.name} ended with code {self.code} when it was started again: {self.last_words}"
            )

    def end(self) -> None:
        """SIGTERM, after which it must end with code 0.

        Raises:
            DeploymentError: It did not run, or ended otherwise.
        """
        self.expect_running()
        code = self.stop()
        if code:
            raise DeploymentError(
                f"{self.name} ended with code {code} when it was told to stop: {self.last_words}"
            )

    def expect_running(self) -> None:
        """See that it has not ended by itself.

        Raises:
            DeploymentError: It has.
        """
        if not self.running:
            raise DeploymentError(f"{self.name} ended by itself with code {self.code}: {self.last_words}")

    def close(self) -> None:
        """End it whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGCONT)
            self.kill()


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them replaced, sections key by key."""
    whole = dict(base)
    for key, value in changes.items():
        old = whole.get(key)
        whole[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return whole
