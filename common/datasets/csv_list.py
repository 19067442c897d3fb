"""CSV: ``frame,x0,y0,w,h`` and optionally ``name``; the rows of one frame are its boxes.

Pixels are 0-based, ``x0,y0`` the top-left corner. Paths are relative to the CSV. A row whose four numbers are
all empty makes its frame labelled without a box. A list may take frames from several folders: where stems
clash, the frames are named by their whole path in the list, ``a/img/1.jpg`` becoming ``a_img_1``.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path, PurePosixPath

from common.datasets.source import Entry, Labels, ReadOptions, StillSource, make_box, read_text, shown
from common.errors import DatasetError
from common.frame import DEFAULT_CLASS, Box

__all__ = ["matches", "open_csv"]

_NUMBERS = ("x0", "y0", "w", "h")
_CLASS_COLUMNS = ("name", "class")


def matches(path: Path) -> bool:
    """Whether ``path`` is a CSV file."""
    return path.is_file() and path.suffix.lower() == ".csv"


def open_csv(path: Path, options: ReadOptions) -> StillSource:
    """Read a CSV of frames and boxes; frames come in the order of their first row.

    Raises:
        DatasetError: A wrong header or an unreadable row.
        BoxError: A box is no region.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    frames: dict[str, list[Box]] = {}
    names: dict[str, None] = {}
    try:
        class_column = _check_header(path, reader.fieldnames)
        for row in reader:
            where = f"{path} line {reader.line_num}"
            # csv gives surplus values under the key None and missing ones as the value None.
            if None in row or None in row.values():
                raise DatasetError(f"{where} does not have one value for each column of the header")
            frame = row["frame"].strip()
            if not frame:
                raise DatasetError(f"{where} names no frame; write the path of its image")
            boxes = frames.setdefault(frame, [])
            values = [row[column].strip() for column in _NUMBERS]
            if not any(values):
                continue
            try:
                x0, y0, w, h = (float(value) for value in values)
            except ValueError as error:
                raise DatasetError(
                    f"{where} holds {','.join(values)[:100]!r}, not four numbers; leave all empty for no box"
                ) from error
            name = (row[class_column].strip() if class_column else "") or DEFAULT_CLASS
            boxes.append(make_box(x0, y0, x0 + w, y0 + h, name, where))
            names[name] = None
    except csv.Error as error:
        raise DatasetError(f"{path} line {reader.line_num} is no CSV: {error}") from error

    def labels(boxes: list[Box]) -> Labels:
        return lambda width, height: boxes

    stems = Counter(PurePosixPath(frame).stem for frame in frames)
    entries = [
        Entry(path.parent / frame, labels(boxes), name=_name(frame, stems)) for frame, boxes in frames.items()
    ]
    return StillSource(path, "csv", options, entries, lambda: tuple(names))


def _name(frame: str, stems: Counter[str]) -> str:
    """The stem of a frame's path, or the whole path in one word where other frames share the stem."""
    if stems[PurePosixPath(frame).stem] == 1:
        return PurePosixPath(frame).stem
    parts = PurePosixPath(frame).with_suffix("").parts
    return "_".join(part for part in parts if part not in ("/", ".", ".."))


def _check_header(path: Path, header: object) -> str | None:
    """Name of the class column, if there is one."""
    columns = list(header) if isinstance(header, list) else []
    wanted = ("frame", *_NUMBERS)
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise DatasetError(f"{path} lacks the column {missing[0]!r}; its header must be {','.join(wanted)}")
    unknown = [column for column in columns if column not in (*wanted, *_CLASS_COLUMNS)]
    if unknown or len(set(columns)) < len(columns):
        what = f"the unknown column {shown(unknown[0])}" if unknown else "a column twice"
        raise DatasetError(f"{path} has {what}; its header must be {','.join(wanted)} and may add name")
    chosen = [column for column in _CLASS_COLUMNS if column in columns]
    if len(chosen) > 1:
        raise DatasetError(f"{path} has both a name and a class column; keep one")
    return chosen[0] if chosen else None
