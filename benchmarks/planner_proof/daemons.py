"""The real daemons over links: files, start, and what is seen of them until all is delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.config import parse_settings
from common.errors import DeploymentError
from common.frame import Frame
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from edge_node.settings import EdgeSettings
from fog_node.settings import FogSettings
from planner_proof.case import Case, classes_of
from planner_proof.links import Carried, Links
from simulations.chaos import stand_in_trainer
from simulations.processes import Nodes
from simulations.recordings import write_source
from simulations.watch import Status, status_of

__all__ = ["Edge", "Running", "Seen", "deploy"]

POLL_S = 0.02
STATUS_S = 0.1
REPORT_S = 5.0
"""Seconds between two reports of rates: short enough for a calibration to see some."""

START_S = 60.0


@dataclass(frozen=True)
class Edge:
    """One edge of a deployment.

    Attributes:
        name: Its name.
        frames: What it records.
        hears: Names of the edges whose packets it gets.
    """

    name: str
    frames: Sequence[Frame] = ()
    hears: Sequence[str] = ()


@dataclass
class Seen:
    """What was seen of a run.

    Attributes:
        first_s: When the first upload began, by the monotonic clock.
        last_s: When the last record was stored at the last edge.
        carried: Bytes of each link at that time.
        fog: Last status of the fog.
        edges: Last status of each edge.
        encoded: (time, records in the log) whenever the log had grown.
    """

    first_s: float
    last_s: float
    carried: dict[str, Carried]
    fog: Status
    edges: dict[str, Status]
    encoded: list[tuple[float, int]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first upload to the last record stored."""
        return self.last_s - self.first_s


@dataclass
class Running:
    """Daemons that run."""

    case: Case
    nodes: Nodes
    links: Links
    edges: Sequence[Edge]
    stores: Mapping[str, Path]
    fog_store: Path
    timeout_s: float

    def delivered(self) -> Seen:
        """Wait until every edge has all that it is to get: packets, or the detector of a fog that trains.

        Raises:
            DeploymentError: A node has ended, or it took longer than the timeout.
        """
        quiet = self.links.carried()
        threshold = min(len(frame.image) for edge in self.edges for frame in edge.frames) // 4
        end = time.monotonic() + self.timeout_s

        def uploading() -> bool:
            return any(self.links.carried()[name].up - quiet[name].up > threshold for name in quiet)

        self._wait(uploading, end, "the first upload")
        seen = Seen(time.monotonic(), 0.0, {}, {}, {})
        recorded = {edge.name: len(edge.frames) for edge in self.edges}
        kind = self.case.shared
        wanted = {
            edge.name: sum(recorded[name] for name in edge.hears) if kind == "packet" else 1
            for edge in self.edges
        }

        def done() -> bool:
            fog = status_of(self.fog_store)
            if fog is not None:
                seen.fog = fog
                if not seen.encoded or fog["log_position"] > seen.encoded[-1][1]:
                    seen.encoded.append((time.monotonic(), fog["log_position"]))
            for name, store in self.stores.items():
                seen.edges[name] = status_of(store) or seen.edges.get(name, {})
            refused = [name for name, s in seen.edges.items() if s and s["outbox"]["refused"]]
            if refused:
                raise DeploymentError(f"the fog refuses frames of {refused[0]}; look at the edge's log")
            records = {n: s["inbox"][kind] if s else -1 for n, s in seen.edges.items()}
            uploaded = {n: s["outbox"]["acknowledged"] if s else -1 for n, s in seen.edges.items()}
            return records == wanted and uploaded == recorded

        self._wait(done, end, f"every {kind} at every edge")
        seen.last_s = time.monotonic()
        seen.carried = self.links.carried()
        return seen

    def _wait(self, condition: Callable[[], bool], end: float, what: str) -> None:
        while not condition():
            self.nodes.check()
            if time.monotonic() > end:
                raise DeploymentError(
                    f"waited {self.timeout_s:.0f} s for {what}; look at the logs in "
                    f"{self.fog_store.parent.parent / 'logs'}"
                )
            time.sleep(POLL_S)


def deploy(
    folder: Path,
    case: Case,
    links: Links,
    edges: Sequence[Edge],
    nodes: Nodes,
    *,
    timeout_s: float = 120.0,
    **fog: Any,
) -> Running:
    """Start a fog, wait until it can encode, then start the edges all at once.

    Args:
        folder: Empty or new.
        case: How the fog encodes.
        links: Between them.
        edges: What they record and hear.
        nodes: Runs them.
        timeout_s: Seconds that deliveries may take.
        fog: Further settings of the fog.

    Raises:
        DeploymentError: A node has ended.
    """
    place = folder / "fog"
    fog_keys = keys.generate(place / "keys")
    pairs = {edge.name: keys.generate(folder / edge.name / "keys") for edge in edges}
    allow = AllowList(place / "allow.yaml")
    for edge in edges:
        heard = tuple(pairs[name].public for name in edge.hears)
        allow.add(Device(pairs[edge.name].public, bool(edge.frames), heard, edge.name))
    classes = classes_of([frame for edge in edges for frame in edge.frames])
    settings = {
        "address": links.bind,
        "encoder": {
            "profile": case.profile,
            "width": case.coded_width,
            "background_psnr": case.targets[0],
            "object_psnr": case.targets[1],
            "batch_frames": case.batch_frames,
        },
        "workers": {"workers": 1, "threads": 1, "wait_s": case.wait_s},
        "training": {
            "strategy": case.strategy,
            "min_frames": sum(len(edge.frames) for edge in edges),
            "rounds": 1,
            "detector": {"classes": classes},
            "module": stand_in_trainer.MODULE,
        },
        "status_s": STATUS_S,
        **fog,
    }
    _write(place / "fog.yaml", settings, FogSettings)
    nodes.start(
        "fog",
        "fog_node.cli",
        ["serve", "--config", str(place / "fog.yaml")],
        folder / "logs" / "fog.log",
        prefix=links.command("fog"),
    )
    running = Running(
        case,
        nodes,
        links,
        edges,
        {edge.name: folder / edge.name / "store" for edge in edges},
        place / "store",
        timeout_s,
    )

    def ready() -> bool:
        status = status_of(running.fog_store)
        return status is not None and all(worker["state"] == "ready" for worker in status["workers"])

    running._wait(ready, time.monotonic() + START_S, "the fog's encoder")
    status = status_of(running.fog_store)
    links.start(int(status["port"]) if status is not None else 0)
    for edge in edges:
        home = folder / edge.name
        source = [{"path": write_source(home / "frames", edge.frames).name}] if edge.frames else []
        _write(
            home / "edge.yaml",
            {
                "fog": {"address": f"tcp://{links.address(edge.name)}", "public_key": fog_keys.public},
                "sources": [{"path": f"frames/{item['path']}"} for item in source],
                # Packets would be sent to edges that want them while the fog trains, too.
                "subscription": {"kinds": [case.shared]},
                "validation": {"held_out": 0},
                "training": {"mode": "never", "detector": {"classes": classes}},
                "report_s": REPORT_S,
                "status_s": STATUS_S,
            },
            EdgeSettings,
        )
    for edge in edges:
        nodes.start(
            edge.name,
            "edge_node.cli",
            ["run", "--config", str(folder / edge.name / "edge.yaml")],
            folder / "logs" / f"{edge.name}.log",
            prefix=links.command(edge.name),
        )
    return running


def _write(path: Path, value: Mapping[str, Any], model: type[FogSettings] | type[EdgeSettings]) -> None:
    text = yaml.safe_dump(dict(value), sort_keys=False)
    parse_settings(text, model, name=path.name)
    path.write_text(text, encoding="utf-8")
