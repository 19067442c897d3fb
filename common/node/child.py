"""The daemon's side of a child process: encoder workers and the trainer.

A child is ``python -P -m MODULE`` with pipes on its stdin and stdout (:mod:`common.node.pipe`). It gets a
session of its own, so Ctrl-C in a terminal reaches the daemon alone, which then drains in order; it ends by
itself when the daemon dies. Two threads carry the messages, so neither a slow child nor a large message ever
holds the daemon's I/O thread.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import common
from common.errors import MessageError
from common.node.pipe import read_message, write_message

__all__ = ["Child", "stop_children"]


class Child:
    """One running child process.

    Args:
        module: Module run as ``python -m``.
        arguments: Its command-line arguments.
        threads: Value of OMP_NUM_THREADS for it; 0 leaves the environment as it is.
        max_bytes: Bound on one message in either direction, bytes.
        queue_messages: Bound on messages waiting to be written to it.
        on_message: Called from the reader thread with each message.
        on_exit: Called once from the reader thread with the exit code (negative: the signal's number).

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(
        self,
        module: str,
        *,
        on_message: Callable[[dict[str, Any]], None],
        on_exit: Callable[[int], None],
        arguments: Sequence[str] = (),
        threads: int = 0,
        max_bytes: int = 64 * 1024 * 1024,
        queue_messages: int = 16,
    ) -> None:
        self.module = module
        self._max_bytes = max_bytes
        self._on_message = on_message
        self._on_exit = on_exit
        self._outbox: queue.Queue[Mapping[str, Any] | None] = queue.Queue(queue_messages)
        self._process = subprocess.Popen(
            # -P: a folder named common where the daemon was started must not take the place of ours.
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(threads),
            start_new_session=True,
        )
        self._writer = threading.Thread(target=self._write, name=f"{module}-writer", daemon=True)
        self._reader = threading.Thread(target=self._read, name=f"{module}-reader", daemon=True)
        self._writer.start()
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message; returns at once.

        Raises:
            MessageError: ``queue_messages`` messages already wait: the child reads too slowly.
        """
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            raise MessageError(
                f"the child {self.module} (pid {self.pid}) has {self._outbox.maxsize} unread messages"
            ) from None

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal; nothing happens if the child has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end; whether the child has ended and been reaped."""
        self._reader.join(max(0.0, timeout))
        return not self._reader.is_alive()

    def _write(self) -> None:
        stream = self._process.stdin
        while stream is not None and (message := self._outbox.get()) is not None:
            try:
                write_message(stream, message, max_bytes=self._max_bytes)
            except (OSError, ValueError, MessageError):
                # A message that was lost half-way leaves the pipe unusable: end the child, so that its
                # supervisor starts a fresh one.
                self.terminate()
                return

    def _read(self) -> None:
        stream = self._process.stdout
        try:
            while stream is not None:
                message = read_message(stream, max_bytes=self._max_bytes)
                if message is None:
                    break
                self._on_message(message)
        except (OSError, ValueError, MessageError):
            self.terminate()
        code = self._process.wait()
        with contextlib.suppress(queue.Full):
            self._outbox.put_nowait(None)
        self._writer.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._on_exit(code)


def stop_children(
    children: Sequence[Child], message: Mapping[str, Any], *, stop_s: float, terminate_s: float
) -> None:
    """Stop children cleanly: the message, then SIGTERM after ``stop_s``, SIGKILL ``terminate_s`` later."""
    for child in children:
        with contextlib.suppress(MessageError):
            child.send(message)
    left = _wait_all(children, stop_s)
    for child in left:
        child.terminate()
    left = _wait_all(left, terminate_s)
    for child in left:
        child.terminate(signal.SIGKILL)
    _wait_all(left, terminate_s)


def _wait_all(children: Sequence[Child], seconds: float) -> list[Child]:
    """Those that still run after ``seconds`` together."""
    end = time.monotonic() + seconds
    return [child for child in children if not child.wait(end - time.monotonic())]


def _environment(threads: int) -> dict[str, str]:
    """The child's environment: it must import the very packages that this process runs."""
    environment = dict(os.environ)
    root = str(Path(common.__file__).resolve().parents[1])
    known = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(part for part in (root, known) if part)
    if threads > 0:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
