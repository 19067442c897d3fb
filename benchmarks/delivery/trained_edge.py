"""An edge daemon that uploads while it trains: how long acknowledgements take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.bitstream import Packet, encode_packet
from common.errors import DeploymentError
from common.frame import Frame, FrameIdentity
from common.store import open_fog_store
from common.store.records import RecordKind
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from delivery.fog import META, running_fog
from delivery.peers import HEIGHT, WIDTH, noise
from simulations.processes import Nodes
from simulations.watch import Status, status_of

__all__ = ["Measured", "measure_uploads_beside"]

POLL_S = 0.05
TIMEOUT_S = 120.0
FIRST_STEPS = 3
"""Training steps before uploads begin: the first ones load libraries and fill caches."""

IMAGES = 32
"""Different images; frames take them in turn, with another comment each so that none is like another."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run showed.

    Attributes:
        median_s, p95_s: From a frame being sent to its acknowledgement, seconds.
        uploads_per_s: Frames acknowledged a second.
        steps_per_s: Training steps a second meanwhile; 0 without training.
    """

    median_s: float
    p95_s: float
    uploads_per_s: float
    steps_per_s: float


def measure_uploads_beside(
    folder: Path,
    packets: Sequence[Packet],
    training: Mapping[str, Any] | None,
    *,
    frames: int,
    rate: float,
    size: int,
) -> Measured:
    """Latency of uploads beside a training, all of it by real daemons on this machine.

    Args:
        folder: Empty or new.
        packets: What the edge trains on.
        training: Settings of the detector's training; None: the edge does not train.
        frames: Uploaded while it trains, at most a thousand count.
        rate: Frames a second.
        size: Bytes of an image.

    Raises:
        DeploymentError: A node has ended, or it took too long.
    """
    fog_folder, place = folder / "fog", folder / "edge"
    fog_folder.mkdir(parents=True)
    teacher, own = keys.generate(folder / "teacher").public, keys.generate(place / "keys").public
    AllowList(fog_folder / "allow.yaml").add(Device(own, may_upload=True, may_subscribe=("*",)))
    images = [
        image[:2] + b"\xff\xfe\x00\x06" + number.to_bytes(4, "big") + image[2:]
        for number, image in enumerate((noise(IMAGES, size, seed=3) * (frames // IMAGES + 1))[: frames + 1])
    ]
    _fill(fog_folder / "store", teacher, images[0], packets)
    with running_fog(fog_folder) as fog, Nodes() as nodes:
        chosen: dict[str, Any] = {"mode": "never"}
        if training is not None:
            classes = tuple(dict.fromkeys(box.name for packet in packets for box in packet.boxes))
            detector = {"epochs": 10_000, "classes": list(classes) or ["object"], **training}
            chosen = {"mode": "always", "min_new_frames": len(packets), "detector": detector}
        _write(place, fog.address, fog.key, chosen, rate)
        # A folder must not be empty when it is first looked at.
        _put(place, images[:1])
        log = folder / "edge.log"
        nodes.start("edge", "edge_node.cli", ["run", "--config", str(place / "edge.yaml")], log)
        store = place / "store"

        def wait(condition: Callable[[Status], bool], what: str) -> Status:
            end = time.monotonic() + TIMEOUT_S + frames / rate
            while time.monotonic() < end:
                nodes.check()
                status = status_of(store)
                if status is not None and condition(status):
                    return status
                time.sleep(POLL_S)
            raise DeploymentError(f"waited too long for {what}; see {log}")

        def stepping(status: Status) -> bool:
            told = int(status["inbox"]["packet"]) == len(packets) and status["outbox"]["acknowledged"] == 1
            return told and (training is None or _steps(status) >= FIRST_STEPS)

        wait(stepping, "the first training steps")
        _put(place, images[1:])
        first = wait(lambda status: status["outbox"]["acknowledged"] > 1, "the first upload")
        began = time.monotonic()
        last = wait(lambda status: status["outbox"]["acknowledged"] == frames + 1, "the last upload")
        seconds = time.monotonic() - began
    took = last["outbox"]["acknowledgement"]
    uploads = last["outbox"]["acknowledged"] - first["outbox"]["acknowledged"]
    return Measured(
        took["median_s"], took["p95_s"], uploads / seconds, (_steps(last) - _steps(first)) / seconds
    )


def _steps(status: Status) -> int:
    return int(status["training"]["step"] or 0)


def _fill(store: Path, device: str, image: bytes, packets: Sequence[Packet]) -> None:
    """Packets of another device into the log, as if it had uploaded their frames."""
    with open_fog_store(store) as opened:
        for number, packet in enumerate(packets):
            identity = FrameIdentity(device, 1, number)
            frame = Frame(str(number), image, WIDTH, HEIGHT, packet.labelled, packet.boxes, identity)
            opened.commit_frames([frame])
            opened.finish(identity, RecordKind.PACKET, META, encode_packet(packet))


def _put(place: Path, images: Sequence[bytes]) -> None:
    """Image files into the edge's source, each whole when it is seen."""
    folder, made = place / "frames", place / "made"
    folder.mkdir(exist_ok=True)
    made.mkdir(exist_ok=True)
    begin = len(list(folder.iterdir()))
    for number, image in enumerate(images, begin):
        path = made / f"{number:06d}.jpg"
        path.write_bytes(image)
    for path in sorted(made.iterdir()):
        path.rename(folder / path.name)


def _write(place: Path, address: str, key: str, training: Mapping[str, Any], rate: float) -> None:
    settings = {
        "fog": {"address": address, "public_key": key},
        "sources": [{"path": "frames", "labels": "none", "frames_per_second": rate, "again_s": 1}],
        "training": dict(training),
        "monitoring": {"port": 0},
        "status_s": 0.25,
    }
    (place / "edge.yaml").write_text(yaml.safe_dump(settings))
