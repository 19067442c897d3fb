"""One device of several is stopped in the middle of its transfers: what the others still get."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import zmq

from common.cli import progress
from common.errors import DeploymentError
from common.wire import keys
from common.wire.framing import decode
from common.wire.messages import Accepted, Error, Hello, Ping, Pull, RecordMessage, Refused, Welcome
from delivery.fog import Fog, add_devices, finish_all, running_fog
from delivery.peers import (
    EPOCH,
    PULL_EVERY,
    WINDOW,
    Peer,
    encoded_uploads,
    exchange,
    make_frames,
    noise,
)

__all__ = ["measure_stall"]

IMAGES = 16
PACKET_BYTES = 25_000
SETTLE_S = 0.5
"""Seconds after a change before counting begins: what was under way has ended."""


@dataclass(frozen=True)
class _Address:
    """As much of a running fog as a device in another process needs."""

    address: str
    key: str


class _Device:
    """A process that uploads all the time and pulls the log again and again."""

    def __init__(self, fog: Fog, pair: keys.KeyPair, first: int, size: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._acknowledged: Synchronized[int] = spawn.Value("q", 0)
        self._received: Synchronized[int] = spawn.Value("q", 0)
        self._rest = spawn.Event()
        arguments = (fog.address, fog.key, pair, first, size, self._acknowledged, self._received, self._rest)
        self.process = spawn.Process(target=_run, args=arguments, daemon=True)
        self.process.start()

    def counts(self) -> tuple[int, int]:
        """Frames acknowledged and records received so far."""
        if not self.process.is_alive():
            raise DeploymentError("a device's process has ended before its work was done; see its messages")
        return self._acknowledged.value, self._received.value

    def rest(self, resting: bool) -> None:
        """Upload and pull nothing for a while, or go on."""
        if resting:
            self._rest.set()
        else:
            self._rest.clear()

    def signal(self, number: int) -> None:
        """SIGSTOP or SIGCONT."""
        os.kill(self.process.pid or 0, number)


def _run(
    address: str,
    fog_key: str,
    pair: keys.KeyPair,
    first: int,
    size: int,
    acknowledged: Synchronized[int],
    received: Synchronized[int],
    rest: Any,
) -> None:
    images = noise(IMAGES, size, seed=first)
    with zmq.Context() as context:
        peer = Peer(context, _Address(address, fog_key), pair)
        number, in_flight, unread, last = first, 0, 0, peer.last_position
        peer.send(Pull(0, *WINDOW))
        spoke, read_all = time.monotonic(), False
        while True:
            if read_all and not in_flight:
                # A new session reads the log again; uploads of the one before would get no answer in it.
                peer.send(Hello(epoch=EPOCH, position=0, devices=("*",)))
                read_all = False
            while in_flight < peer.window and not rest.is_set() and not read_all:
                frames = make_frames(pair.public, images, number, 1)
                peer.socket.send_multipart(encoded_uploads(frames)[0])
                number, in_flight, spoke = number + 1, in_flight + 1, time.monotonic()
            if time.monotonic() - spoke > 0.5:
                peer.send(Ping())
                spoke = time.monotonic()
            if not peer.socket.poll(100):
                continue
            message = decode(peer.socket.recv_multipart())
            match message:
                case Accepted(_, numbers):
                    in_flight -= len(numbers)
                    acknowledged.value += len(numbers)
                case RecordMessage(position=reached):
                    received.value += 1
                    unread += 1
                    if reached >= last:
                        read_all = True
                    elif unread >= PULL_EVERY:
                        unread = 0
                        peer.send(Pull(reached, *WINDOW))
                case Welcome():
                    unread = 0
                    peer.send(Pull(0, *WINDOW))
                case Refused(_, _, _, sentence) | Error(_, sentence):
                    raise DeploymentError(f"the fog refused: {sentence}")


def measure_stall(
    folder: Path,
    *,
    devices: int,
    rounds: int,
    seconds: float,
    size: int,
    records: int,
    quiet: bool = False,
) -> dict[str, Any]:
    """Rates of all devices but one while that one works, while it is stopped, and while it rests.

    Each device uploads as quickly as it is acknowledged, and pulls a log of ``records`` packets again and
    again.

    Args:
        folder: For the fog and the devices; empty or new.
        devices: Processes, of which the last is stopped.
        rounds: Each takes the three states in turn, for ``seconds`` each.
        seconds: Counted in each state.
        size: Bytes of an image.
        records: Packets in the log.
        quiet: Show no progress.
    """
    pairs = add_devices(folder / "fog", folder, devices + 1)
    images = noise(IMAGES, size, seed=1)
    with zmq.Context() as context, running_fog(folder / "fog") as fog:
        writer = Peer(context, fog, pairs[-1])
        frames = make_frames(pairs[-1].public, images, 0, records)
        exchange([writer.socket], [encoded_uploads(frames)], writer.window)
        writer.socket.close(0)
    finish_all(folder / "fog" / "store", PACKET_BYTES)
    rates: dict[str, list[dict[str, float]]] = {"working": [], "stopped": [], "resting": []}
    with running_fog(folder / "fog") as fog:
        running = [_Device(fog, pair, 0, size) for pair in pairs[:-1]]
        try:
            _wait_for_all(running)
            for number in progress(range(rounds), total=rounds, title="stall", quiet=quiet):
                states = list(rates)
                for state in states[number % 3 :] + states[: number % 3]:
                    rates[state].append(_state(running, state, seconds))
        finally:
            for device in running:
                device.signal(signal.SIGCONT)
                device.process.kill()
                device.process.join()
    return {"devices": devices, "records": records, "packet_bytes": PACKET_BYTES, "rounds": rates}


def _wait_for_all(running: Sequence[_Device]) -> None:
    end = time.monotonic() + 60
    while not all(min(device.counts()) for device in running):
        if time.monotonic() > end:
            raise DeploymentError("the devices got nothing from the fog for 60 s")
        time.sleep(0.05)


def _state(running: Sequence[_Device], state: str, seconds: float) -> dict[str, float]:
    """Uploads and records a second of all devices but the last, which is in ``state``."""
    *others, last = running
    if state == "stopped":
        last.signal(signal.SIGSTOP)
    last.rest(state == "resting")
    time.sleep(SETTLE_S)
    before, start = [device.counts() for device in others], time.perf_counter()
    time.sleep(seconds)
    after, took = [device.counts() for device in others], time.perf_counter() - start
    if state == "stopped":
        last.signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
    uploads, records = (
        sum(new[index] - old[index] for old, new in zip(before, after, strict=True)) / took
        for index in range(2)
    )
    return {"uploads_per_s": uploads, "records_per_s": records}
