"""What one fog node takes in and gives out on this machine, for docs/scaling.md.

    python benchmarks/fog_rates.py [--frames 1000] [--devices 4] [--encode FRAMES.csv --every 3] [--json]

A real fog daemon over real CURVE sockets on this machine, its encoders idle. *Uploads*: devices send frames
as quickly as they are acknowledged; each is on disk before (synchronous=FULL). *Records*: the same number of
subscribers pull the whole log. *Stored*: bytes of the store's folder beside the payloads. With --encode, each
profile brings every N-th frame of a list to (28, 33) dB, one frame at a time.

CPU seconds are those of the fog's process (of this one, for --encode): they say what a core can do, whatever
else the machine is at; rates a second are what came through while client and fog shared it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
import zmq

from common.cli import print_json, run_command
from common.errors import DeploymentError
from common.frame import Box, Frame, FrameIdentity
from common.images import encode_jpeg
from common.node.status_file import read_status
from common.store import open_fog_store
from common.store.records import RecordKind
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from common.wire.framing import decode, encode
from common.wire.messages import (
    Accepted,
    CaughtUp,
    Error,
    Hello,
    Message,
    Pull,
    RecordMessage,
    Refused,
    Upload,
    Welcome,
)
from common.wire.settings import WireSettings
from common.wire.sockets import edge_socket
from fog_node.encoders.encoder import FrameEncoder
from fog_node.encoders.encoder_settings import PROFILES
from judge.measure import settings_for
from judge.protocol import TARGETS, read_frames

HERE = Path(__file__).resolve().parent
START_S = 60.0
"""Seconds for the fog to listen, and of silence before it is given up."""
WINDOW = (WireSettings().window_records, WireSettings().window_bytes)
"""Records and bytes that a subscriber asks for at a time, as an edge does."""
PULL_EVERY = 50
"""Records after which it states its position anew."""

META = {"labelled": True, "validation": False, "boxes": [["object", 10, 20, 60, 90]], "profile": "pyramid"}
"""What a packet's record says beside it, about."""


class Fog:
    """A running fog daemon."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], key: str) -> None:
        self._folder = folder
        self._process = process
        self.key = key
        self.address = f"tcp://127.0.0.1:{self._port()}"

    def _port(self) -> int:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                status = read_status(self._folder / "store")
                if status["pid"] == self._process.pid and status["port"]:
                    return int(status["port"])
            except Exception:  # not written yet, or by the run before
                time.sleep(0.05)
        raise DeploymentError(f"the fog in {self._folder} did not start; see its log.txt")

    def cpu_s(self) -> float:
        """CPU seconds of its process so far, its children left out."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_fog(folder: Path) -> Iterator[Fog]:
    """A fog with its store in ``folder``; made when missing."""
    if not (folder / "keys").is_dir():
        keys.generate(folder / "keys")
    settings = {
        "address": "tcp://127.0.0.1:0",
        "workers": {"module": "idle_encoder"},
        "training": {"strategy": "edge"},
        "status_s": 0.2,
    }
    (folder / "fog.yaml").write_text(yaml.safe_dump(settings))
    (folder / "store" / "status.json").unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fog_node.cli", "serve", "--config", str(folder / "fog.yaml")],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        yield Fog(folder, process, keys.load(folder / "keys").public)
    finally:
        process.terminate()
        process.wait()


class Peer:
    """One device: its socket, and what it still has to do."""

    def __init__(self, context: zmq.Context[Any], fog: Fog, pair: keys.KeyPair) -> None:
        self.pair = pair
        self.socket = edge_socket(context, fog.address, pair, fog.key)
        self.socket.send_multipart(encode(Hello(epoch=1, position=0, devices=("*",))))
        welcome = self.receive()
        if not isinstance(welcome, Welcome):
            raise DeploymentError(f"the fog answered Hello with {welcome}")
        self.window = welcome.max_uploads

    def receive(self) -> Message:
        """The next message."""
        if not self.socket.poll(int(START_S * 1000)):
            raise DeploymentError(f"the fog has been silent for {START_S:g} s")
        return decode(self.socket.recv_multipart())

    def send(self, message: Message) -> None:
        """Send a message."""
        self.socket.send_multipart(encode(message))


def upload(peers: Sequence[Peer], frames: Sequence[Sequence[Frame]]) -> None:
    """Send every peer's frames within its window until all are acknowledged."""
    waiting = [list(reversed(each)) for each in frames]
    in_flight = [0] * len(peers)
    poller = zmq.Poller()
    for peer in peers:
        poller.register(peer.socket, zmq.POLLIN)
    while any(waiting) or any(in_flight):
        for number, peer in enumerate(peers):
            while waiting[number] and in_flight[number] < peer.window:
                peer.send(Upload.of(waiting[number].pop()))
                in_flight[number] += 1
        ready = dict(poller.poll(int(START_S * 1000)))
        if not ready:
            raise DeploymentError(f"the fog has been silent for {START_S:g} s")
        for number, peer in enumerate(peers):
            if peer.socket in ready:
                message = peer.receive()
                match message:
                    case Accepted(_, numbers):
                        in_flight[number] -= len(numbers)
                    case Refused(_, _, _, sentence):
                        raise DeploymentError(f"the fog refused a frame: {sentence}")


def subscribe(peers: Sequence[Peer], records: int) -> int:
    """Pull the whole log at every peer; returns the bytes of its messages."""
    position, got, unread, size = ([0] * len(peers) for _ in range(4))
    poller = zmq.Poller()
    for peer in peers:
        poller.register(peer.socket, zmq.POLLIN)
        peer.send(Pull(0, *WINDOW))
    while min(got) < records:
        if not (ready := dict(poller.poll(int(START_S * 1000)))):
            raise DeploymentError(f"the fog has been silent for {START_S:g} s")
        for number, peer in enumerate(peers):
            if peer.socket not in ready:
                continue
            parts = peer.socket.recv_multipart()
            match decode(parts):
                case RecordMessage(position=reached):
                    position[number], got[number] = reached, got[number] + 1
                    size[number] += sum(map(len, parts))
                    unread[number] += 1
                case CaughtUp(reached):
                    position[number] = reached
                case Error(_, sentence):
                    raise DeploymentError(f"the fog says: {sentence}")
            if unread[number] >= PULL_EVERY:
                unread[number] = 0
                peer.send(Pull(position[number], *WINDOW))
    return sum(size)


def timed(fog: Fog, count: int, work: Callable[[], object]) -> dict[str, float]:
    """Items a second, and the fog's CPU seconds of one."""
    cpu, start = fog.cpu_s(), time.perf_counter()
    work()
    return {
        "per_s": count / (time.perf_counter() - start),
        "fog_cpu_s_each": (fog.cpu_s() - cpu) / count,
    }


def frames_of(device: str, count: int, size: int) -> list[Frame]:
    """Frames of one device, of about ``size`` bytes each: a JPEG with random bytes behind it."""
    import numpy as np

    start = encode_jpeg(np.zeros((360, 640, 3), np.uint8), 80)
    boxes = (Box(10, 20, 60, 90, "object"),)
    return [
        Frame(
            f"{number:06d}",
            start + os.urandom(max(0, size - len(start))),
            640,
            360,
            True,
            boxes,
            FrameIdentity(device, 1, number),
            number % 100 >= 80,
        )
        for number in range(count)
    ]


def measure_fog(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Uploads, records and stored bytes."""
    pairs = [keys.generate(folder / f"device{number}") for number in range(arguments.devices)]
    fog_folder = folder / "fog"
    fog_folder.mkdir()
    allow = AllowList(fog_folder / "allow.yaml")
    for pair in pairs:
        allow.add(Device(pair.public, may_upload=True, may_subscribe=("*",)))
    each = arguments.frames // arguments.devices
    count = each * arguments.devices
    frames = [frames_of(pair.public, each, arguments.size) for pair in pairs]
    found: dict[str, Any] = {"frames": count, "image_bytes": arguments.size}
    with zmq.Context() as context:
        with running_fog(fog_folder) as fog:
            peers = [Peer(context, fog, pair) for pair in pairs]
            found["uploads"] = timed(fog, count, lambda: upload(peers, frames))
            for peer in peers:
                peer.socket.close(0)
        finish(fog_folder / "store", arguments.packet)
        with running_fog(fog_folder) as fog:
            peers = [Peer(context, fog, pair) for pair in pairs]
            sizes: list[int] = []
            copies = count * len(peers)
            found["records"] = timed(fog, copies, lambda: sizes.append(subscribe(peers, count)))
            found["record_message_bytes"] = sizes[0] / copies
            for peer in peers:
                peer.socket.close(0)
    found["stored_bytes_beside_payload"] = stored_bytes(folder / "stored", arguments)
    return found


def finish(store_folder: Path, size: int) -> None:
    """Give every frame a packet of ``size`` bytes, as the encoders would."""
    with open_fog_store(store_folder) as store:
        for item in store.pending_frames(10**9):
            store.finish(item.identity, RecordKind.PACKET, META, os.urandom(size))


def stored_bytes(folder: Path, arguments: argparse.Namespace) -> float:
    """Bytes on disk of a frame beside its packet and, of a held-out one, its image, once it is encoded."""
    device = "d" * 40
    frames = frames_of(device, arguments.frames, arguments.size)
    with open_fog_store(folder) as store:
        # Encoders keep up: images go as they come, and their pages are used again.
        for start in range(0, len(frames), 8):
            group = frames[start : start + 8]
            store.commit_frames(group)
            for frame in group:
                if frame.identity is not None:
                    store.finish(frame.identity, RecordKind.PACKET, META, os.urandom(arguments.packet))
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    kept = sum(len(frame.image) for frame in frames if frame.validation)
    return (total - kept) / len(frames) - arguments.packet


def measure_encoding(path: Path, every: int) -> dict[str, dict[str, float]]:
    """CPU seconds a frame of each profile but siren, at the first target."""
    listed = read_frames(path, every)
    found: dict[str, dict[str, float]] = {}
    for profile in PROFILES:
        if profile == "siren":
            continue
        encoder = FrameEncoder(settings_for_profile(profile))
        encoder.encode([listed[0].frame])
        start, wall = time.process_time(), time.perf_counter()
        for item in listed:
            encoder.encode([item.frame])
        found[profile] = {
            "cpu_s": (time.process_time() - start) / len(listed),
            "wall_s": (time.perf_counter() - wall) / len(listed),
            "frames": len(listed),
        }
    return found


def settings_for_profile(profile: str) -> Any:
    """Settings of the protocol at its first target."""
    from fog_node.encoders.encoder_settings import EncoderSettings

    return settings_for(EncoderSettings(), profile, TARGETS[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="fog_rates.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000, help="frames of all devices (1000)")
    parser.add_argument("--devices", type=int, default=4, help="devices and subscribers (4)")
    parser.add_argument("--size", type=int, default=70_000, help="bytes of an image (70000)")
    parser.add_argument("--packet", type=int, default=2500, help="bytes of a packet (2500)")
    parser.add_argument("--encode", type=Path, metavar="FRAMES.csv", help="also time the encoders on these")
    parser.add_argument("--every", type=int, default=3, help="only each N-th of them (3)")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return run_command(parser, argv)


def _run(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="fog-rates-") as folder:
        found = measure_fog(Path(folder), arguments)
    if arguments.encode is not None:
        found["encoding"] = measure_encoding(arguments.encode, arguments.every)
    if arguments.json:
        print_json(found)
        return 0
    for name, value in found.items():
        sys.stdout.write(f"{name}: {value}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
