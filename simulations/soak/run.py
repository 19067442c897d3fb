"""A calm deployment that is watched: load, samples, drain, verdict and slopes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.errors import DeploymentError
from simulations.chaos.deployment import Deployment, Options, deploy
from simulations.chaos.history import History, Verdict
from simulations.chaos.links import DirectLinks
from simulations.chaos.plan import Recording
from simulations.chaos.run import judge, source_reader
from simulations.soak.samples import FIGURES, Held, held_by
from simulations.soak.slopes import Slope, slope_of

__all__ = ["TOLERATED", "Request", "Series", "Soak", "run_soak"]

TOLERATED: Mapping[str, float] = {
    "rss_bytes": float(2 << 20),
    "own_bytes": float(2 << 20),
    "descriptors": 1.0,
    "threads": 0.5,
}
"""Growth over a soak that counts as none, even when it is sure: an allocator's pools fill slowly."""

WARM_SHARE = 0.2
"""Share of the time at the beginning that is not looked at: caches fill."""

ROUND_FRAMES = 400
"""New frames between two rounds of training."""

DRAIN_S = 120.0

FOG = {
    "training": {"min_frames": 50, "min_new_frames": ROUND_FRAMES},
    "status_s": 1.0,
    "wire": {"heartbeat_seconds": 1.0, "liveness": 5},
}
EDGE = {
    "training": {"min_new_frames": ROUND_FRAMES},
    "status_s": 1.0,
    "wire": {"heartbeat_seconds": 1.0, "liveness": 5},
}
"""The nodes' own defaults where a chaos run is in a hurry."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to run.

    Attributes:
        seconds: Of load.
        edges: How many.
        per_s: Frames that each records a second.
        sample_s: Seconds between two samples.
        profile: Of the fog's encoder; None: frames are stored as they are.
    """

    seconds: float
    edges: int
    per_s: float = 1.0
    sample_s: float = 10.0
    profile: str | None = None


@dataclass
class Series:
    """Samples of one process.

    Attributes:
        times: Seconds after the edges had started.
        held: What it held then.
        pids: Process ids that bore this name: more than one when it was started again.
    """

    times: list[float] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    def values(self, figure: str) -> list[float]:
        """One figure over time."""
        return [float(getattr(held, figure)) for held in self.held]

    def slope(self, figure: str) -> Slope | None:
        """Of one figure, without the beginning."""
        begin = WARM_SHARE * self.times[-1] if self.times else 0.0
        chosen = [index for index, at in enumerate(self.times) if at >= begin]
        values = self.values(figure)
        return slope_of([self.times[index] for index in chosen], [values[index] for index in chosen])


@dataclass
class Soak:
    """What was seen.

    Attributes:
        request: What was asked for.
        series: Of each process, by name.
        seconds: Of load and drain.
        verdict: Of the stores, as of a chaos run.
        problems: What went wrong beside it.
    """

    request: Request
    series: dict[str, Series] = field(default_factory=dict)
    seconds: float = 0.0
    verdict: Verdict | None = None
    problems: list[str] = field(default_factory=list)

    def growing(self) -> list[str]:
        """Names of processes and figures that surely grow."""
        found = []
        for name, series in self.series.items():
            for figure in FIGURES:
                slope = series.slope(figure)
                if slope is not None and slope.grows(TOLERATED[figure]):
                    found.append(f"{figure} of {name}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The command's JSON object."""
        return {
            "request": asdict(self.request),
            "seconds": round(self.seconds, 1),
            "verdict": None if self.verdict is None else asdict(self.verdict),
            "problems": self.problems,
            "growing": self.growing(),
            "processes": {
                name: {
                    "samples": len(series.times),
                    "starts": len(series.pids),
                    **{
                        figure: None if (slope := series.slope(figure)) is None else asdict(slope)
                        for figure in FIGURES
                    },
                }
                for name, series in self.series.items()
            },
        }


def run_soak(request: Request, folder: Path, shown: Callable[[float, int], None]) -> Soak:
    """Run it.

    Args:
        request: What to run.
        folder: Empty or new; stores and logs stay there.
        shown: Told how many seconds have passed and how long the fog's log is, at every sample.

    Raises:
        DeploymentError: The deployment does not start.
    """
    soak = Soak(request)
    frames = max(1, round(request.seconds * request.per_s))
    recordings = [Recording(frames, 0, request.per_s)] * request.edges
    options = Options(profile=request.profile, fog=FOG, edge=EDGE)
    with deploy(folder, 0, recordings, options, lambda names, ports: DirectLinks(ports)) as deployment:
        for edge in deployment.edges:
            edge.start()
        for edge in deployment.edges:
            if not edge.ready():
                raise DeploymentError(f"{edge.name} did not start: {edge.last_words}")
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < request.seconds:
            position = _sample(deployment, soak, now)
            shown(now, position)
            ended = next((daemon for daemon in deployment.daemons if not daemon.running), None)
            if ended is not None:
                soak.problems.append(
                    f"{ended.name} ended by itself with code {ended.code}: {ended.last_words}"
                )
                return soak
            time.sleep(max(0.0, min(request.sample_s, request.seconds - now)))
        missing = deployment.drained(DRAIN_S, lambda: None)
        soak.problems += [f"not everything was delivered: {missing}"] if missing else []
        soak.seconds = time.monotonic() - begin
        for daemon in reversed(deployment.daemons):
            code = daemon.stop()
            if code:
                soak.problems.append(f"{daemon.name} ended with code {code}: {daemon.last_words}")
        soak.verdict = judge(deployment, History(), source_reader(options))
    return soak


def _sample(deployment: Deployment, soak: Soak, now: float) -> int:
    """Look at every process; returns the length of the fog's log."""
    position = 0
    pids: dict[str, int | None] = {}
    for daemon in deployment.daemons:
        pids[daemon.name] = daemon.pid
        status = daemon.status()
        if status is None:
            continue
        pids[f"{daemon.name} trainer"] = status["training"].get("pid")
        if daemon in deployment.fogs:
            position = int(status["log_position"])
            for number, worker in enumerate(status["workers"]):
                pids[f"encoder {number}"] = worker["pid"]
    for name, pid in pids.items():
        held = None if pid is None else held_by(pid)
        if pid is not None and held is not None:
            series = soak.series.setdefault(name, Series())
            series.times.append(now)
            series.held.append(held)
            series.pids.add(pid)
    return position
