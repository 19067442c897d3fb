"""What is known before the links are limited: sizes of packets, what messages add, the encoder's pace.

Three edges on links without a limit tell the additions apart: one uploads and hears nobody, one hears it and
records nothing, one does neither.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DeploymentError
from common.frame import Frame, FrameIdentity
from planner_proof.case import Case
from planner_proof.daemons import REPORT_S, Edge, Seen, deploy
from planner_proof.links import Carried, ProxyLinks
from simulations.processes import Nodes

__all__ = ["Calibration", "calibrate", "packet_sizes"]

FRAMES = 100
"""Frames that the calibrating edge uploads, at most."""

KEY = "k" * 40
EPOCH = 2**63
"""Stand for a device in the packets that are made beforehand: as long as any."""


@dataclass(frozen=True)
class Calibration:
    """Figures of the messages and of the encoder.

    Attributes:
        upload_overhead_bytes: Beside the image, a frame.
        answer_bytes: Of the fog to a frame.
        packet_overhead_bytes: Beside the packet, a record.
        session_up_bytes, session_down_bytes: Handshake and greeting of a connection.
        idle_up_bytes_per_s, idle_down_bytes_per_s: Heartbeats and reports of a connection else silent.
        encode_s: Seconds between two frames that leave a busy encoder.
        encoding_s: Seconds of the encoder itself, a frame.
    """

    upload_overhead_bytes: float
    answer_bytes: float
    packet_overhead_bytes: float
    session_up_bytes: float
    session_down_bytes: float
    idle_up_bytes_per_s: float
    idle_down_bytes_per_s: float
    encode_s: float
    encoding_s: float

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def packet_sizes(case: Case, frames: Mapping[str, Sequence[Frame]]) -> dict[str, list[int]]:
    """Bytes of each frame's packet, by edge: the product's encoder, as a fog runs it, on the same frames.

    Raises:
        DeploymentError: A frame cannot be encoded.
    """
    # Imports torch, which only this stage needs.
    from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
    from fog_node.encoders.encoder_settings import EncoderSettings

    background, objects = case.targets
    settings = EncoderSettings(
        profile=case.profile,
        width=case.coded_width,
        background_psnr=background,
        object_psnr=objects,
        batch_frames=case.batch_frames,
    )
    encoder = FrameEncoder(settings, device="cpu", threads=1)
    sizes: dict[str, list[int]] = {}
    for name, own in frames.items():
        sizes[name] = []
        for number, frame in enumerate(own):
            result = encoder.encode([replace(frame, identity=FrameIdentity(KEY, EPOCH, number))])[0]
            if not isinstance(result, EncodedFrame):
                raise DeploymentError(f"frame {frame.name!r} cannot be encoded: {result.reason}")
            sizes[name].append(len(result.packet))
    return sizes


def calibrate(
    folder: Path, case: Case, frames: Sequence[Frame], sizes: Sequence[int], idle_s: float = 2 * REPORT_S
) -> Calibration:
    """Measure with real daemons on links without a limit.

    Args:
        folder: Empty or new.
        case: How the fog encodes.
        frames: Of one edge; the first of them are used.
        sizes: Bytes of their packets.
        idle_s: Seconds of silence that are measured; whole reports fall into it.
    """
    count = min(FRAMES, len(frames))
    frames, sizes = frames[:count], sizes[:count]
    edges = [Edge("uploader", frames), Edge("hearer", (), ["uploader"]), Edge("idler")]
    links = ProxyLinks([edge.name for edge in edges], None)
    # One frame a commit: each is answered alone, as it is where links are slow.
    alone: dict[str, Any] = {"limits": {"commit_frames": 1}}
    try:
        with Nodes() as nodes:
            running = deploy(folder, case, links, edges, nodes, **alone)
            seen = running.delivered()
            begin = links.carried()["idler"], time.monotonic()
            time.sleep(idle_s)
            end = links.carried()["idler"], time.monotonic()
            # A connection's age is its edge's, but for the start of Python, in which it says nothing.
            age = {name: float(status["uptime_s"]) for name, status in seen.edges.items()}
    finally:
        links.close()
    return _figures(seen, begin, end, age, frames, sizes, case)


def _figures(
    seen: Seen,
    begin: tuple[Carried, float],
    end: tuple[Carried, float],
    age: Mapping[str, float],
    frames: Sequence[Frame],
    sizes: Sequence[int],
    case: Case,
) -> Calibration:
    """What the three links tell."""
    span = end[1] - begin[1]
    idle_up, idle_down = (end[0].up - begin[0].up) / span, (end[0].down - begin[0].down) / span
    carried, count = seen.carried, len(frames)
    session_up = max(0.0, carried["idler"].up - idle_up * age["idler"])
    session_down = max(0.0, carried["idler"].down - idle_down * age["idler"])
    # The uploads take no time to speak of on a link without a limit: the rest of its life is silent.
    uploads = carried["uploader"].up - session_up - idle_up * age["uploader"]
    answers = carried["uploader"].down - session_down - idle_down * age["uploader"]
    records = carried["hearer"].down - session_down - idle_down * age["hearer"]
    growth = [point for point in seen.encoded if point[1] > 0]
    if len(growth) < 2:
        raise DeploymentError(
            f"{count} frames are too few to see how quickly they are encoded; use more than "
            f"{case.batch_frames}"
        )
    return Calibration(
        upload_overhead_bytes=(uploads - sum(len(frame.image) for frame in frames)) / count,
        answer_bytes=answers / count,
        packet_overhead_bytes=(records - sum(sizes)) / count,
        session_up_bytes=session_up,
        session_down_bytes=session_down,
        idle_up_bytes_per_s=idle_up,
        idle_down_bytes_per_s=idle_down,
        encode_s=_slope(growth),
        encoding_s=float(seen.fog["encoded"]["encode_seconds_per_frame"]),
    )


def _slope(growth: Sequence[tuple[float, int]]) -> float:
    """Seconds a record by least squares: the status, seen ten times a second, tells of each one late."""
    times, records = zip(*growth, strict=True)
    return float(np.polyfit(records, times, 1)[0])
