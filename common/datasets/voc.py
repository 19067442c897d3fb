"""VOC: images beside one XML file an image.

VOC counts pixels from 1 and includes ``xmax`` and ``ymax``, so a box covers [xmin - 1, xmax) here. Tools that
write 0-based VOC files exist and cannot be told apart; their boxes shift by one pixel, and a box that then
starts at -1 is clipped like any box half outside the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from common.datasets.source import Entry, Labels, ReadOptions, StillSource, images_in, make_box, read_text
from common.errors import BoxError, DatasetError
from common.frame import Box

__all__ = ["matches", "open_voc", "parse_annotation"]

_FOLDERS = (("img", "annotations"), ("images", "annotations"), ("JPEGImages", "Annotations"))


def matches(path: Path) -> bool:
    """Whether ``path`` looks like a VOC folder."""
    return _folders(path) is not None


def open_voc(path: Path, options: ReadOptions) -> StillSource:
    """Read a VOC folder; an image without an XML file is unlabelled, one without objects a true negative.

    Raises:
        DatasetError: No frames, no annotations folder, or (when the frame is read) an unreadable annotation.
        BoxError: When the frame is read: a box is no region.
    """
    folders = _folders(path)
    if folders is None:
        raise DatasetError(f"{path} is no VOC folder: it needs img/ and annotations/")
    images = images_in(folders[0])
    annotations = {file.stem: file for file in folders[1].glob("*.xml") if not file.name.startswith(".")}

    def labels(image: Path) -> Labels:
        file = annotations.get(image.stem)
        if file is None:
            return lambda width, height: None
        return lambda width, height: parse_annotation(read_text(file), str(file), width, height)

    def names() -> Sequence[str]:
        found = {
            (item.findtext("name") or "").strip()
            for file in annotations.values()
            for item in _root(read_text(file), str(file)).iter("object")
        }
        return sorted(found - {""})

    entries = [Entry(image, labels(image)) for image in images]
    orphans = len(annotations.keys() - {image.stem for image in images})
    return StillSource(path, "voc", options, entries, names, orphans)


def parse_annotation(text: str, name: str, width: int, height: int) -> tuple[Box, ...]:
    """Boxes of one XML file; ``name`` stands for the file in errors, the size is the image's in pixels.

    Raises:
        DatasetError: No VOC annotation, or one of an image of another size.
        BoxError: A box is no region.
    """
    root = _root(text, name)
    stated = [root.findtext(f"size/{side}") for side in ("width", "height")]
    if all(value and value.strip().isdigit() and int(value) > 0 for value in stated):
        size = [int(value or 0) for value in stated]
        if size != [width, height]:
            raise DatasetError(
                f"{name} describes an image of {size[0]}x{size[1]} pixels, but its image has "
                f"{width}x{height}; label it again or remove the annotation"
            )
    boxes = []
    for number, item in enumerate(root.iter("object"), start=1):
        where = f"{name} object {number}"
        label = (item.findtext("name") or "").strip()
        if not label:
            raise DatasetError(f"{where} has no name; write its class into <name>")
        try:
            x0, y0, x1, y1 = (
                float(item.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")
            )
        except ValueError as error:
            raise DatasetError(f"{where} needs numbers in bndbox xmin, ymin, xmax and ymax") from error
        if x1 < x0 or y1 < y0:
            raise BoxError(f"{where}: xmax and ymax must not be below xmin and ymin; correct it or remove it")
        boxes.append(make_box(x0 - 1, y0 - 1, x1, y1, label, where))
    return tuple(boxes)


def _root(text: str, name: str) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DatasetError(f"{name} is no XML: {error}") from error
    if root.tag != "annotation":
        raise DatasetError(f"{name} is no VOC annotation: its root is <{root.tag[:100]}>, not <annotation>")
    return root


def _folders(path: Path) -> tuple[Path, Path] | None:
    for names in _FOLDERS:
        images, labels = (path / name for name in names)
        if images.is_dir() and labels.is_dir():
            return images, labels
    return None
