"""What is deployed: edges, their frames, and how the fog encodes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from common.datasets import open_source
from common.errors import UsageError
from common.frame import Frame
from simulations.chaos.stand_in_trainer import ROUND_S
from simulations.loopback_scenario import load_loopback_scenario
from simulations.moving_crops import make_clip

__all__ = ["Case", "frames_of", "names_of"]


@dataclass(frozen=True)
class Case:
    """One deployment, all-to-all: every edge receives the packets of all others.

    Attributes:
        edges: Edge nodes, at least 2.
        frames: That each records.
        width: Pixels across a made frame.
        quality: libjpeg quality of made frames.
        coded_width: Pixels across a frame as it is encoded.
        profile: Of the encoder.
        targets: Background and object PSNR, dB.
        batch_frames: Frames that the encoder takes up together.
        wait_s: Seconds that a frame may wait for its batch to fill.
        strategy: Where training runs: "edge" (left out; packets are shared) or "fog" (detectors are).
        detector_bytes: What a stand-in for the fog's trainer writes; YOLOv8n has 6.3 MB at 16 bit.
        training_s: What it takes for that.
        source: Frames instead of made ones.
    """

    edges: int = 3
    frames: int = 60
    width: int = 960
    quality: int = 92
    coded_width: int = 320
    profile: str = "jpeg"
    targets: tuple[float, float] = (28.0, 33.0)
    batch_frames: int = 4
    wait_s: float = 0.2
    strategy: Literal["edge", "fog"] = "edge"
    detector_bytes: int = 6_300_000
    training_s: float = ROUND_S
    source: Path | None = None

    @property
    def shared(self) -> Literal["packet", "weights"]:
        """Kind of the records that the edges get."""
        return "packet" if self.strategy == "edge" else "weights"


def names_of(case: Case) -> list[str]:
    """Names of the edges."""
    return [f"edge{number}" for number in range(1, case.edges + 1)]


def frames_of(case: Case) -> dict[str, list[Frame]]:
    """What each edge records: its part of one clip, in order.

    Raises:
        UsageError: The source is too short.
        DatasetError: The source cannot be read.
    """
    count = case.edges * case.frames
    if case.source is None:
        scenario = load_loopback_scenario()
        clip = scenario.clips[1]
        found = list(make_clip(clip, count, case.width, case.quality, scenario.min_visible))
    else:
        found = list(islice(open_source(case.source), count))
        if len(found) < count:
            raise UsageError(
                f"{case.source} has {len(found)} frames, {count} are needed; use fewer --frames or --edges"
            )
    return {
        name: [_labelled(frame) for frame in found[index * case.frames : (index + 1) * case.frames]]
        for index, name in enumerate(names_of(case))
    }


def classes_of(frames: Sequence[Frame]) -> list[str]:
    """Class names of the boxes, in order of their first appearance."""
    return list(dict.fromkeys(box.name for frame in frames for box in frame.boxes)) or ["object"]


def _labelled(frame: Frame) -> Frame:
    # The deployment's sources are CSV lists, which know no unlabelled frame.
    return frame if frame.labelled else replace(frame, labelled=True)
