"""Images sorted into one folder a class, as for classification: an image has the label of its folder."""

from __future__ import annotations

from pathlib import Path

from common.datasets.source import Entry, Labels, ReadOptions, StillSource, images_in, natural_key
from common.errors import DatasetError
from common.frame import Box

__all__ = ["matches", "open_class_folders"]

_SPLITS = (("train", False), ("val", True), ("valid", True), ("test", True))


def matches(path: Path) -> bool:
    """Whether ``path`` holds ``train/`` and ``val/``, each with at least two folders of images.

    Class folders without this split look like several sources; they are read when the format is named.
    """
    sides = {validation for name, validation in _SPLITS if len(_classes(path / name)) >= 2}
    return len(sides) == 2


def open_class_folders(path: Path, options: ReadOptions) -> StillSource:
    """Read class folders: those of ``train/`` and of ``val/``, which are marked validation, or of ``path``.

    A frame has one box over the whole of it, whose class is the name of its folder: the label of the image.
    Its name is preceded by its class, because files of several classes may be called the same.

    Raises:
        DatasetError: No class folder with images.
    """
    parts: list[tuple[Path, bool | None]] = [
        (path / name, validation)
        for name, validation in _SPLITS
        if _classes(path / name) and options.split in ("all", "val" if validation else "train")
    ]
    if not any(_classes(path / name) for name, _ in _SPLITS):
        parts = [(path, None)]
    names: dict[str, None] = {}
    entries: list[Entry] = []
    for part, validation in parts:
        for folder, images in _classes(part).items():
            names[folder.name] = None
            for place, image in enumerate(images):
                # The block rule, class by class: over the whole list it would hold out whole classes.
                held_out = place % options.block >= options.block - options.held_out
                if validation is None and options.split != "all" and held_out != (options.split == "val"):
                    continue
                mark = held_out if validation is None else validation
                entries.append(Entry(image, _whole(folder.name), mark, f"{folder.name}-{image.stem}"))
    if not entries:
        raise DatasetError(f"{path} holds no folders of images, one for each class")
    return StillSource(path, "class-folders", options, entries, lambda: sorted(names, key=natural_key))


def _whole(name: str) -> Labels:
    return lambda width, height: (Box(0.0, 0.0, float(width), float(height), name),)


def _classes(path: Path) -> dict[Path, list[Path]]:
    """Class folders with their images, in natural order."""
    if not path.is_dir():
        return {}
    folders = [item for item in path.iterdir() if item.is_dir() and not item.name.startswith(".")]
    found = {folder: images_in(folder) for folder in sorted(folders, key=lambda f: natural_key(f.name))}
    return {folder: images for folder, images in found.items() if images}
