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
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

from common.cli import print_json, run_command
from common.store import open_fog_store
from common.store.records import RecordKind
from delivery.fog import META, Fog, add_devices, finish_all, running_fog
from delivery.peers import Peer, encoded_uploads, exchange, make_frames, noise, subscribe
from fog_node.encoders.encoder import FrameEncoder
from fog_node.encoders.encoder_settings import PROFILES
from judge.measure import settings_for
from judge.protocol import TARGETS, read_frames

IMAGES = 64
"""Different images; frames take them in turn."""


def timed(fog: Fog, count: int, work: Callable[[], object]) -> dict[str, float]:
    """Items a second, and the fog's CPU seconds of one."""
    cpu, start = fog.cpu_s(), time.perf_counter()
    work()
    return {
        "per_s": count / (time.perf_counter() - start),
        "fog_cpu_s_each": (fog.cpu_s() - cpu) / count,
    }


def measure_fog(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Uploads, records and stored bytes."""
    fog_folder = folder / "fog"
    pairs = add_devices(fog_folder, folder, arguments.devices)
    images = noise(IMAGES, arguments.size, seed=0)
    each = arguments.frames // arguments.devices
    count = each * arguments.devices
    messages = [encoded_uploads(make_frames(pair.public, images, 0, each)) for pair in pairs]
    found: dict[str, Any] = {"frames": count, "image_bytes": arguments.size}
    with zmq.Context() as context:
        with running_fog(fog_folder) as fog:
            peers = [Peer(context, fog, pair) for pair in pairs]
            sockets = [peer.socket for peer in peers]
            found["uploads"] = timed(fog, count, lambda: exchange(sockets, messages, peers[0].window))
            for peer in peers:
                peer.socket.close(0)
        finish_all(fog_folder / "store", arguments.packet)
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


def stored_bytes(folder: Path, arguments: argparse.Namespace) -> float:
    """Bytes on disk of a frame beside its packet and, of a held-out one, its image, once it is encoded."""
    device = "d" * 40
    frames = make_frames(device, noise(IMAGES, arguments.size, seed=0), 0, arguments.frames)
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
    return float((total - kept) / len(frames) - arguments.packet)


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
