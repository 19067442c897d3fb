"""What the communication model and the event simulation say of a run, from figures known before it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from common.config import parse_settings
from common.cost_model import (
    ControlTraffic,
    Deployment,
    DeviceLoad,
    Link,
    Rates,
    Strategy,
    plan,
)
from common.frame import Frame
from common.planning.audience import with_audience
from planner_proof.calibrate import Calibration
from planner_proof.case import Case
from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate

__all__ = ["Prediction", "planned", "simulated"]


@dataclass(frozen=True)
class Prediction:
    """Bytes and seconds of one run, foretold or measured.

    Attributes:
        up, down: Bytes of all links together, without TCP and IP headers.
        seconds: From the first upload to the last record at the last edge.
        binds: What takes longest, in words; empty where that was not asked.
    """

    up: float
    down: float
    seconds: float
    binds: str = ""

    @property
    def bytes(self) -> float:
        """Both directions together."""
        return self.up + self.down


def planned(
    case: Case,
    frames: Mapping[str, Sequence[Frame]],
    sizes: Mapping[str, Sequence[int]],
    known: Calibration,
    rate: float,
    goodput: float,
) -> Prediction:
    """The communication model's answer for the case's strategy; training at the edges is left out."""
    loads = [
        DeviceLoad(
            jpeg_bytes=sum(len(frame.image) for frame in own),
            receivers=0,
            frames=len(own),
            packet_bytes=sum(sizes[name]),
            name=name,
            link=Link(rate, rate, goodput=goodput),
        )
        for name, own in frames.items()
    ]
    wants = {name: [other for other in frames if other != name] for name in frames}
    question = Deployment(
        devices=with_audience(loads, wants),
        alpha=None,
        detector_bytes=case.detector_bytes,
        rates=Rates(
            encode_s_per_frame=known.encode_s,
            edge_training_s=0.0,
            fog_training_s=case.training_s,
            encode_batch_frames=case.batch_frames,
        ),
        upload_overhead_bytes=known.upload_overhead_bytes,
        packet_overhead_bytes=known.packet_overhead_bytes,
        control=ControlTraffic(
            answer_bytes=known.answer_bytes,
            session_up_bytes=known.session_up_bytes,
            session_down_bytes=known.session_down_bytes,
            idle_up_bytes_per_s=known.idle_up_bytes_per_s,
            idle_down_bytes_per_s=known.idle_down_bytes_per_s,
        ),
    )
    # Heartbeats last as long as the deployment, which the model has to be asked first.
    strategy = Strategy(case.strategy)
    seconds = plan(question).cost(strategy).seconds or 0.0
    cost = plan(replace(question, connected_s=seconds)).cost(strategy)
    return Prediction(cost.uplink_bytes, cost.downlink_bytes, cost.seconds or 0.0, cost.binds)


def simulated(
    path: Path,
    case: Case,
    frames: Mapping[str, Sequence[Frame]],
    sizes: Mapping[str, Sequence[int]],
    known: Calibration,
    rate: float,
    goodput: float,
) -> Prediction:
    """The event simulation of the same deployment; its scenario is written to ``path``, its frames beside it.

    Raises:
        ConfigError: The scenario is not understood.
    """
    replay = path.with_suffix(".csv")
    with replay.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["device", "jpeg_bytes", "packet_bytes", "encode_seconds"])
        for name, own in frames.items():
            rows.writerows(
                [name, len(frame.image), size, round(known.encode_s, 6)]
                for frame, size in zip(own, sizes[name], strict=True)
            )
    scenario: dict[str, Any] = {
        "name": f"validation at {rate:,.0f} B/s",
        "duration_s": 1.0,
        "sample_s": 1.0,
        "drain_s": 10_000.0,
        "groups": [
            {
                "name": "edges",
                "count": case.edges,
                "arrivals": {"interval_s": 0.0, "start": "together", "frames": case.frames},
                "link": {"uplink_bytes_per_s": rate, "downlink_bytes_per_s": rate, "goodput": goodput},
                "own_returned": False,
                "learns": case.strategy == "fog",
            }
        ],
        "fog": {"batch_frames": case.batch_frames, "wait_s": case.wait_s},
        "policy": {"strategy": case.strategy},
        "training": {
            "first_frames": case.edges * case.frames,
            "held_out": 0,
            "fog_s": case.training_s,
            "detector_bytes": case.detector_bytes,
        },
        "upload_overhead_bytes": round(known.upload_overhead_bytes),
        "packet_overhead_bytes": round(known.packet_overhead_bytes),
        "control": {
            "answer_bytes": known.answer_bytes,
            "session_up_bytes": known.session_up_bytes,
            "session_down_bytes": known.session_down_bytes,
            "idle_up_bytes_per_s": known.idle_up_bytes_per_s,
            "idle_down_bytes_per_s": known.idle_down_bytes_per_s,
        },
        "replay": {"path": replay.name},
    }
    text = yaml.safe_dump(scenario, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    outcome = simulate(parse_settings(text, EventScenario, name=path.name), path.parent)
    up = sum(device.bytes_up for device in outcome.devices)
    down = sum(device.bytes_down for device in outcome.devices)
    return Prediction(up, down, outcome.run.finished)
