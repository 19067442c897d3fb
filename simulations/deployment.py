"""Files of a deployment on this machine: keys, allow list, sources, and a configuration for every node."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.config import parse_settings
from common.learning.settings import TrainingSettings
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from edge_node.settings import EdgeSettings
from fog_node.encoders.encoder_settings import EncoderSettings, LadderSettings
from fog_node.settings import FogSettings
from simulations.loopback_scenario import LoopbackScenario
from simulations.recordings import Recordings, write_source

__all__ = [
    "DeploymentFiles",
    "edge_configuration",
    "fog_configuration",
    "prepare",
    "training_settings",
    "write_edges",
]

LOCAL = "tcp://127.0.0.1"
"""Everything stays on this machine."""

BACKGROUND_DEPTH, OBJECT_DEPTH = 5, 3
"""Sine layers of the networks, as in the encoder's own table."""


@dataclass(frozen=True, slots=True)
class DeploymentFiles:
    """Where the nodes' files are.

    Attributes:
        folder: Folder of all nodes.
        fog: Folder of the fog; its configuration is fog.yaml in there.
        edges: Folder of each edge; its configuration is edge.yaml in there.
        fog_key: Public key of the fog.
        edge_keys: Public key of each edge.
    """

    folder: Path
    fog: Path
    edges: tuple[Path, ...]
    fog_key: str
    edge_keys: tuple[str, ...]

    @property
    def fog_store(self) -> Path:
        """The fog's store."""
        return self.fog / "store"

    def edge_store(self, edge: int) -> Path:
        """An edge's store."""
        return self.edges[edge] / "store"

    def edge_settings(self, edge: int) -> EdgeSettings:
        """What an edge was told."""
        path = self.edges[edge] / "edge.yaml"
        return parse_settings(path.read_text(encoding="utf-8"), EdgeSettings, name=str(path))


def prepare(folder: Path, scenario: LoopbackScenario, recordings: Recordings) -> DeploymentFiles:
    """Draw keys, allow every edge to upload and to receive everything, write sources and the fog's YAML.

    The edges' YAML is written by :func:`write_edges` once the fog's port is known.
    """
    fog = folder / "fog"
    fog_keys = keys.generate(fog / "keys")
    allow = AllowList(fog / "allow.yaml")
    folders, edge_keys = [], []
    for edge in range(scenario.edges):
        place = folder / f"edge{edge + 1}"
        pair = keys.generate(place / "keys")
        allow.add(Device(pair.public, may_upload=True, may_subscribe=("*",), name=f"edge {edge + 1}"))
        for clip in (0, 1):
            write_source(place / f"clip{clip + 1}", recordings.part(clip, edge))
        folders.append(place)
        edge_keys.append(pair.public)
    _write(fog / "fog.yaml", fog_configuration(scenario, recordings), FogSettings)
    return DeploymentFiles(folder, fog, tuple(folders), fog_keys.public, tuple(edge_keys))


def write_edges(
    files: DeploymentFiles, scenario: LoopbackScenario, recordings: Recordings, port: int
) -> None:
    """Write every edge's configuration for a fog on this port."""
    for edge, place in enumerate(files.edges):
        value = edge_configuration(scenario, recordings, edge, f"{LOCAL}:{port}", files.fog_key)
        _write(place / "edge.yaml", value, EdgeSettings)


def training_settings(
    scenario: LoopbackScenario, classes: tuple[str, ...], steps: int, threads: int, seed: int = 0
) -> TrainingSettings:
    """How a node trains for ``steps`` steps; ``seed`` draws the order of the frames."""
    return TrainingSettings.model_validate(
        {
            "classes": classes,
            "imgsz": scenario.imgsz,
            "batch": scenario.batch,
            "epochs": 10_000,
            "max_steps": steps,
            "learning_rate": scenario.learning_rate,
            "threads": threads,
            "seed": seed,
            "gate": {"min_boxes": scenario.gate_min_boxes},
        }
    )


def fog_configuration(scenario: LoopbackScenario, recordings: Recordings) -> dict[str, Any]:
    """The fog's YAML: it encodes, and trains one starter detector on the first clip."""
    cores = _cores()
    detector = training_settings(scenario, recordings.classes, scenario.starter_steps, cores)
    frames = len(recordings.all_frames)
    return {
        "address": f"{LOCAL}:0",
        "encoder": {
            "profile": scenario.profile,
            "width": scenario.coded_width,
            "background_psnr": scenario.background_psnr,
            "object_psnr": scenario.object_psnr,
            "time_budget_s": scenario.encode_seconds / frames,
            "background": _ladder(EncoderSettings().background, scenario.background_widths, BACKGROUND_DEPTH),
            "object": {
                **_ladder(EncoderSettings().object, scenario.object_widths, OBJECT_DEPTH),
                "weight_bits": scenario.object_bits,
            },
        },
        "workers": {"workers": 1, "threads": cores},
        "training": {
            "strategy": "edge",
            "starter_frames": recordings.training_frames(0),
            "detector": detector.model_dump(mode="json"),
        },
        "planner": {"interval_s": 1.0, "min_frames": min(20, frames)},
        # Several nodes on one machine: each tells its port in its status.
        "monitoring": {"port": 0},
        "status_s": 0.5,
    }


def edge_configuration(
    scenario: LoopbackScenario, recordings: Recordings, edge: int, address: str, fog_key: str
) -> dict[str, Any]:
    """An edge's YAML: both clips, the second only once the starter detector is in use."""
    trains = edge < scenario.trainers
    threads = max(1, _cores() // scenario.trainers)
    detector = training_settings(scenario, recordings.classes, scenario.adapt_steps, threads, seed=edge + 1)
    return {
        "fog": {"address": address, "public_key": fog_key},
        "sources": [
            {"path": "clip1/frames.csv"},
            {"path": "clip2/frames.csv", "wait_for_detector": True},
        ],
        # Every edge records as many frames of each clip as a block is long: its end is held out.
        "validation": {"block": recordings.per_edge, "held_out": recordings.held_out},
        "training": {
            "mode": "always" if trains else "never",
            # The round begins with everything that both clips hold: the old one is replayed.
            "min_new_frames": recordings.training_frames(0) + recordings.training_frames(1),
            "max_rounds": 1,
            "wait_for_detector": True,
            "detector": detector.model_dump(mode="json"),
        },
        "report_s": 1.0,
        # Several nodes on one machine: each tells its port in its status.
        "monitoring": {"port": 0},
        "status_s": 0.5,
    }


def _ladder(default: LadderSettings, widths: Sequence[int], depth: int) -> dict[str, Any]:
    """The encoder's ladder with other sizes."""
    sizes = [{"width": width, "depth": depth} for width in widths]
    return {**default.model_dump(mode="json"), "sizes": sizes}


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(path: Path, value: Mapping[str, Any], model: type[FogSettings] | type[EdgeSettings]) -> None:
    """Write YAML that the node will accept: a mistake here is found now, not in a log file."""
    text = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)
    parse_settings(text, model, name=path.name)
    path.write_text(text, encoding="utf-8")
