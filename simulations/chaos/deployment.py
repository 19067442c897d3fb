"""A fog and its edges for one chaos run: keys, frames, configurations, links, and when all is delivered."""

from __future__ import annotations

import random
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DeploymentError
from common.images import Rgb, encode_jpeg
from common.ownership import FogShare, owner
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from simulations.chaos.clock import Clock
from simulations.chaos.daemon import Daemon, merged
from simulations.chaos.disks import SmallDisk
from simulations.chaos.labels import Tracks, uncorrected
from simulations.chaos.links import Links
from simulations.chaos.node_settings import edge_settings, fog_settings, storage
from simulations.chaos.plan import PLAINEST, Recording, Variant
from simulations.chaos.stores import committed
from simulations.watch import Status

__all__ = ["Deployment", "Options", "deploy", "free_port", "undelivered", "write_frames"]

PORTS = (20_000, 29_999)
"""Below what the kernel gives to outgoing connections, so that a fog that restarts finds its port free."""

DISK_BYTES = 64 << 20

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
        train: Whether trainers really train, at a tiny size.
        fog, edge: Settings of the daemons in place of those for runs of seconds.
    """

    profile: str | None = None
    clock_shim: Path | None = None
    disks: bool = False
    cables_bytes_per_s: float | None = None
    drain_s: float = 90.0
    train: bool = False
    fog: Mapping[str, Any] = field(default_factory=dict)
    edge: Mapping[str, Any] = field(default_factory=dict)


class Deployment:
    """Daemons that run, and what belongs to them; leaving the ``with`` block ends everything.

    Attributes:
        fogs, edges: The daemons.
        tracks: The labels of each recording edge's source, by name.
        keys: Public key of each, by name.
        links: Between them.
        clocks: Of each daemon whose clock can be shifted, by name.
        disks: Of each daemon whose disk can be filled, by name.
        relabelled: Whether labels are corrected.
    """

    def __init__(self) -> None:
        self.fogs: tuple[Daemon, ...] = ()
        self.edges: tuple[Daemon, ...] = ()
        self.tracks: dict[str, Tracks] = {}
        self.keys: dict[str, str] = {}
        self.links: Links
        self.clocks: dict[str, Clock] = {}
        self.disks: dict[str, SmallDisk] = {}
        self.relabelled = False
        self.resources = ExitStack()

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """The fogs first."""
        return (*self.fogs, *self.edges)

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
            missing = undelivered(_statuses(self.fogs), _statuses(self.edges)) or self._uncorrected()
            now = time.monotonic()
            since = None if missing else since or now
            if since is not None and now - since > STILL_S:
                return ""
            time.sleep(0.05)
        return f"after {seconds:.0f} s {missing}"

    def lift(self) -> None:
        """Start every fog again with a log that keeps everything.

        Raises:
            DeploymentError: One does not end or start.
        """
        for fog in self.fogs:
            fog.end()
            fog.settings = {**fog.settings, "storage": storage(PLAINEST)}
            fog.serve()

    def _uncorrected(self) -> str:
        """Which corrections are still to come, in a few words."""
        if not self.relabelled:
            return ""
        try:
            known = {identity for fog in self.fogs for identity in committed(fog.store)}
            for name, tracks in self.tracks.items():
                if behind := uncorrected(self.daemon(name).store, tracks, known):
                    return f"the labels of {behind} frames of {name} are not those of its source"
        except sqlite3.Error as error:
            return f"a store cannot be read ({error})"
        return ""

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()


def undelivered(fogs: Mapping[str, Status | None], edges: Mapping[str, Status | None]) -> str:
    """What is still to come, in a few words; empty when nothing is."""
    for name, edge in edges.items():
        if edge is None:
            return f"{name} has no status"
        if edge["recording"]["state"] not in ("done", "watching"):
            return f"{name} still is {edge['recording']['state']}"
        if edge["outbox"]["waiting"]:
            return f"{edge['outbox']['waiting']} frames wait at {name} ({edge['problem'] or 'no problem'})"
    for place, fog in fogs.items():
        if fog is None:
            return f"{place} has no status"
        if fog["frames_pending"]:
            return f"{fog['frames_pending']} frames wait to be encoded at {place}"
        log, position = fog["log_id"], fog["log_position"]
        for name, edge in edges.items():
            held = {link["log_id"]: link["log_position"] for link in (edge or {}).get("fogs", ())}
            if held.get(log) != position:
                return f"{name} stands at position {held.get(log, 0)} of {position} of {place}"
    return ""


def _statuses(daemons: Sequence[Daemon]) -> dict[str, Status | None]:
    return {daemon.name: daemon.status() for daemon in daemons}


def deploy(
    folder: Path,
    seed: int,
    recordings: Sequence[Recording],
    options: Options,
    make_links: Callable[[Sequence[str], Sequence[int]], Links],
    variant: Variant = PLAINEST,
) -> Deployment:
    """Make everything and start the fogs; the edges are started by the caller.

    Args:
        folder: Empty or new.
        seed: Of frames and ports.
        recordings: One an edge.
        options: Of the campaign.
        make_links: From the edges' names and the fogs' ports.
        variant: Of the run.

    Raises:
        DeploymentError: A fog does not start.
    """
    source = random.Random(f"deployment {seed}")
    deployment = Deployment()
    deployment.relabelled = bool(variant.relabels)
    with ExitStack() as resources:
        ports = [free_port(source) for _ in range(variant.fogs)]
        edges = {f"edge{number + 1}": recording for number, recording in enumerate(recordings)}
        fogs = ["fog", *(f"fog{number + 1}" for number in range(1, variant.fogs))]
        links = deployment.links = make_links(tuple(edges), ports)
        resources.callback(links.close)
        deployment.keys = _keys(folder, fogs, edges)
        for name, port in zip(fogs, ports, strict=True):
            address = f"tcp://{links.host}:{port}"
            settings = fog_settings(address, variant, options.profile, SMALL_PX[0], train=options.train)
            fog = _daemon(deployment, folder, name, merged(settings, options.fog), options, resources)
            deployment.fogs += (fog,)
            allow = AllowList(fog.folder / "allow.yaml")
            for device, recording in edges.items():
                allow.add(Device(deployment.keys[device], recording.frames > 0, ("*",), device))
        for name, recording in edges.items():
            known = [(links.address(name, place), deployment.keys[fog]) for place, fog in enumerate(fogs)]
            settings = edge_settings(
                folder / name, known, recording, deployment.relabelled, train=options.train
            )
            edge = _daemon(deployment, folder, name, merged(settings, options.edge), options, resources)
            if recording.frames:
                smooth = options.profile is not None
                frames = edge.folder / "frames"
                write_frames(frames, recording, source.randrange(2**32), smooth=smooth)
                deployment.tracks[name] = Tracks(frames, recording.frames)
            deployment.edges += (edge,)
        for fog in deployment.fogs:
            fog.start()
        for fog in deployment.fogs:
            if not fog.ready():
                raise DeploymentError(f"the fog did not start: {fog.last_words}")
        deployment.resources = resources.pop_all()
    return deployment


def _keys(folder: Path, fogs: Sequence[str], edges: Mapping[str, Recording]) -> dict[str, str]:
    """Key pairs of all; of several fogs the last one's is drawn until each has devices of its own."""
    found = {name: keys.generate(folder / name / "keys").public for name in (*fogs, *edges)}
    recording = [found[name] for name, edge in edges.items() if edge.frames]
    while 1 < len(fogs) <= len(recording):
        shares = [FogShare(found[name]) for name in fogs]
        if len({owner(device, shares) for device in recording}) == len(fogs):
            break
        shutil.rmtree(folder / fogs[-1] / "keys")
        found[fogs[-1]] = keys.generate(folder / fogs[-1] / "keys").public
    return found


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
    for number in range(recording.frames):
        width, height = LARGE_PX if number in large else SMALL_PX
        if smooth:
            pixels = _waves(source, width, height)
        else:
            pixels = source.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (images / f"{number:06d}.jpg").write_bytes(encode_jpeg(pixels, 95))
    Tracks(folder, recording.frames).write()


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
    place.mkdir(parents=True, exist_ok=True)
    environment: dict[str, str] = {"OMP_NUM_THREADS": "1"}
    if options.clock_shim is not None:
        clock = deployment.clocks[name] = Clock(place / "clock", options.clock_shim)
        environment |= clock.environment
    command = ["fog_node.cli", "serve"] if name.startswith("fog") else ["edge_node.cli", "run"]
    daemon = Daemon(name, place, command, settings, environment, deployment.links.command(name))
    if options.disks:
        disk = deployment.disks[name] = SmallDisk(daemon.disk, DISK_BYTES)
        resources.callback(disk.close)
    # Ended before their disks are taken away.
    resources.callback(daemon.close)
    return daemon
