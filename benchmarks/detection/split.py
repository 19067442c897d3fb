"""Which frames a detector is trained on before, fine-tuned on, and judged by: a rule that nothing tunes.

Sequences are sorted by their paths. The first, third, .. are for the detector before fine-tuning, the second,
fourth, .. are new to it. Of each sequence for training before, frames are taken evenly. The time of a new
sequence is cut into four stretches; of each stretch the first 60 % are for fine-tuning, the last 30 % for
validation, and the tenth between them for nothing, since neighbours are near-duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.datasets import find_format, open_source
from common.errors import DatasetError, UsageError
from common.frame import Frame

__all__ = ["STRETCHES", "Counts", "Split", "even", "find_sequences", "split_frames", "stretch_places"]

STRETCHES = 4
"""Stretches of time of a new sequence."""
TRAINED, HELD_OUT = 0.6, 0.3
"""Shares of a stretch, from its beginning and from its end."""
DEPTH = 3
"""How many folders below the one that is named a sequence may lie."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Frames a sequence: ``before`` fine-tuning, for fine-tuning (``new``) and for ``validation``."""

    before: int
    new: int
    validation: int


@dataclass(frozen=True, slots=True)
class Split:
    """The frames of a study.

    Attributes:
        before: For the detector before fine-tuning.
        new: For fine-tuning.
        validation: For judging.
        blocks: Of each frame of ``validation``: the number of its stretch, counted over all sequences.
        sequences: Names of the sequences before, and of the new ones.
    """

    before: tuple[Frame, ...]
    new: tuple[Frame, ...]
    validation: tuple[Frame, ...]
    blocks: tuple[int, ...]
    sequences: tuple[tuple[str, ...], tuple[str, ...]]


def find_sequences(folder: Path) -> list[Path]:
    """Every tracking sequence (``img/`` and ``groundtruth*.txt`` of x,y,w,h) below ``folder``, sorted.

    Raises:
        UsageError: There are fewer than two.
    """
    found: list[Path] = []
    level = [folder]
    for _ in range(DEPTH):
        level = sorted(p for parent in level for p in parent.iterdir() if p.is_dir() and p.name[0] != ".")
        found += [path for path in level if (path / "img").is_dir() and _is_sequence(path)]
    if len(found) < 2:
        raise UsageError(
            f"{folder} holds {len(found)} tracking sequences; name a folder with two or more folders of "
            "img/ and groundtruth.txt"
        )
    return sorted(found)


def split_frames(sequences: Sequence[Path], counts: Counts) -> Split:
    """The frames of a study, by the rule above; names are those of sequence and frame together.

    Raises:
        DatasetError: A new sequence is too short.
    """
    before: list[Frame] = []
    new: list[Frame] = []
    validation: list[Frame] = []
    blocks: list[int] = []
    for place, path in enumerate(sequences):
        frames = [
            replace(frame, name=f"{path.name}-{frame.name}", validation=False)
            for frame in open_source(path)
            if frame.labelled
        ]
        if place % 2 == 0:
            before += [frames[i] for i in even(0, len(frames), counts.before)]
            continue
        places = stretch_places(len(frames), counts)
        if not all(places[0]) or not all(places[1]):
            raise DatasetError(f"{path} has only {len(frames)} labelled frames; leave it out")
        new += [frames[i] for stretch in places[0] for i in stretch]
        for number, stretch in enumerate(places[1]):
            validation += [frames[i] for i in stretch]
            blocks += [place // 2 * STRETCHES + number] * len(stretch)
    names = [path.name for path in sequences]
    parts = tuple(names[::2]), tuple(names[1::2])
    return Split(tuple(before), tuple(new), tuple(validation), tuple(blocks), parts)


def stretch_places(length: int, counts: Counts) -> tuple[list[list[int]], list[list[int]]]:
    """Places of frames of a new sequence of ``length`` frames, a list a stretch: fine-tuning, validation."""
    new, validation = [], []
    for stretch in range(STRETCHES):
        begin, end = (length * (stretch + i) // STRETCHES for i in (0, 1))
        trained, held_out = (int((end - begin) * share) for share in (TRAINED, HELD_OUT))
        new.append(even(begin, begin + trained, _part(counts.new, stretch)))
        validation.append(even(end - held_out, end, _part(counts.validation, stretch)))
    return new, validation


def even(begin: int, end: int, count: int) -> list[int]:
    """At most ``count`` places from ``begin`` to ``end``, spread evenly."""
    count = min(count, end - begin)
    return [begin + (2 * i + 1) * (end - begin) // (2 * count) for i in range(count)]


def _part(count: int, stretch: int) -> int:
    return count * (stretch + 1) // STRETCHES - count * stretch // STRETCHES


def _is_sequence(path: Path) -> bool:
    try:
        return find_format(path) == "otb"
    except DatasetError:
        return False
