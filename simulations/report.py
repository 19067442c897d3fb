"""What a loopback deployment found, as one table or one JSON object."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CAVEAT", "DetectorScore", "LoopbackResult", "NodeFigures", "TrainingOutcome", "print_table"]

CAVEAT = (
    "Crops of a few photographs show that the pipeline learns, not how well: training and validation frames "
    "are close neighbours"
)
"""Said after every run on made clips."""


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One daemon at the end of the run.

    Attributes:
        name: "fog", "edge 1", ...
        pid: Its process.
        port: Port bound by the fog; None for an edge, which listens nowhere.
        position: Position of the fog's log, or up to which the edge holds it.
        records: Records in the fog's log, or in the edge's store.
        verified: Of an edge: records whose content hash equals that of the fog's log; None for the fog.
    """

    name: str
    pid: int
    port: int | None
    position: int
    records: int
    verified: int | None = None


@dataclass(frozen=True, slots=True)
class DetectorScore:
    """One detector on the validation frames of one clip.

    Attributes:
        detector: "starter", "edge 1", ...
        clip: Name of the clip.
        map50: Mean average precision at an overlap of 0.5, 0..1.
        map50_95: Mean over overlaps 0.5 to 0.95, 0..1.
    """

    detector: str
    clip: str
    map50: float
    map50_95: float


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """How a round of training ended.

    Attributes:
        node: Who trained.
        deployed: Whether the gate let the detector into use.
        reason: The gate's sentence.
        seconds: Training time.
        steps: Training steps.
    """

    node: str
    deployed: bool
    reason: str
    seconds: float
    steps: int


@dataclass(frozen=True, slots=True)
class LoopbackResult:
    """Everything measured in one run.

    Attributes:
        nodes: The daemons, the fog first.
        clips: Names of the two clips.
        frames: Frames recorded.
        packets: Frames encoded.
        tombstones: Frames that could not be encoded.
        jpeg_bytes: Bytes of all frames as recorded.
        packet_bytes: Bytes of all packets.
        uplink_bytes: Measured bytes from the edges to the fog.
        downlink_bytes: Measured bytes from the fog to the edges.
        downlink_packet_bytes: Packet payloads among the downlink.
        downlink_weights_bytes: Detectors among the downlink.
        background_psnr_db: Mean over frames, stored packets against sources; None without packets.
        object_psnr_db: Mean over objects; None without objects.
        encode_s_per_frame: Seconds of encoding a frame.
        decode_frames_per_s: Frames decoded a second at training resolution on one core.
        scores: mAP of the starter and of every edge's detector in use, on both clips.
        trainings: Every round.
        plan: The planner's answer as JSON, from what was measured.
        sentence: The planner's choice and why.
        plan_from_fog: The fog daemon's own last plan in words; None when it had none.
        seconds: Wall seconds by phase and in all ("total").
        made_clips: Whether the clips were made from photographs.
        out: The work folder.
        pictures: Folder of the side-by-side pictures.
        plot: Plot of training loss and mAP.
    """

    nodes: tuple[NodeFigures, ...]
    clips: tuple[str, str]
    frames: int
    packets: int
    tombstones: int
    jpeg_bytes: int
    packet_bytes: int
    uplink_bytes: int
    downlink_bytes: int
    downlink_packet_bytes: int
    downlink_weights_bytes: int
    background_psnr_db: float | None
    object_psnr_db: float | None
    encode_s_per_frame: float | None
    decode_frames_per_s: float | None
    scores: tuple[DetectorScore, ...]
    trainings: tuple[TrainingOutcome, ...]
    plan: dict[str, Any]
    sentence: str
    plan_from_fog: str | None
    seconds: dict[str, float]
    made_clips: bool
    out: str
    pictures: str
    plot: str

    @property
    def verified(self) -> bool:
        """Whether every edge holds exactly what the log says, by content hash."""
        return all(n.verified == n.records == self.nodes[0].records for n in self.nodes[1:])

    @property
    def learned(self) -> bool:
        """Whether any detector found anything on any clip."""
        return any(score.map50 > 0 for score in self.scores)

    @property
    def problem(self) -> str | None:
        """Why the run counts as failed, in one sentence; None when it succeeded."""
        if not self.learned:
            return (
                "mAP stayed 0 on both clips, so nothing was learned; look at the logs and the plot in "
                f"{self.out}, and try more frames or steps"
            )
        if not self.verified:
            return f"an edge's store differs from the fog's log; look at the logs in {self.out}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values for one JSON object."""
        value = asdict(self)
        value["verified"], value["learned"] = self.verified, self.learned
        value["caveat"] = CAVEAT if self.made_clips else None
        return value

    def rows(self) -> list[tuple[str, str, str]]:
        """(section, what, figure) of the table, in order."""
        rows: list[tuple[str, str, str]] = []
        for node in self.nodes:
            port = f", port {node.port}" if node.port is not None else ""
            held = "in its log" if node.verified is None else "held"
            text = f"pid {node.pid}{port}, log position {node.position}, {node.records} records {held}"
            if node.verified is not None:
                text += f", {node.verified} equal to the fog's by hash"
            rows.append(("daemons", node.name, text))
        share = self.packet_bytes / self.jpeg_bytes if self.jpeg_bytes else 0.0
        rest = self.downlink_bytes - self.downlink_packet_bytes - self.downlink_weights_bytes
        rows += [
            ("bytes", "frames as JPEG", f"{_bytes(self.jpeg_bytes)} ({self.frames} frames)"),
            ("bytes", "frames as packets", f"{_bytes(self.packet_bytes)} (alpha {share:.3f})"),
            ("bytes", "uplink, all edges", _against(self.uplink_bytes, self.jpeg_bytes)),
            ("bytes", "downlink, all edges", _against(self.downlink_bytes, self.jpeg_bytes)),
            ("bytes", "  of it packets", _against(self.downlink_packet_bytes, self.jpeg_bytes)),
            ("bytes", "  of it detectors", _against(self.downlink_weights_bytes, self.jpeg_bytes)),
            ("bytes", "  of it the rest", f"{_bytes(rest)} (validation originals, heartbeats, headers)"),
            ("pictures", "background PSNR, mean", _figure(self.background_psnr_db, "dB")),
            ("pictures", "object PSNR, mean", _figure(self.object_psnr_db, "dB")),
            ("pictures", "frames encoded", f"{self.packets} of {self.frames}"),
            ("speed", "encoding a frame", _figure(self.encode_s_per_frame, "s")),
            ("speed", "decoding for training", _figure(self.decode_frames_per_s, "frames/s")),
        ]
        for detector in dict.fromkeys(score.detector for score in self.scores):
            mine = [score for score in self.scores if score.detector == detector]
            text = "; ".join(f"{s.clip}: mAP50 {s.map50:.3f}, mAP50-95 {s.map50_95:.3f}" for s in mine)
            rows.append(("detectors", detector, text))
        for training in self.trainings:
            verb = "deployed" if training.deployed else "not deployed"
            text = f"{training.steps} steps in {training.seconds:.0f} s; {verb}: {training.reason}"
            rows.append(("training", training.node, text))
        rows.append(("planner", "choice", f"{self.sentence}."))
        if self.plan_from_fog:
            rows.append(("planner", "the fog's own plan", f"{self.plan_from_fog}."))
        phases = ", ".join(f"{name} {value:.0f} s" for name, value in self.seconds.items())
        rows.append(("time", "wall clock", phases))
        return rows


def _bytes(value: float) -> str:
    return f"{value / 1e6:.3f} MB"


def _against(value: int, jpeg: int) -> str:
    times = f" = {value / jpeg:.2f} times the JPEG bytes" if jpeg else ""
    return _bytes(value) + times


def _figure(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.2f} {unit}"


def print_table(result: LoopbackResult) -> None:
    """Print the table on stdout: drawn on a terminal, plain lines otherwise."""
    rows = result.rows()
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table("", "", "", title="Residual-INR on this machine", show_header=False)
        previous = rows[0][0]
        for section, what, figure in rows:
            if section != previous:
                table.add_section()
            table.add_row(
                section if section != previous or not table.rows else "", escape(what), escape(figure)
            )
            previous = section
        Console().print(table)
    else:
        for section, what, figure in rows:
            sys.stdout.write(f"{section:<10}{what:<24}{figure}\n")
    notes = [
        "Every edge holds the fog's log, verified by content hash." if result.verified else "",
        f"{CAVEAT}." if result.made_clips else "",
        f"Pictures: {result.pictures}; loss and mAP: {result.plot}",
    ]
    sys.stdout.write("\n".join(note for note in notes if note) + "\n")
