"""A folder in YOLO's layout: images/ and labels/ with train/ and val/, and a data.yaml."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import DatasetError, UsageError
from common.frame import Box

__all__ = ["SPLITS", "YoloFolder", "label_text"]

SPLITS = ("train", "val")
DESCRIPTION = "data.yaml"
RECORD = "exported.jsonl"
"""File that says of each image which packet it shows, so that an export that was stopped goes on."""


class YoloFolder:
    """Writes a data set that Ultralytics trains on.

    An image is there whole or not at all. What was written is remembered with the content hash of its packet:
    the same again is not decoded again.

    Args:
        folder: Where to; it exists.
        options: What decides the bytes of an image, such as its format and its size.

    Raises:
        UsageError: The folder holds an export with other options.
        DatasetError: The folder cannot be read or written.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._done: dict[str, str] = {}
        head = {"options": dict(options)}
        try:
            for kind in ("images", "labels"):
                for split in SPLITS:
                    (folder / kind / split).mkdir(parents=True, exist_ok=True)
            lines = self._lines()
            if lines and lines[0] != head:
                raise UsageError(
                    f"{folder} holds an export with other options ({json.dumps(lines[0].get('options'))}); "
                    "repeat those, or give another --out"
                )
            self._done = {line["image"]: line["packet"] for line in lines[1:]}
            self._record = (folder / RECORD).open("w", encoding="utf-8")
            self._note(head)
            for image, packet in self._done.items():
                self._note({"image": image, "packet": packet})
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def has(self, split: str, name: str, packet: str) -> bool:
        """Whether the image of the packet with this content hash is there already."""
        image = f"{split}/{name}"
        return self._done.get(image) == packet and (self._folder / "images" / image).is_file()

    def keep_only(self, images: Collection[str], unlabelled: Collection[str]) -> list[str]:
        """Forget images that have lost their labels; returns those that are of other packets.

        Args:
            images: ``split/name`` of those that are exported now.
            unlabelled: File names of packets whose labels are gone.
        """
        others = [image for image in self._done if image not in images]
        for image in others:
            split, name = image.split("/", 1)
            if name in unlabelled:
                self._discard(split, name)
        return [image for image in others if (self._folder / "images" / image).is_file()]

    @property
    def classes(self) -> list[str] | None:
        """The class list that the label files were written with; None before :meth:`finish`."""
        try:
            about = yaml.safe_load((self._folder / DESCRIPTION).read_text(encoding="utf-8"))
            return [str(about["names"][place]) for place in range(len(about["names"]))]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            return None

    def add(self, split: str, name: str, packet: str, data: bytes) -> None:
        """Write an image.

        Args:
            split: One of :data:`SPLITS`.
            name: File name.
            packet: Content hash of its packet, hexadecimal.
            data: Encoded image.

        Raises:
            DatasetError: It cannot be written.
        """
        target = self._folder / "images" / split / name
        try:
            part = target.with_name(f".{name}.part")
            part.write_bytes(data)
            part.replace(target)
            for other in SPLITS:
                # A packet of the same name that changed sides.
                if other != split:
                    self._discard(other, name)
            self._note({"image": f"{split}/{name}", "packet": packet})
        except OSError as error:
            raise _cannot_write(target, error) from error
        self._done[f"{split}/{name}"] = packet

    def label(self, split: str, name: str, text: str) -> None:
        """Write the label file of the image called ``name``.

        Raises:
            DatasetError: It cannot be written.
        """
        target = self._folder / "labels" / split / f"{Path(name).stem}.txt"
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _cannot_write(target, error) from error

    def finish(self, classes: Sequence[str]) -> int:
        """Write the data.yaml; returns the bytes of all images.

        Raises:
            DatasetError: It cannot be written.
        """
        target = self._folder / DESCRIPTION
        # No path: both Ultralytics and this system then look beside the file, wherever the folder is moved.
        about = {"train": "images/train", "val": "images/val", "names": dict(enumerate(classes))}
        try:
            self._record.close()
            target.write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), encoding="utf-8")
            return sum(file.stat().st_size for file in (self._folder / "images").glob("*/*"))
        except OSError as error:
            raise _cannot_write(target, error) from error

    def close(self) -> None:
        """Let go of the record, finished or not."""
        self._record.close()

    def _discard(self, split: str, name: str) -> None:
        self._done.pop(f"{split}/{name}", None)
        (self._folder / "images" / split / name).unlink(missing_ok=True)
        (self._folder / "labels" / split / f"{Path(name).stem}.txt").unlink(missing_ok=True)

    def _lines(self) -> list[dict[str, Any]]:
        """The record so far; it ends where a kill cut a line short."""
        path = self._folder / RECORD
        found: list[dict[str, Any]] = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            try:
                value = json.loads(line)
            except ValueError:
                break
            if not isinstance(value, dict) or (found and not {"image", "packet"} <= value.keys()):
                break
            found.append(value)
        return found

    def _note(self, line: Mapping[str, Any]) -> None:
        self._record.write(json.dumps(line) + "\n")
        self._record.flush()


def label_text(boxes: Sequence[Box], classes: Sequence[str], width: int, height: int) -> str:
    """Lines ``class cx cy w h`` of the parts of boxes inside a frame, as shares of its sides.

    Args:
        boxes: In pixels of the frame.
        classes: Ordered class names.
        width: Of the frame, pixels.
        height: Of the frame, pixels.
    """
    lines = []
    for box in boxes:
        x0, y0 = max(0.0, box.x0) / width, max(0.0, box.y0) / height
        x1, y1 = min(float(width), box.x1) / width, min(float(height), box.y1) / height
        if x1 > x0 and y1 > y0:
            numbers = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
            lines.append(" ".join([str(classes.index(box.name)), *(f"{number:.8f}" for number in numbers)]))
    return "".join(f"{line}\n" for line in lines)


def _cannot_write(path: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"cannot write {path}: {error.strerror or error}; make room there or name another --out"
    )
