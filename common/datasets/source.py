"""What every reader gives: frames one at a time, with boxes in pixels and classes by name."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.errors import BoxError, DatasetError, ImageError
from common.frame import Box, Frame, in_validation_block
from common.images import DEFAULT_LIMITS, ImageLimits, image_header

__all__ = [
    "IMAGE_SUFFIXES",
    "Entry",
    "FrameSource",
    "Labels",
    "ReadOptions",
    "StillSource",
    "images_in",
    "make_box",
    "natural_key",
    "read_text",
    "shown",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
"""File name endings, in lower case, of the images that are read."""

LONGEST_QUOTE = 300
"""Characters of a file's own words that an error repeats."""

MAX_LABEL_BYTES = 64_000_000
"""Largest label file read, bytes: a million boxes in the wordiest layout."""

Labels = Callable[[int, int], Sequence[Box] | None]
"""Boxes of a frame of the given width and height in pixels; None when the frame is unlabelled."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a source is read.

    Attributes:
        classes: The deployment's class names; a box of another class is refused. None: every class is taken.
        class_map: Class name in the source -> class name in the deployment, applied before the check.
        max_frames: Stop after so many frames; None: no bound.
        split: Which part of a data set that states its own split: ``train``, ``val`` or ``all``.
        block: Frames a block of the validation split.
        held_out: Validation frames at the end of each block.
        skip_unreadable: Leave out and count images, and label files of single images, that cannot be read,
            instead of stopping at the first.
        on_skip: Called with a sentence for each frame that is left out so.
        limits: What one image may cost.
    """

    classes: tuple[str, ...] | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    max_frames: int | None = None
    split: Literal["train", "val", "all"] = "all"
    block: int = 100
    held_out: int = 20
    skip_unreadable: bool = False
    on_skip: Callable[[str], None] | None = None
    limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.max_frames is not None and self.max_frames < 1:
            raise DatasetError(f"the number of frames to read must be at least 1, not {self.max_frames}")
        if not 0 <= self.held_out <= self.block or self.block < 1:
            raise DatasetError(f"cannot hold out {self.held_out} of every {self.block} frames for validation")
        if self.split not in ("train", "val", "all"):
            raise DatasetError(f"unknown split {self.split!r}; use train, val or all")


@dataclass(frozen=True, slots=True)
class Entry:
    """One still image of a source.

    Attributes:
        path: The image file.
        labels: Its boxes, made when the frame is read.
        validation: The mark that the data set itself gives; None: the block rule decides.
        name: Name of the frame; None: the stem of ``path``.
    """

    path: Path
    labels: Labels
    validation: bool | None = None
    name: str | None = None


class FrameSource(ABC):
    """Frames of one source, read one at a time; iterating again starts from the first frame.

    Attributes:
        path: Where the frames come from.
        format: Name of the layout.
        skipped: What the last iteration left out and how often.
        place: Place in the source of the newest frame given, from 0; frames that were left out count.
    """

    def __init__(self, path: Path, layout: str, options: ReadOptions) -> None:
        self.path = path
        self.format = layout
        self.options = options
        self.skipped: Counter[str] = Counter()
        self.place = 0

    @property
    @abstractmethod
    def length(self) -> int | None:
        """Number of frames; an estimate for a video, None when unknown."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names that boxes may carry: the deployment's when given, else those of the source."""
        if self.options.classes is not None:
            return self.options.classes
        names = (self.options.class_map.get(name, name) for name in self._source_names())
        return tuple(dict.fromkeys(names))

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Frames in order.

        Raises:
            DatasetError: A label cannot be read, unless these are skipped, or its class is unknown.
            BoxError: A box is no region, unless these are skipped.
            ImageError: An image cannot be read, unless these are skipped.
        """

    @abstractmethod
    def _source_names(self) -> Sequence[str]:
        """Class names in the source, in its order."""

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"the number of frames in {self.path} is unknown before they are read")
        return self.length

    def _boxes(self, boxes: Sequence[Box], width: int, height: int, where: str) -> tuple[Box, ...]:
        """``boxes`` under deployment class names, without those that lie wholly outside the frame."""
        kept = []
        for box in boxes:
            name = self.options.class_map.get(box.name, box.name)
            if self.options.classes is not None and name not in self.options.classes:
                raise DatasetError(
                    f"{where}: class {shown(name)} is not one of {', '.join(self.options.classes)}; "
                    "add it to the class list or map it to one of these"
                )
            if box.region(width, height) is None:
                self.skipped["boxes outside the frame"] += 1
            else:
                kept.append(Box(box.x0, box.y0, box.x1, box.y1, name))
        return tuple(kept)

    def _validation(self, index: int) -> bool:
        return in_validation_block(index, block=self.options.block, held_out=self.options.held_out)


class StillSource(FrameSource):
    """A source of still images: a frame holds the bytes of its file, unchanged."""

    def __init__(
        self,
        path: Path,
        layout: str,
        options: ReadOptions,
        entries: Sequence[Entry],
        names: Callable[[], Sequence[str]],
        orphans: int = 0,
    ) -> None:
        """Make a source.

        Args:
            path: Where the frames come from.
            layout: Name of the layout.
            options: How it is read.
            entries: The images in order.
            names: Gives the class names of the source; called only when they are asked for.
            orphans: Labels that name no image of the source.

        Raises:
            DatasetError: There is no image.
        """
        super().__init__(path, layout, options)
        if not entries:
            raise DatasetError(f"{path} ({layout}) names no frame")
        self._entries = entries[: options.max_frames]
        self._names = names
        self._orphans = orphans

    @property
    def length(self) -> int:
        """Number of frames, unreadable ones included."""
        return len(self._entries)

    def _source_names(self) -> Sequence[str]:
        return self._names()

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        if self._orphans:
            self.skipped["labels without an image"] = self._orphans
        for index, entry in enumerate(self._entries):
            # A path keeps its text once that was asked for, and the entries stay as long as the source.
            path = Path(entry.path)
            try:
                data, width, height = self._read(path)
                boxes = entry.labels(width, height)
            except (ImageError, DatasetError, BoxError) as error:
                if not self.options.skip_unreadable:
                    raise
                what = "images" if isinstance(error, ImageError) else "labels"
                self.skipped[f"unreadable {what}"] += 1
                if self.options.on_skip is not None:
                    self.options.on_skip(str(error))
                continue
            self.place = index
            yield Frame(
                name=entry.name or path.stem,
                image=data,
                width=width,
                height=height,
                labelled=boxes is not None,
                boxes=self._boxes(boxes or (), width, height, str(path)),
                validation=self._validation(index) if entry.validation is None else entry.validation,
            )

    def _read(self, path: Path) -> tuple[bytes, int, int]:
        limit = self.options.limits.max_bytes
        try:
            with path.open("rb") as file:
                # One byte past the limit is enough for the header check to refuse the file.
                data = file.read(limit + 1)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise ImageError(f"cannot read the frame {shown(path)}: {_reason(error)}") from error
        try:
            header = image_header(data, self.options.limits)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        return data, header.width, header.height


def natural_key(name: str) -> tuple[tuple[str, int], ...]:
    """Sort key under which ``9.jpg`` comes before ``10.jpg``."""
    parts = re.split(r"([0-9]+)", name)
    texts, numbers = parts[0::2], parts[1::2]
    return tuple(zip(texts, [int(n) for n in numbers] + [-1], strict=True))


def images_in(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, in natural order; hidden files are left out.

    Raises:
        DatasetError: The folder cannot be listed.
    """
    try:
        found = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot list the frames in {shown(folder)}: {_reason(error)}") from error
    return sorted(found, key=lambda path: (natural_key(path.name), path.name))


def read_text(path: Path) -> str:
    """A label file as text.

    Raises:
        DatasetError: It cannot be read, is too large, or is no UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > MAX_LABEL_BYTES:
            raise DatasetError(f"the label file {path} has {size:,} bytes, more than {MAX_LABEL_BYTES:,}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"the label file {path} is no UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read the label file {shown(path)}: {_reason(error)}") from error


def shown(value: object) -> str:
    """A value of a file, quoted for a sentence and shortened when it is very long."""
    text = str(value)
    return repr(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def make_box(x0: float, y0: float, x1: float, y1: float, name: str, where: str) -> Box:
    """A box whose error names its place.

    Raises:
        BoxError: It is no region.
    """
    try:
        return Box(x0, y0, x1, y1, name)
    except BoxError as error:
        raise BoxError(f"{where}: {error}; correct it or remove it") from error
