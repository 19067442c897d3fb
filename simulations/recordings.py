"""What each edge of a deployment records: two clips, cut into one contiguous part an edge."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.datasets import FrameSource, open_source
from common.errors import DatasetError, UsageError
from common.frame import Frame
from common.images import image_header
from simulations.loopback_scenario import LoopbackScenario
from simulations.moving_crops import make_clip

__all__ = ["Recordings", "made_recordings", "read_recordings", "write_source"]


@dataclass(frozen=True, slots=True)
class Recordings:
    """Two clips, shared out among the edges.

    Attributes:
        clips: Frames of both clips, in the order in which they were recorded.
        names: Name of each clip.
        classes: Ordered class names of the deployment.
        edges: Edge nodes.
        per_edge: Frames of one clip on one edge.
        held_out: How many of them, at the end, are for validation.
    """

    clips: tuple[tuple[Frame, ...], tuple[Frame, ...]]
    names: tuple[str, str]
    classes: tuple[str, ...]
    edges: int
    per_edge: int
    held_out: int

    def part(self, clip: int, edge: int) -> tuple[Frame, ...]:
        """Frames of one clip that one edge records; neighbours in time stay together."""
        return self.clips[clip][edge * self.per_edge : (edge + 1) * self.per_edge]

    def validation(self, clip: int) -> tuple[Frame, ...]:
        """The held-out frames of a clip on all edges."""
        parts = (self.part(clip, edge) for edge in range(self.edges))
        return tuple(frame for part in parts for frame in part[self.per_edge - self.held_out :])

    def training_frames(self, clip: int) -> int:
        """Labelled frames of one clip, on all edges, that are not held out."""
        parts = (self.part(clip, edge) for edge in range(self.edges))
        return sum(f.labelled for part in parts for f in part[: self.per_edge - self.held_out])

    @property
    def all_frames(self) -> tuple[Frame, ...]:
        """Both clips."""
        return self.clips[0] + self.clips[1]

    @property
    def jpeg_bytes(self) -> int:
        """Bytes of all frames as recorded."""
        return sum(len(f.image) for f in self.all_frames)


def made_recordings(scenario: LoopbackScenario) -> Recordings:
    """The scenario's own clips: moving crops of photographs."""
    per_edge, held_out = _shares(scenario)
    clips = [
        tuple(
            make_clip(
                clip,
                per_edge * scenario.edges,
                scenario.width,
                scenario.jpeg_quality,
                scenario.min_visible,
            )
        )
        for clip in scenario.clips
    ]
    first, second = scenario.clips
    return Recordings(
        (clips[0], clips[1]),
        (first.name, second.name),
        scenario.classes,
        scenario.edges,
        per_edge,
        held_out,
    )


def read_recordings(sources: Sequence[str], scenario: LoopbackScenario) -> Recordings:
    """Clips from any source of labelled frames, picked evenly over its whole length.

    Args:
        sources: One source, whose halves become the two clips, or two, one a clip.
        scenario: Edges, frames and validation share.

    Raises:
        UsageError: Not one or two sources.
        DatasetError: A source cannot be read, or is too short, or has no labelled frame in a clip.
    """
    if not 1 <= len(sources) <= 2:
        raise UsageError(f"--data takes one source or two, not {len(sources)}; the two become the two clips")
    per_edge, held_out = _shares(scenario)
    count = per_edge * scenario.edges
    opened = [open_source(path) for path in sources]
    if len(opened) == 1:
        frames = _pick(opened[0], 2 * count)
        clips = frames[:count], frames[count:]
        names = ("first half", "second half")
    else:
        clips = _pick(opened[0], count), _pick(opened[1], count)
        names = ("first source", "second source")
    classes = tuple(dict.fromkeys(name for source in opened for name in source.class_names))
    found = Recordings(clips, names, classes, scenario.edges, per_edge, held_out)
    for name, index in zip(names, (0, 1), strict=True):
        if not any(frame.boxes for frame in found.validation(index)):
            raise DatasetError(
                f"the {name} of {' and '.join(map(str, sources))} has no box on its validation frames, "
                "so nothing could be measured; use a source with boxes or more --frames"
            )
    return found


def _shares(scenario: LoopbackScenario) -> tuple[int, int]:
    """(frames of one clip on one edge, how many of them are held out)."""
    per_edge = scenario.frames // (2 * scenario.edges)
    held_out = min(per_edge - 1, max(1, round(scenario.validation_share * per_edge)))
    return per_edge, held_out


def _pick(source: FrameSource, count: int) -> tuple[Frame, ...]:
    """``count`` frames spread evenly over a source.

    Raises:
        DatasetError: The source is shorter.
    """
    # A video only estimates its length, so the frames are counted by reading them.
    total = source.length if source.format != "video" else sum(1 for _ in source)
    if total is None:
        total = sum(1 for _ in source)
    if total < count:
        raise DatasetError(
            f"{source.path} has {total} frames, fewer than the {count} asked for; use a smaller --frames"
        )
    wanted = {index * total // count for index in range(count)}
    return tuple(frame for index, frame in enumerate(source) if index in wanted)


def write_source(folder: Path, frames: Sequence[Frame]) -> Path:
    """Write frames as a CSV source with their original bytes; returns the CSV's path.

    Raises:
        DatasetError: A frame is unlabelled, which a CSV cannot say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "frames.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["frame", "x0", "y0", "w", "h", "name"])
        for index, frame in enumerate(frames):
            if not frame.labelled:
                raise DatasetError(
                    f"frame {frame.name!r} is unlabelled, and the deployment trains on labelled frames only; "
                    "use a source with boxes"
                )
            name = f"{index:06d}_{frame.name}{_SUFFIXES[image_header(frame.image).format]}"
            (folder / name).write_bytes(frame.image)
            for box in frame.boxes:
                size = [round(v, 4) for v in (box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0)]
                writer.writerow([name, *size, box.name])
            if not frame.boxes:
                writer.writerow([name, "", "", "", "", ""])
    return path


_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp"}
