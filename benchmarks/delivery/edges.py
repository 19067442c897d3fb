"""Whole edge daemons: frames of a folder through a durable outbox to the fog's disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from common.errors import DeploymentError
from common.node.status_file import read_status
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from delivery.fog import Fog, running_fog
from delivery.peers import noise
from simulations.processes import Nodes

__all__ = ["measure_edges"]

POLL_S = 0.02
TIMEOUT_S = 180.0


def measure_edges(
    folder: Path, *, size: int, frames: int, numbers: Sequence[int] = (1, 2)
) -> list[dict[str, Any]]:
    """Frames a second from the first to the last acknowledged, of so many edges at the same time.

    Args:
        folder: Empty or new.
        size: Bytes of an image.
        frames: Of all edges together.
        numbers: Edge daemons of each measurement.
    """
    images = noise(frames, size, seed=2)
    rows = []
    for number in numbers:
        home = folder / str(number)
        (home / "fog").mkdir(parents=True)
        allow = AllowList(home / "fog" / "allow.yaml")
        each = frames // number
        with ExitStack() as stack:
            fog = stack.enter_context(running_fog(home / "fog"))
            places = []
            for edge in range(number):
                place = home / f"edge{edge}"
                pair = keys.generate(place / "keys")
                allow.add(Device(pair.public, may_upload=True, may_subscribe=()))
                _write(place, fog, images[edge * each : (edge + 1) * each])
                places.append(place)
            nodes = stack.enter_context(Nodes())
            for place in places:
                config = str(place / "edge.yaml")
                nodes.start(
                    place.name, "edge_node.cli", ["run", "--config", config], home / f"{place.name}.log"
                )
            rate = _rate(nodes, places, each * number)
        size_mean = sum(map(len, images)) / len(images)
        rows.append(
            {"edges": number, "frames": each * number, "per_s": rate, "mb_per_s": rate * size_mean / 1e6}
        )
    return rows


def _write(place: Path, fog: Fog, images: Sequence[bytes]) -> None:
    (place / "frames").mkdir()
    for number, image in enumerate(images):
        (place / "frames" / f"{number:06d}.jpg").write_bytes(image)
    settings = {
        "fog": {"address": fog.address, "public_key": fog.key},
        "sources": [{"path": "frames"}],
        "training": {"mode": "never"},
        "status_s": 0.05,
    }
    (place / "edge.yaml").write_text(yaml.safe_dump(settings))


def _rate(nodes: Nodes, places: Sequence[Path], total: int) -> float:
    """Frames acknowledged a second, from the first that were seen to the last."""
    first: tuple[float, int] | None = None
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        nodes.check()
        time.sleep(POLL_S)
        now = time.perf_counter()
        try:
            done = sum(int(read_status(place / "store")["outbox"]["acknowledged"]) for place in places)
        except Exception:  # not every daemon has written its status
            continue
        if first is None and done:
            first = now, done
        if first is not None and done >= total:
            return (done - first[1]) / (now - first[0])
    raise DeploymentError(f"the edges uploaded less than {total} frames in {TIMEOUT_S:g} s; see their logs")
