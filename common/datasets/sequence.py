"""Tracking sequences (OTB, UAV123, UAVDT, DTB70): ``img/`` and one ``groundtruth*.txt`` an object.

Line n holds ``x,y,w,h`` of frame n, separated by commas, semicolons, tabs or spaces, with a 1-based top-left
pixel. A NaN or a size of zero says that the object is absent in that frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from common.datasets.source import (
    Entry,
    Labels,
    ReadOptions,
    StillSource,
    images_in,
    make_box,
    natural_key,
    read_text,
)
from common.errors import BoxError, DatasetError
from common.frame import DEFAULT_CLASS, Box

__all__ = ["ground_truth_files", "matches", "open_sequence", "parse_track"]

_SEPARATOR = re.compile(r"[,;\s]+")


def ground_truth_files(path: Path) -> list[Path]:
    """The ``groundtruth*.txt`` of a sequence folder, in natural order: one an object."""
    return sorted(path.glob("groundtruth*.txt"), key=lambda file: natural_key(file.name))


def matches(path: Path) -> bool:
    """Whether ``path`` looks like a tracking sequence."""
    return (path / "img").is_dir() and bool(ground_truth_files(path))


def open_sequence(path: Path, options: ReadOptions) -> StillSource:
    """Read a tracking sequence.

    A frame is labelled when every ground truth has a line for it; later frames are unlabelled.

    Raises:
        DatasetError: No frames, no ground truth, an unreadable line, or more lines than frames.
        BoxError: A negative or infinite size.
    """
    images = images_in(path / "img")
    files = ground_truth_files(path)
    if not files:
        raise DatasetError(f"the sequence {path} has no groundtruth*.txt; add one or name the format folder")
    tracks = [parse_track(read_text(file), str(file)) for file in files]
    for file, track in zip(files, tracks, strict=True):
        if len(track) > len(images):
            raise DatasetError(
                f"{file} has {len(track)} lines but {path / 'img'} only {len(images)} images, "
                "so lines and frames cannot be paired; add the missing images"
            )
    known = min(len(track) for track in tracks)

    def labels(index: int) -> Labels:
        if index >= known:
            return lambda width, height: None
        boxes = tuple(box for track in tracks if (box := track[index]) is not None)
        return lambda width, height: boxes

    entries = [Entry(image, labels(index)) for index, image in enumerate(images)]
    return StillSource(path, "otb", options, entries, lambda: (DEFAULT_CLASS,))


def parse_track(text: str, name: str) -> Sequence[Box | None]:
    """The box of each line, None where the object is absent; ``name`` stands for the file in errors.

    Raises:
        DatasetError: A line does not hold four numbers.
        BoxError: A negative or infinite size or place.
    """
    track: list[Box | None] = []
    for number, line in enumerate(text.rstrip().splitlines(), start=1):
        where = f"{name} line {number}"
        try:
            x, y, w, h = (float(value) for value in _SEPARATOR.split(line.strip().strip(",;")))
        except ValueError as error:
            raise DatasetError(
                f"{where} holds {line.strip()[:100]!r}, not x,y,w,h; write NaN,NaN,NaN,NaN for an absent "
                "object"
            ) from error
        if w < 0 or h < 0:
            raise BoxError(
                f"{where}: box {line.strip()[:100]!r} has a negative size; correct it or write NaN"
            )
        if w == 0 or h == 0 or any(math.isnan(value) for value in (x, y, w, h)):
            track.append(None)
            continue
        track.append(make_box(x - 1, y - 1, x - 1 + w, y - 1 + h, DEFAULT_CLASS, where))
    return track
