"""What a fog's uploads are compared with: the wire without a store, and the store without a wire."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from common.errors import DeploymentError
from common.wire import keys
from delivery.peers import Sent, exchange

__all__ = ["RawWire", "StoreAlone", "raw_wire", "store_alone"]

HERE = Path(__file__).resolve().parents[1]


@contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise DeploymentError("a baseline's process has ended before its work was done; see its messages")
    return line.strip()


class RawWire:
    """DEALERs connected to a ROUTER that answers and keeps nothing."""

    def __init__(self, sockets: Sequence[zmq.Socket[Any]]) -> None:
        self._sockets = sockets

    def seconds(self, messages: Sequence[Sent], window: int) -> float:
        """Until every message of every device is answered."""
        start = time.perf_counter()
        exchange(self._sockets, messages, window, fog=False)
        return time.perf_counter() - start


@contextmanager
def raw_wire(folder: Path, devices: Sequence[keys.KeyPair], *, curve: bool) -> Iterator[RawWire]:
    """The same messages over bare sockets, in a process of its own.

    Args:
        folder: For the ROUTER's keys.
        devices: Keys of each DEALER.
        curve: Whether the connections are encrypted.
    """
    pair = keys.generate(folder) if curve else None
    with (
        _child("delivery.raw_server", *([str(folder)] if curve else [])) as process,
        zmq.Context() as context,
    ):
        port = int(_line(process))
        sockets = []
        for device in devices:
            socket = context.socket(zmq.DEALER)
            sockets.append(socket)
            socket.setsockopt(zmq.LINGER, 0)
            if pair is not None:
                socket.setsockopt(zmq.CURVE_SERVERKEY, pair.public.encode("ascii"))
                socket.setsockopt(zmq.CURVE_PUBLICKEY, device.public.encode("ascii"))
                socket.setsockopt(zmq.CURVE_SECRETKEY, device.secret.encode("ascii"))
            socket.connect(f"tcp://127.0.0.1:{port}")
        try:
            yield RawWire(sockets)
        finally:
            for socket in sockets:
                socket.close(0)


class StoreAlone:
    """A store in a process of its own that nothing else uses."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._first = 0

    def seconds(self, count: int, group: int) -> float:
        """To commit ``count`` new frames, ``group`` in a transaction."""
        if self._process.stdin is None:
            raise DeploymentError("the store's process has no stdin")
        self._process.stdin.write(f"{self._first} {count} {group}\n")
        self._process.stdin.flush()
        self._first += count
        return float(_line(self._process))


@contextmanager
def store_alone(folder: Path, size: int) -> Iterator[StoreAlone]:
    """A fog's store in ``folder``, and frames of ``size`` bytes for it."""
    with _child("delivery.store_alone", str(folder), str(size)) as process:
        _line(process)
        yield StoreAlone(process)
