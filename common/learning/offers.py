"""What is offered to a resident store, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.bitstream.packet import Packet
from common.errors import LearningError
from common.frame import Box
from common.learning.frame_index import Labels
from common.learning.raster_frame import RasterFrame
from common.learning.raster_store import Integers
from common.learning.settings import TrainingSettings

__all__ = ["Added", "Incoming", "KnownLabels", "label_rows"]


@dataclass(slots=True)
class Added:
    """What became of packets that were offered.

    Attributes:
        trainable: Frames added.
        aside: Those of them for which the device had no room.
        unlabelled, validation: Frames left out because nobody labelled them, or because they are held out.
        refused: Frames left out because every budget is used up.
        evicted: Older frames that made room.
        damaged: Frames left out because they cannot be decoded: place in what was offered, and a sentence.
    """

    trainable: int = 0
    aside: int = 0
    unlabelled: int = 0
    validation: int = 0
    refused: int = 0
    evicted: int = 0
    damaged: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KnownLabels:
    """Labels of a frame: its packet's own, or those that took their place.

    Attributes:
        labelled: Whether the boxes are known; False leaves the frame out.
        boxes: In pixels of an image of ``width`` x ``height``.
    """

    labelled: bool
    boxes: tuple[Box, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A packet on its way into the store: ``raster`` is None for one of networks only."""

    packet: Packet
    labels: Labels
    raster: RasterFrame | None
    integers: Integers


def label_rows(labels: KnownLabels, settings: TrainingSettings) -> Labels:
    """Boxes as shares of their image, clipped to it; those outside are left out.

    Raises:
        LearningError: A class is neither listed nor mapped.
    """
    rows: list[tuple[float, ...]] = []
    for box in labels.boxes:
        index = settings.class_index(box.name)
        if index is None:
            raise LearningError(
                f"a frame has a box of the unknown class {box.name!r}; "
                "add it to 'classes' or map it in 'class_map'"
            )
        x0, x1 = (min(max(x / labels.width, 0.0), 1.0) for x in (box.x0, box.x1))
        y0, y1 = (min(max(y / labels.height, 0.0), 1.0) for y in (box.y0, box.y1))
        if x1 > x0 and y1 > y0:
            rows.append((index, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
    return rows
