"""From what a finished deployment left on disk to its result, pictures and plot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from common.bitstream import Packet, decode_packet
from common.cost_model import Deployment, DeviceLoad, Plan, plan
from common.errors import DeploymentError
from common.frame import content_digest
from common.learning.weights import read_weights
from common.learning.yolo_environment import prepare_yolo
from common.store import open_edge_store, open_fog_store
from common.store.records import Record, RecordKind
from simulations.deployment import DeploymentFiles, training_settings
from simulations.evaluation import (
    decoding_speed,
    log_records,
    measure_quality,
    picture,
    score_detectors,
    verified_records,
)
from simulations.loopback_scenario import LoopbackScenario
from simulations.pictures import Curve, plot_learning, write_pictures
from simulations.recordings import Recordings
from simulations.report import LoopbackResult, NodeFigures, TrainingOutcome
from simulations.watch import Status

__all__ = ["Run", "collect", "measured_plan"]

PICTURES_A_CLIP = 4
"""Side-by-side pictures of each clip."""


@dataclass(frozen=True, slots=True)
class Run:
    """A deployment that has been stopped.

    Attributes:
        out: Work folder.
        files: Where the nodes' files are.
        scenario: What was asked for.
        recordings: What the edges recorded.
        made_clips: Whether the clips were made from photographs.
        fog: The fog's last status.
        edges: Each edge's last status.
        seconds: Wall seconds by stage.
    """

    out: Path
    files: DeploymentFiles
    scenario: LoopbackScenario
    recordings: Recordings
    made_clips: bool
    fog: Status
    edges: tuple[Status, ...]
    seconds: Mapping[str, float]


def collect(run: Run) -> LoopbackResult:
    """Verify, measure and draw.

    Raises:
        DeploymentError: A detector or a frame is missing.
        StoreError: A store cannot be read.
    """
    # One thread measures decoding as one core does it, and is quick enough for the rest.
    prepare_yolo(threads=1)
    files, recordings = run.files, run.recordings
    with open_fog_store(files.fog_store) as store:
        log = log_records(store)
        with store.training_view() as view:
            stored = [data for _, data in view.packets_after(0, len(log) + 1, 1 << 62)]
    packets = [decode_packet(data) for data in stored]
    keyframes = dict(zip(map(content_digest, stored), packets, strict=True))
    held = []
    for edge, key in enumerate(files.edge_keys):
        with open_edge_store(files.edge_store(edge), key) as edge_store:
            held.append((edge_store.position, *verified_records(log, edge_store)))
    settings = training_settings(run.scenario, recordings.classes, run.scenario.adapt_steps, 1)
    sources = {frame.digest: frame for frame in recordings.all_frames}
    quality = measure_quality(packets, sources, keyframes)
    scores = score_detectors(_detectors(run), recordings, settings)
    curves, trainings = _trainings(run)
    pictures, plot = run.out / "pictures", run.out / "learning.png"
    chosen = _chosen(packets, recordings)
    write_pictures(pictures, [picture(packet, sources, keyframes) for packet in chosen])
    plot_learning(curves, scores, plot)
    answer = measured_plan(log, files.edge_keys)
    kinds = Counter(record.kind for record in log)
    encoding = [
        float(r.meta["encode_seconds"])
        for r in log
        if r.kind is RecordKind.PACKET and r.meta.get("encode_seconds") is not None
    ]
    return LoopbackResult(
        nodes=_nodes(run, len(log), held),
        clips=recordings.names,
        frames=len(recordings.all_frames),
        packets=kinds[RecordKind.PACKET],
        tombstones=kinds[RecordKind.TOMBSTONE],
        jpeg_bytes=recordings.jpeg_bytes,
        packet_bytes=sum(r.size for r in log if r.kind is RecordKind.PACKET),
        uplink_bytes=_traffic(run.fog, "bytes_up"),
        downlink_bytes=_traffic(run.fog, "bytes_down"),
        downlink_packet_bytes=_traffic(run.fog, "bytes_packets_down"),
        downlink_weights_bytes=len(files.edges) * sum(r.size for r in log if r.kind is RecordKind.WEIGHTS),
        background_psnr_db=quality.background_db,
        object_psnr_db=quality.object_db,
        encode_s_per_frame=fmean(encoding) if encoding else None,
        decode_frames_per_s=decoding_speed(packets, settings, keyframes=keyframes),
        scores=scores,
        trainings=trainings,
        plan=answer.to_json(),
        sentence=answer.sentence,
        plan_from_fog=_other_sentence(run.fog, answer),
        seconds={name: round(value, 2) for name, value in run.seconds.items()},
        made_clips=run.made_clips,
        out=str(run.out),
        pictures=str(pictures),
        plot=str(plot),
    )


def measured_plan(log: Sequence[Record], edge_keys: Sequence[str]) -> Plan:
    """The planner's answer from the bytes of the log: every edge wants every other edge's frames.

    It decides by bytes: the links of one machine are as fast as its memory, so seconds would say nothing
    about a radio.
    """
    loads = []
    for key in edge_keys:
        mine = [r for r in log if r.device == key and r.kind is RecordKind.PACKET]
        loads.append(
            DeviceLoad(
                jpeg_bytes=sum(int(r.meta["jpeg_bytes"]) for r in mine),
                receivers=len(edge_keys) - 1,
                frames=len(mine),
                packet_bytes=sum(r.size for r in mine),
            )
        )
    weights = [r.size for r in log if r.kind is RecordKind.WEIGHTS]
    return plan(
        Deployment(tuple(loads), None, detector_bytes=weights[-1] if weights else 0, decide_by="bytes")
    )


def _traffic(fog: Status, counter: str) -> int:
    """One of the fog's counters, summed over all edges."""
    return sum(int(peer.get(counter, 0)) for peer in fog["peers"].values())


def _other_sentence(fog: Status, answer: Plan) -> str | None:
    """The fog daemon's own plan in words, when it chose otherwise from what it had measured by then."""
    plan_status = fog.get("plan") or {}
    if plan_status.get("choice") in (None, answer.choice.value):
        return None
    return str(plan_status["sentence"])


def _nodes(run: Run, records: int, held: Sequence[tuple[int, int, int]]) -> tuple[NodeFigures, ...]:
    fog = NodeFigures("fog", int(run.fog["pid"]), int(run.fog["port"]), int(run.fog["log_position"]), records)
    edges = [
        NodeFigures(f"edge {edge + 1}", int(status["pid"]), None, *held[edge])
        for edge, status in enumerate(run.edges)
    ]
    return (fog, *edges)


def _detectors(run: Run) -> list[tuple[str, Any]]:
    """The starter and the detector in use on every edge that trained, by name.

    Raises:
        DeploymentError: One is missing.
    """
    places = [("starter", run.files.fog_store)]
    places += [(f"edge {edge + 1}", run.files.edge_store(edge)) for edge in range(run.scenario.trainers)]
    found = []
    for name, store in places:
        path = store / "detector" / "weights.safetensors"
        if not path.exists():
            raise DeploymentError(f"the detector of {name!r} is missing: there is no {path}")
        found.append((name, read_weights(path)))
    return found


def _trainings(run: Run) -> tuple[list[Curve], tuple[TrainingOutcome, ...]]:
    """Loss curves and outcomes of every round, from the nodes' own histories."""
    places = [("fog", run.files.fog_store)]
    places += [(f"edge {edge + 1}", run.files.edge_store(edge)) for edge in range(run.scenario.trainers)]
    curves, outcomes = [], []
    for name, store in places:
        history = json.loads((store / "detector" / "metrics.json").read_text(encoding="utf-8"))
        for decision in history["decisions"]:
            if decision["source"] != "trained":
                continue
            metrics = decision["metrics"]
            outcomes.append(
                TrainingOutcome(
                    name,
                    bool(decision["deploy"]),
                    str(decision["reason"]).removeprefix("not deployed: ").removeprefix("deployed: "),
                    float(metrics.get("seconds") or 0.0),
                    int(metrics.get("steps") or 0),
                )
            )
            if metrics.get("curve"):
                curves.append(_curve(name, Path(metrics["curve"])))
    return curves, tuple(outcomes)


def _curve(name: str, path: Path) -> Curve:
    rows = json.loads(path.read_text(encoding="utf-8"))["steps"]
    points = [
        (step, sum(row)) for step, row in enumerate(rows, start=1) if all(value is not None for value in row)
    ]
    return Curve(name, tuple(step for step, _ in points), tuple(loss for _, loss in points))


def _chosen(packets: Sequence[Packet], recordings: Recordings) -> list[Packet]:
    """A few packets of each clip, spread over it."""
    by_source = {packet.source_digest: packet for packet in packets}
    chosen = []
    for clip in recordings.clips:
        found = [by_source[frame.digest] for frame in clip if frame.digest in by_source]
        count = min(PICTURES_A_CLIP, len(found))
        chosen += [found[index * len(found) // count] for index in range(count)]
    return chosen
