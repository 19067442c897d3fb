"""A fog and its edges for one chaos run: keys, frames, configurations, links, and when all is delivered."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DeploymentError
from common.images import Rgb, encode_jpeg
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from simulations.chaos import passthrough, stand_in_trainer
from simulations.chaos.clock import Clock
from simulations.chaos.daemon import Daemon, merged
from simulations.chaos.disks import SmallDisk
from simulations.chaos.links import Links
from simulations.chaos.plan import Recording
from simulations.watch import Status

__all__ = ["Deployment", "Options", "deploy", "free_port", "undelivered", "write_frames"]

PORTS = (20_000, 29_999)
"""Below what the kernel gives to outgoing connections, so that a fog that restarts finds its port free."""

DISK_BYTES = 64 << 20

QUICK_WIRE = {
    "heartbeat_seconds": 0.2,
    "liveness": 10,
    "backoff_first_seconds": 0.05,
    "backoff_last_seconds": 0.4,
}
"""Waits so short that a run of seconds meets all of them."""

QUICK_CHILDREN = {"restart_first_s": 0.05, "restart_max_s": 0.3, "stop_s": 2.0, "terminate_s": 1.0}

QUICK_ENCODER = {
    "background_psnr": 24.0,
    "object_psnr": 28.0,
    "time_budget_s": 1.0,
    "batch_frames": 4,
}
"""Where frames are really encoded, it is not their quality that is tested."""

SMALL_PX, LARGE_PX = (96, 64), (360, 240)
"""Width and height of frames; noise of the larger one takes more than 100,000 bytes."""

STILL_S = 0.5
"""How long everything must have been delivered before it counts: longer than status files are old."""


@dataclass(frozen=True, slots=True)
class Options:
    """What all runs of a campaign share.

    Attributes:
        profile: A profile of the fog's encoder; None: frames are stored as they are.
        clock_shim: Shifts wall clocks; None: it cannot be done.
        disks: Whether small file systems can be mounted.
        cables_bytes_per_s: Rate of cables between network namespaces; None: links through the proxy.
        drain_s: Seconds in which all must have been delivered after the faults.
        fog, edge: Settings of the daemons in place of those for runs of seconds.
    """

    profile: str | None = None
    clock_shim: Path | None = None
    disks: bool = False
    cables_bytes_per_s: float | None = None
    drain_s: float = 90.0
    fog: Mapping[str, Any] = field(default_factory=dict)
    edge: Mapping[str, Any] = field(default_factory=dict)


class Deployment:
    """Daemons that run, and what belongs to them; leaving the ``with`` block ends everything.

    Attributes:
        fog, edges: The daemons.
        keys: Public key of each, by name.
        links: Between them.
        clocks: Of each daemon whose clock can be shifted, by name.
        disks: Of each daemon whose disk can be filled, by name.
    """

    def __init__(self) -> None:
        self.fog: Daemon
        self.edges: tuple[Daemon, ...] = ()
        self.keys: dict[str, str] = {}
        self.links: Links
        self.clocks: dict[str, Clock] = {}
        self.disks: dict[str, SmallDisk] = {}
        self.resources = ExitStack()

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """The fog first."""
        return (self.fog, *self.edges)

    def daemon(self, name: str) -> Daemon:
        """By its name."""
        return next(daemon for daemon in self.daemons if daemon.name == name)

    def drained(self, seconds: float, look: Callable[[], None]) -> str:
        """Wait until every frame is acknowledged, encoded and delivered.

        Args:
            seconds: At most.
            look: Called at every look at the daemons.

        Returns:
            What is still missing, in one sentence; empty when all is delivered.
        """
        end = time.monotonic() + seconds
        since: float | None = None
        missing = "nothing was seen"
        while time.monotonic() < end:
            look()
            ended = next((d for d in self.daemons if not d.running), None)
            if ended is not None:
                return f"{ended.name} ended by itself with code {ended.code}: {ended.last_words}"
            missing = undelivered(self.fog.status(), {edge.name: edge.status() for edge in self.edges})
            now = time.monotonic()
            since = None if missing else since or now
            if since is not None and now - since > STILL_S:
                return ""
            time.sleep(0.05)
        return f"after {seconds:.0f} s {missing}"

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()


def undelivered(fog: Status | None, edges: Mapping[str, Status | None]) -> str:
    """What is still to come, in a few words; empty when nothing is."""
    if fog is None:
        return "the fog has no status"
    for name, edge in edges.items():
        if edge is None:
            return f"{name} has no status"
        if edge["recording"]["state"] != "done":
            return f"{name} still is {edge['recording']['state']}"
        if edge["outbox"]["waiting"]:
            return f"{edge['outbox']['waiting']} frames wait at {name} ({edge['problem'] or 'no problem'})"
    if fog["frames_pending"]:
        return f"{fog['frames_pending']} frames wait to be encoded"
    for name, edge in edges.items():
        if edge is not None and (edge["log_id"], edge["log_position"]) != (
            fog["log_id"],
            fog["log_position"],
        ):
            return f"{name} stands at position {edge['log_position']} of {fog['log_position']}"
    return ""


def deploy(
    folder: Path,
    seed: int,
    recordings: Sequence[Recording],
    options: Options,
    make_links: Callable[[Sequence[str], int], Links],
) -> Deployment:
    """Make everything and start the fog; the edges are started by the caller.

    Args:
        folder: Empty or new.
        seed: Of frames and ports.
        recordings: One an edge.
        options: Of the campaign.
        make_links: From the edges' names and the fog's port.

    Raises:
        DeploymentError: The fog does not start.
    """
    source = random.Random(f"deployment {seed}")
    deployment = Deployment()
    with ExitStack() as resources:
        port = free_port(source)
        names = [f"edge{number + 1}" for number in range(len(recordings))]
        links = deployment.links = make_links(names, port)
        resources.callback(links.close)
        settings = merged(_fog_settings(links, port, options), options.fog)
        fog = _daemon(deployment, folder, "fog", settings, options, resources)
        deployment.fog = fog
        allow = AllowList(fog.folder / "allow.yaml")
        edges = []
        for name, recording in zip(names, recordings, strict=True):
            settings = _edge_settings(folder / name, links.address(name), deployment.keys["fog"], recording)
            edge = _daemon(deployment, folder, name, merged(settings, options.edge), options, resources)
            allow.add(Device(deployment.keys[name], recording.frames > 0, ("*",), name))
            if recording.frames:
                smooth = options.profile is not None
                write_frames(edge.folder / "frames", recording, source.randrange(2**32), smooth=smooth)
            edges.append(edge)
        deployment.edges = tuple(edges)
        fog.start()
        if not fog.ready():
            raise DeploymentError(f"the fog did not start: {fog.last_words}")
        deployment.resources = resources.pop_all()
    return deployment


def write_frames(folder: Path, recording: Recording, seed: int, *, smooth: bool = False) -> None:
    """A sequence folder, every frame unlike all others, each with one box.

    Args:
        folder: To be made.
        recording: How many frames.
        seed: Of their pixels.
        smooth: Waves, which are quickly encoded, in place of noise.
    """
    source = np.random.default_rng(seed)
    images = folder / "img"
    images.mkdir(parents=True)
    large = set(source.choice(recording.frames, recording.large, replace=False).tolist())
    lines = []
    for number in range(recording.frames):
        width, height = LARGE_PX if number in large else SMALL_PX
        if smooth:
            pixels = _waves(source, width, height)
        else:
            pixels = source.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (images / f"{number:06d}.jpg").write_bytes(encode_jpeg(pixels, 95))
        lines.append("10,10,30,20")
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _waves(source: np.random.Generator, width: int, height: int) -> Rgb:
    """A plane wave in each colour."""
    y, x = np.indices((height, width))[:, :, :, np.newaxis] / width
    along, across, phase = source.uniform(-12.0, 12.0, (3, 3))
    pixels: Rgb = np.round(127.5 + 100 * np.cos(along * x + across * y + phase)).astype(np.uint8)
    return pixels


def free_port(source: random.Random) -> int:
    """A TCP port that nobody has bound now and the kernel gives to nobody."""
    while True:
        port = source.randint(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port


def _daemon(
    deployment: Deployment,
    folder: Path,
    name: str,
    settings: dict[str, Any],
    options: Options,
    resources: ExitStack,
) -> Daemon:
    place = folder / name
    place.mkdir(parents=True)
    environment: dict[str, str] = {"OMP_NUM_THREADS": "1"}
    if options.clock_shim is not None:
        clock = deployment.clocks[name] = Clock(place / "clock", options.clock_shim)
        environment |= clock.environment
    command = ["fog_node.cli", "serve"] if name == "fog" else ["edge_node.cli", "run"]
    daemon = Daemon(name, place, command, settings, environment, deployment.links.command(name))
    if options.disks:
        disk = deployment.disks[name] = SmallDisk(daemon.disk, DISK_BYTES)
        resources.callback(disk.close)
    # Ended before their disks are taken away.
    resources.callback(daemon.close)
    deployment.keys[name] = keys.generate(place / "keys").public
    return daemon


def _fog_settings(links: Links, port: int, options: Options) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "address": f"tcp://{links.host}:{port}",
        "store": "disk/store",
        "storage": {"min_free_bytes": 0},
        # Encoders are killed without any fault of the frames that they hold.
        "workers": {"workers": 1, "threads": 1, "wait_s": 0.05, "attempts": 20, "start_attempts": 1000},
        "training": {
            "strategy": "fog",
            "min_frames": 5,
            "min_new_frames": 10,
            "module": stand_in_trainer.MODULE,
        },
        "wire": QUICK_WIRE,
        "children": QUICK_CHILDREN,
        "allow_check_s": 0.5,
        "monitoring": {"port": None},
        "status_s": 0.1,
        "retry_full_s": 0.2,
        "drain_s": 10.0,
    }
    if options.profile is None:
        settings["workers"]["module"] = passthrough.MODULE
    else:
        settings["encoder"] = {"profile": options.profile, "width": SMALL_PX[0], **QUICK_ENCODER}
    return settings


def _edge_settings(folder: Path, address: str, fog_key: str, recording: Recording) -> dict[str, Any]:
    frames = str(folder / "frames")
    source = [{"path": frames, "frames_per_second": recording.per_s}] if recording.frames else []
    return {
        "fog": {"address": f"tcp://{address}", "public_key": fog_key},
        "store": "disk/store",
        "storage": {"min_free_bytes": 0},
        "sources": source,
        "training": {"mode": "always", "min_new_frames": 15, "module": stand_in_trainer.MODULE},
        "wire": QUICK_WIRE,
        "children": QUICK_CHILDREN,
        "monitoring": {"port": None},
        "status_s": 0.1,
        "drain_s": 10.0,
    }
