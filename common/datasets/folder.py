"""A folder of images without boxes: every frame is unlabelled."""

from __future__ import annotations

from pathlib import Path

from common.datasets.source import Entry, ReadOptions, StillSource, images_in
from common.errors import DatasetError

__all__ = ["matches", "open_folder"]


def matches(path: Path) -> bool:
    """Whether ``path``, or its ``img/``, is a folder with images."""
    return path.is_dir() and bool(_images(path))


def open_folder(path: Path, options: ReadOptions) -> StillSource:
    """Read a folder of images; those in its ``img/`` when it holds none itself.

    Raises:
        DatasetError: No images.
    """
    if not path.is_dir():
        raise DatasetError(f"{path} is no folder of images")
    entries = [Entry(image, lambda width, height: None) for image in _images(path)]
    return StillSource(path, "folder", options, entries, tuple)


def _images(path: Path) -> list[Path]:
    images = images_in(path)
    if not images and (path / "img").is_dir():
        images = images_in(path / "img")
    return images
