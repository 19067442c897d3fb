"""How far a deployment is, read from the daemons' status files (pure functions of these)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.errors import DeploymentError, StoreError
from common.node.status_file import read_status

__all__ = ["Expectation", "Observation", "Stage", "Status", "observe", "status_of"]

Status = Mapping[str, Any]
"""A daemon's status file."""


class Stage(StrEnum):
    """What the deployment does; the value is shown to people."""

    START = "starting the nodes"
    FIRST_CLIP = "recording and encoding the first clip"
    STARTER = "training the starter detector at the fog"
    SECOND_CLIP = "recording and encoding the second clip"
    ADAPT = "adapting at the edges"
    SETTLE = "delivering the rest of the log"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must happen.

    Attributes:
        clip_frames: Frames of the first clip, on all edges.
        frames: Frames of both clips.
        trainers: How many edges, the first ones, train one round.
    """

    clip_frames: int
    frames: int
    trainers: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Where the deployment stands.

    Attributes:
        stage: What it does.
        done, total: How much of it; total is 0 when unknown.
    """

    stage: Stage
    done: int = 0
    total: int = 0


def status_of(store: Path) -> Status | None:
    """The status of a daemon, or None while it has not written one."""
    try:
        return read_status(store)
    except StoreError:
        return None


def observe(expected: Expectation, fog: Status | None, edges: Sequence[Status | None]) -> Observation:
    """Where a deployment stands.

    Args:
        expected: What must happen.
        fog: The fog's status, if there is one.
        edges: Each edge's status, if there is one.

    Raises:
        DeploymentError: The gate did not let the starter detector through, so the edges would wait for ever.
    """
    if fog is None or fog.get("state") != "serving":
        return Observation(Stage.START)
    encoded = int(fog["encoded"]["packets"]) + int(fog["encoded"]["tombstones"])
    if encoded < expected.clip_frames:
        return Observation(Stage.FIRST_CLIP, encoded, expected.clip_frames)
    decision = fog["training"]["last_decision"]
    if decision is None:
        return Observation(Stage.STARTER, *_steps([fog]))
    if not decision["deploy"]:
        raise DeploymentError(
            f"the fog's starter detector was not deployed ({decision['reason']}), so no edge has one "
            "to adapt; try more frames or more starter_steps"
        )
    if encoded < expected.frames:
        return Observation(
            Stage.SECOND_CLIP, encoded - expected.clip_frames, expected.frames - expected.clip_frames
        )
    trainers = edges[: expected.trainers]
    if not all(edge is not None and edge["training"]["rounds"] >= 1 for edge in trainers):
        return Observation(Stage.ADAPT, *_steps(trainers))
    position = int(fog["log_position"])
    held = [int(peer.get("held_position", 0)) for peer in fog["peers"].values()]
    complete = sum(value >= position for value in held)
    if complete < len(edges):
        return Observation(Stage.SETTLE, complete, len(edges))
    return Observation(Stage.DONE, 1, 1)


def _steps(nodes: Sequence[Status | None]) -> tuple[int, int]:
    """Training steps done and planned, all nodes together; a round that has ended counts as done."""
    done = total = 0
    for node in nodes:
        training = {} if node is None else node["training"]
        steps = int(training.get("steps") or 0)
        if training.get("rounds"):
            steps = int((training["last_decision"] or {}).get("metrics", {}).get("steps") or 0)
            done += steps
        else:
            done += int(training.get("step") or 0)
        total += steps
    return done, total
