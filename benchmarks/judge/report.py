"""Measurements of many frames as one table: mean bytes, frames on target, and ratios to the peers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from judge.peers import Choice, Sweep, choose
from judge.protocol import Target

__all__ = ["Outcome", "outcomes_of_peer", "outcomes_of_profile", "summarise", "table", "write_json"]

BASELINES = ("peer-jpeg-roi", "peer-avif-roi")
"""What every way is compared with, measured in the same run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One frame brought to one target in one way.

    Attributes:
        way: A profile's name, or ``peer-CODEC-full``, ``peer-CODEC-roi``.
        frame: Path in the list.
        target: What was to be reached.
        bytes: Of the file, or files and the places of boxes; None when there is none.
        background_psnr_db: Outside the boxes; None when boxes cover the frame or there is no file.
        object_psnr_db: Inside each box.
        on_target: Whether the background and every box are on target.
        seconds: To encode; of a peer, the time of the whole sweep of qualities and crops.
        decode_seconds: To decode that file alone; None for peers.
        failure: Why a frame could not be encoded.
    """

    way: str
    frame: str
    target: Target
    bytes: int | None
    background_psnr_db: float | None
    object_psnr_db: tuple[float, ...]
    on_target: bool
    seconds: float
    decode_seconds: float | None = None
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"target": [self.target.background, self.target.object]}


def outcomes_of_profile(frame: str, profile: str, value: Mapping[str, Any], target: Target) -> Outcome:
    """The outcome of a profile's measurement (:func:`judge.measure.measure`)."""
    if "failure" in value:
        return Outcome(
            profile, frame, target, None, None, (), False, value["seconds"], None, value["failure"]
        )
    return Outcome(
        profile,
        frame,
        target,
        value["bytes"],
        value["background_psnr_db"],
        tuple(value["object_psnr_db"]),
        value["on_target"],
        value["seconds"],
        value["decode_seconds"],
    )


def outcomes_of_peer(
    frame: str, codec: str, value: Mapping[str, Any], targets: Sequence[Target]
) -> list[Outcome]:
    """The outcomes of a peer's sweep at each target, full and by region."""
    tried = Sweep.from_json(dict(value))
    return [
        _of_choice(f"peer-{codec}-{way}", frame, target, choice, tried.seconds)
        for target in targets
        for way, choice in zip(("full", "roi"), choose(tried, target), strict=True)
    ]


def _of_choice(way: str, frame: str, target: Target, choice: Choice | None, seconds: float) -> Outcome:
    if choice is None:
        return Outcome(way, frame, target, None, None, (), False, seconds)
    return Outcome(way, frame, target, choice.bytes, choice.background, choice.objects, True, seconds)


def summarise(outcomes: Sequence[Outcome], targets: Sequence[Target]) -> dict[str, Any]:
    """One row a way and target.

    A row's ``bytes_per_frame`` is the mean over its frames on target, as in the protocol; a ratio compares
    two ways over the frames that both bring on target. Look at ``on_target`` first: a way that misses its
    hard frames looks cheap.
    """
    by_row: dict[tuple[str, Target], dict[str, Outcome]] = {}
    for outcome in outcomes:
        by_row.setdefault((outcome.way, outcome.target), {})[outcome.frame] = outcome
    rows = []
    for (way, target), found in by_row.items():
        good = [o for o in found.values() if o.on_target and o.bytes is not None]
        objects = [db for o in good for db in o.object_psnr_db]
        row: dict[str, Any] = {
            "way": way,
            "target": [target.background, target.object],
            "frames": len(found),
            "on_target": len(good),
            "failures": sum(o.failure is not None for o in found.values()),
            "bytes_per_frame": _mean([o.bytes for o in good if o.bytes is not None]),
            "background_psnr_db": _mean(
                [o.background_psnr_db for o in good if o.background_psnr_db is not None]
            ),
            "object_psnr_db": _mean(objects),
            "seconds_per_frame": _mean([o.seconds for o in found.values()]),
            "decode_seconds_per_frame": _mean(
                [o.decode_seconds for o in found.values() if o.decode_seconds is not None]
            ),
        }
        for baseline in BASELINES:
            row[f"ratio_to_{baseline}"] = _ratio(found, by_row.get((baseline, target), {}))
        rows.append(row)
    order = {target: place for place, target in enumerate(targets)}
    ways = list(dict.fromkeys(row["way"] for row in rows))
    rows.sort(key=lambda row: (ways.index(row["way"]), order[Target(*row["target"])]))
    return {"rows": rows}


def table(report: Mapping[str, Any]) -> str:
    """The summary for a person: a line a way, a column a target."""
    targets = [tuple(target) for target in report["targets"]]
    cells = {(row["way"], tuple(row["target"])): row for row in report["rows"]}
    ways = list(dict.fromkeys(row["way"] for row in report["rows"]))
    lines = [
        f"{len(report['frames'])} frames; a cell: mean bytes over the frames on target, frames on target, "
        "ratio of bytes to ROI-JPEG and to ROI-AVIF, seconds to encode a frame",
        f"{'':16s}" + "".join(f"{f'({background:g}, {inside:g}) dB':^42s}" for background, inside in targets),
    ]
    lines += [f"{way:16s}" + "".join(_cell(cells.get((way, target))) for target in targets) for way in ways]
    return "\n".join(lines)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object."""
    path.write_text(json.dumps(value, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return " " * 42
    size = "-" if row["bytes_per_frame"] is None else f"{row['bytes_per_frame']:,.0f}"
    ratios = "".join(
        "    -  " if value is None else f"{value:7.3f}"
        for value in (row[f"ratio_to_{baseline}"] for baseline in BASELINES)
    )
    return (
        f"{size:>8s} {row['on_target']:>3d}/{row['frames']:<3d}{ratios} {row['seconds_per_frame']:7.2f} s  "
    )


def _ratio(mine: Mapping[str, Outcome], other: Mapping[str, Outcome]) -> float | None:
    pairs = [
        (a.bytes, b.bytes)
        for frame, a in mine.items()
        if (b := other.get(frame)) is not None
        and a.on_target
        and b.on_target
        and a.bytes is not None
        and b.bytes is not None
    ]
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs) if pairs else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
