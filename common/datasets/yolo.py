"""YOLO: a ``data.yaml`` with class names and image lists, and one label file an image.

A label line is ``class cx cy w h``, normalised to the image; longer lines are polygons and become the box
around them. Labels lie where ``images`` in the path reads ``labels``. Nothing is ever downloaded or executed:
a ``download`` entry is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from common.datasets.source import (
    IMAGE_SUFFIXES,
    Entry,
    Labels,
    ReadOptions,
    StillSource,
    images_in,
    make_box,
    natural_key,
    read_text,
    shown,
)
from common.errors import BoxError, DatasetError
from common.frame import Box

__all__ = ["matches", "open_yolo", "parse_labels"]

_TOLERANCE = 0.01
"""How far a normalised value may lie outside 0..1: rounding of exported labels, as Ultralytics allows."""


def matches(path: Path) -> bool:
    """Whether ``path`` is a YAML file, or a folder with a ``data.yaml``."""
    return (path.is_file() and path.suffix.lower() in (".yaml", ".yml")) or (path / "data.yaml").is_file()


def open_yolo(path: Path, options: ReadOptions) -> StillSource:
    """Read a YOLO data set: its ``train`` frames, then its ``val`` frames, which are marked validation.

    As in YOLO, an image without a label file is a true negative; one without a labels folder is unlabelled.

    Raises:
        DatasetError: No YOLO data.yaml, no frames, or (when the frame is read) an unreadable label.
        BoxError: When the frame is read: a box is no region.
    """
    file = path / "data.yaml" if path.is_dir() else path
    try:
        data = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise DatasetError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{file} must hold keys and values: names, train and val")
    names = _names(data, file)
    root = file.parent / str(data.get("path") or ".")
    if not root.is_dir():
        root = file.parent
    splits = ("train", "val") if options.split == "all" else (options.split,)
    present = [split for split in splits if data.get(split)]
    if not present:
        raise DatasetError(f"{file} lacks {' and '.join(splits)}; name a folder of images there")
    entries = []
    seen: set[Path] = set()
    for split in present:
        for image in _images(data[split], root, file, split):
            if image not in seen:
                seen.add(image)
                entries.append(Entry(image, _labels(image, names), validation=split == "val"))
    return StillSource(path, "yolo", options, entries, lambda: tuple(names.values()))


def parse_labels(text: str, name: str, names: dict[int, str], width: int, height: int) -> tuple[Box, ...]:
    """Boxes of one label file in pixels of an image of this size; ``name`` stands for the file in errors.

    Raises:
        DatasetError: A line that is no label, or a class that ``names`` lacks.
        BoxError: A box that is not normalised or no region.
    """
    boxes = []
    for number, line in enumerate(text.splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        where = f"{name} line {number}"
        try:
            index, *numbers = (float(value) for value in values)
        except ValueError as error:
            raise DatasetError(f"{where} holds {line.strip()[:100]!r}, not class cx cy w h") from error
        if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
            raise DatasetError(f"{where} has {len(values)} values, not the five of class cx cy w h")
        if index not in names:
            raise DatasetError(
                f"{where} has the class {values[0][:100]}, which names in the data.yaml lacks; add it"
            )
        if not all(math.isfinite(v) and -_TOLERANCE <= v <= 1 + _TOLERANCE for v in numbers):
            raise BoxError(
                f"{where}: {line.strip()[:100]!r} is not normalised to 0..1; divide by the image's size"
            )
        if len(numbers) == 4:
            cx, cy, w, h = numbers
            edges = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        else:
            xs, ys = numbers[0::2], numbers[1::2]
            edges = (min(xs), min(ys), max(xs), max(ys))
        x0, y0, x1, y1 = edges
        boxes.append(make_box(x0 * width, y0 * height, x1 * width, y1 * height, names[int(index)], where))
    return tuple(boxes)


def _labels(image: Path, names: dict[int, str]) -> Labels:
    parts = list(image.parent.parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    folder = Path(*parts)

    def read(width: int, height: int) -> Sequence[Box] | None:
        file = folder / f"{image.stem}.txt"
        if file.is_file():
            return parse_labels(read_text(file), str(file), names, width, height)
        return () if places and folder.is_dir() else None

    return read


def _names(data: dict[str, Any], file: Path) -> dict[int, str]:
    """Class number -> name, from a list or a mapping."""
    value = data.get("names")
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        raise DatasetError(f"{file} lacks names; list the class names there in the order of their numbers")
    names: dict[int, str] = {}
    for key, name in value.items():
        if not str(key).isdigit() or not isinstance(name, str | int) or not str(name).strip():
            raise DatasetError(
                f"{file}: names must map class numbers to names, not {shown(key)} to {shown(name)}"
            )
        names[int(key)] = str(name).strip()
    count = data.get("nc")
    if count is not None and count != len(names):
        raise DatasetError(f"{file} states nc: {count} but names {len(names)} classes; correct one of them")
    return names


def _images(value: object, root: Path, file: Path, split: str) -> list[Path]:
    """Images of one split: folders, or text files of paths, one or a list of them."""
    images: list[Path] = []
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str):
            raise DatasetError(
                f"{file}: {split} must name a folder or a text file of paths, not {shown(item)}"
            )
        place = root / item
        # Exports often say ../train/images where the folder lies beside the data.yaml.
        if not _there(place) and _there(file.parent / item.removeprefix("../")):
            place = file.parent / item.removeprefix("../")
        if _there(place) and place.is_dir():
            found = images_in(place)
            if not found:
                folders = sorted(
                    (p for p in place.rglob("*") if p.is_dir()), key=lambda p: natural_key(str(p))
                )
                found = [image for folder in folders for image in images_in(folder)]
            images += found
        elif _there(place) and place.is_file():
            lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
            base = place.parent
            images += [base / line for line in lines if Path(line).suffix.lower() in IMAGE_SUFFIXES]
        else:
            raise DatasetError(
                f"{file}: {split} names {shown(item)}, which is not there (looked at {shown(place)})"
            )
    return images


def _there(path: Path) -> bool:
    """Whether the path exists; one that is too long for the system does not."""
    try:
        return path.exists()
    except OSError:
        return False
