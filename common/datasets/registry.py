"""Which readers there are, and which one a source needs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.datasets import class_folders, csv_list, dac_sdc, folder, sequence, video, voc, yolo
from common.datasets.source import FrameSource, ReadOptions
from common.errors import DatasetError
from common.images import DEFAULT_LIMITS, ImageLimits

__all__ = ["FORMATS", "READERS", "Reader", "find_format", "open_source"]


@dataclass(frozen=True, slots=True)
class Reader:
    """A layout that can be read.

    Attributes:
        layout: What it looks like, in a few words.
        matches: Whether a path looks like it.
        open: Gives its frames.
    """

    layout: str
    matches: Callable[[Path], bool]
    open: Callable[[Path, ReadOptions], FrameSource]


READERS: dict[str, Reader] = {
    "csv": Reader("a CSV file with the header frame,x0,y0,w,h", csv_list.matches, csv_list.open_csv),
    "video": Reader("a video file", video.matches, video.open_video),
    "yolo": Reader("a YOLO data.yaml", yolo.matches, yolo.open_yolo),
    "voc": Reader("img/ and annotations/*.xml", voc.matches, voc.open_voc),
    "dac-sdc": Reader(
        "img/ and a groundtruth.txt of NAME.jpg [xmin, xmax, ymin, ymax]",
        dac_sdc.matches,
        dac_sdc.open_dac_sdc,
    ),
    "otb": Reader("img/ and groundtruth*.txt of x,y,w,h", sequence.matches, sequence.open_sequence),
    "class-folders": Reader(
        "train/ and val/ with a folder of images for each class",
        class_folders.matches,
        class_folders.open_class_folders,
    ),
    "folder": Reader("a folder of images", folder.matches, folder.open_folder),
}
"""Format name -> reader, in the order in which they are tried: the most telling layout first."""

_ALIASES = {"uav123": "otb", "uavdt": "otb", "dtb70": "otb", "dac_sdc": "dac-sdc"}

FORMATS: tuple[str, ...] = (*READERS, *_ALIASES)
"""Every name that ``--format`` takes."""


def find_format(path: str | Path) -> str:
    """Name of the format that ``path`` looks like.

    Raises:
        DatasetError: It is not there, or looks like none.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"there is no {path}; name a sequence folder, a data.yaml, a CSV or a video")
    for name, reader in READERS.items():
        if reader.matches(path):
            return name
    if path.is_dir():
        inner = [item for item in sorted(path.iterdir()) if item.is_dir() and not item.name.startswith(".")]
        for item in inner[:100]:
            if any(reader.matches(item) for reader in READERS.values()):
                raise DatasetError(f"{path} holds several sources; name one of them, such as {item}")
    layouts = "; ".join(reader.layout for reader in READERS.values())
    raise DatasetError(f"{path} is no source of frames that is known; it must be one of: {layouts}")


def open_source(
    path: str | Path,
    format: str | None = None,
    classes: Sequence[str] | None = None,
    max_frames: int | None = None,
    *,
    class_map: Mapping[str, str] | None = None,
    split: Literal["train", "val", "all"] = "all",
    block: int = 100,
    held_out: int = 20,
    skip_unreadable: bool = False,
    on_skip: Callable[[str], None] | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> FrameSource:
    """Frames of a source, read lazily.

    Args:
        path: A sequence, DAC-SDC, VOC or image folder, a YOLO data.yaml, a CSV or a video file.
        format: One of :data:`FORMATS`; None: found by looking.
        classes: The deployment's class names; a box of another class is refused. None: all are taken.
        max_frames: Stop after so many frames.
        class_map: Class name in the source -> class name in the deployment.
        split: Which part of a data set that states its own split (YOLO).
        block: Frames a block of the validation split.
        held_out: Validation frames at the end of each block.
        skip_unreadable: Leave out and count images, and label files of single images, that cannot be read,
            instead of stopping at the first.
        on_skip: Called with a sentence for each frame that is left out so.
        limits: What one image may cost.

    Raises:
        DatasetError: The source cannot be read or its format is unknown.
        BoxError: A box is no region.
    """
    path = Path(path)
    if format is None:
        format = find_format(path)
    elif format not in FORMATS:
        close = difflib.get_close_matches(format, FORMATS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known formats: {', '.join(FORMATS)}"
        raise DatasetError(f"unknown format {format!r}; {hint}")
    elif not path.exists():
        raise DatasetError(f"there is no {path}; name a sequence folder, a data.yaml, a CSV or a video")
    options = ReadOptions(
        classes=None if classes is None else tuple(classes),
        class_map=dict(class_map or {}),
        max_frames=max_frames,
        split=split,
        block=block,
        held_out=held_out,
        skip_unreadable=skip_unreadable,
        on_skip=on_skip,
        limits=limits,
    )
    return READERS[_ALIASES.get(format, format)].open(path, options)
