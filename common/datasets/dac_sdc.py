"""DAC-SDC: ``img/`` and one ``groundtruth.txt`` whose lines name their frame.

A line is ``007.jpg [xmin, xmax, ymin, ymax]`` in 0-based pixels, the far edges half-open. Digits are compared
as numbers, so ``007.jpg`` is ``img/7.jpg``.
"""

from __future__ import annotations

import re
from pathlib import Path

from common.datasets.source import Entry, Labels, ReadOptions, StillSource, images_in, make_box, read_text
from common.errors import DatasetError
from common.frame import DEFAULT_CLASS, Box

__all__ = ["matches", "open_dac_sdc"]

_NUMBER = r"\s*([-+.\w]+)\s*"
_LINE = re.compile(rf"(\S+)\s*\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")


def matches(path: Path) -> bool:
    """Whether ``path`` looks like a DAC-SDC folder: its ground truth names files."""
    file = path / "groundtruth.txt"
    if not (path / "img").is_dir() or not file.is_file():
        return False
    with file.open("rb") as stream:
        first = stream.readline(256).decode("utf-8", "replace").strip()
    return _LINE.fullmatch(first) is not None


def open_dac_sdc(path: Path, options: ReadOptions) -> StillSource:
    """Read a DAC-SDC folder; an image that no line names is unlabelled.

    Raises:
        DatasetError: No frames, or an unreadable line.
        BoxError: A box is no region.
    """
    images = images_in(path / "img")
    file = path / "groundtruth.txt"
    boxes: dict[str, list[Box]] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file} line {number}"
        match = _LINE.fullmatch(line.strip())
        try:
            if match is None:
                raise ValueError(line)
            x0, x1, y0, y1 = (float(value) for value in match.groups()[1:])
        except ValueError as error:
            raise DatasetError(
                f"{where} holds {line.strip()[:100]!r}, not NAME.jpg [xmin, xmax, ymin, ymax]"
            ) from error
        box = make_box(x0, y0, x1, y1, DEFAULT_CLASS, where)
        boxes.setdefault(_key(match[1]), []).append(box)

    def labels(image: Path) -> Labels:
        found = boxes.get(_key(image.name))
        return lambda width, height: found

    entries = [Entry(image, labels(image)) for image in images]
    orphans = len(boxes.keys() - {_key(image.name) for image in images})
    return StillSource(path, "dac-sdc", options, entries, lambda: (DEFAULT_CLASS,), orphans)


def _key(name: str) -> str:
    """What ``007.jpg`` and ``7.jpg`` have in common."""
    stem = Path(name).stem
    return str(int(stem)) if stem.isascii() and stem.isdigit() else stem
