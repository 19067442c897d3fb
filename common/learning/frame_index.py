"""The index of a resident store: where the parts and the labels of every frame lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.errors import LearningError
from common.frame import FrameIdentity
from common.learning.tables import Table

__all__ = ["ELSEWHERE", "IDENTITY_BYTES", "RASTER", "Columns", "FrameIndex", "Labels", "spans"]

RASTER = -1
"""In place of the group of a frame's background: the frame is composed at its coded size."""
ELSEWHERE = -2
"""In the same place: the frame is not on the device."""

IDENTITY_BYTES = 384
"""Host memory of a frame's identity, its entries in tables and what is known of its usefulness."""

Labels = Sequence[tuple[float, ...]]
"""Class, x centre, y centre, width and height of each box, the last four as shares of the frame."""


@dataclass(slots=True)
class Columns:
    """Rows of the index tables, collected before they become tensors."""

    frames: list[tuple[int, ...]] = field(default_factory=list)
    objects: list[tuple[int, ...]] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    labels: list[tuple[float, ...]] = field(default_factory=list)

    def parts(self, index: FrameIndex) -> list[tuple[Table, list[Tensor]]]:
        """The tables that grow, each with its new rows."""
        parts: list[tuple[Table, list[Tensor]]] = [
            (index.frames, [torch.tensor(self.frames, dtype=torch.int64)])
        ]
        if self.objects:
            objects = torch.tensor(self.objects, dtype=torch.int64)
            parts.append((index.objects, [objects, torch.tensor(self.scales)]))
        if self.labels:
            parts.append((index.labels, [torch.tensor(self.labels)]))
        return parts


class FrameIndex:
    """Tables in host memory, so that grouping a batch needs no wait for the device.

    Attributes:
        frames: Group (or RASTER or ELSEWHERE), row, objects (first, count), labels (first, count), coded
            height and width.
        objects: Group, row, x0, y0, x1, y1, box; and the residual scale.
        labels: Class, x centre, y centre, width, height as shares of the coded frame.
    """

    def __init__(self) -> None:
        long = torch.int64
        self.frames = Table([torch.empty(0, 8, dtype=long)])
        self.objects = Table([torch.empty(0, 7, dtype=long), torch.empty(0)])
        self.labels = Table([torch.empty(0, 5)])
        self._numbers: dict[FrameIdentity, int] = {}
        self._identities: dict[int, FrameIdentity] = {}

    @property
    def tables(self) -> list[Table]:
        """All three."""
        return [self.frames, self.objects, self.labels]

    @property
    def nbytes(self) -> int:
        """Bytes of host memory."""
        return sum(table.nbytes for table in self.tables) + IDENTITY_BYTES * len(self.frames)

    def growth(self, frames: int, objects: int, labels: int) -> int:
        """Bytes that this many more rows take at the least."""
        tables = zip(self.tables, (frames, objects, labels), strict=True)
        return sum(table.growth(rows) for table, rows in tables) + IDENTITY_BYTES * frames

    def number_of(self, identity: FrameIdentity) -> int | None:
        """The number of this frame, if it is here."""
        return self._numbers.get(identity)

    def name(self, number: int, identity: FrameIdentity | None) -> None:
        """Remember whose frame a number is."""
        if identity is not None:
            self._numbers[identity] = number
            self._identities[number] = identity

    def rows(self, numbers: Tensor) -> Tensor:
        """Rows (B, 8) int64 of frames by number.

        Raises:
            LearningError: A frame is not here.
        """
        missing = numbers[~self.frames.has(numbers)]
        if len(missing):
            raise LearningError(
                f"frame {int(missing[0])} was asked for, but only {len(self.frames)} others are resident; "
                "draw frames from the sampler"
            )
        return self.frames.columns[0][self.frames.places(numbers)]

    def move(self, number: int, group: int, row: int, objects: tuple[int, int]) -> None:
        """A frame's parts lie elsewhere from now on; ``objects``: first and count."""
        place = self.frames.places(torch.tensor([number]))
        self.frames.columns[0][place, :4] = torch.tensor([group, row, *objects])

    def relabel(self, number: int, labels: Labels) -> None:
        """Replace a frame's labels."""
        row = self.rows(torch.tensor([number]))[0]
        self.labels.remove(span(row[4:6]))
        first = self.labels.end
        if labels:
            self.labels.append([torch.tensor(labels)])
        place = self.frames.places(torch.tensor([number]))
        self.frames.columns[0][place, 4:6] = torch.tensor([first, len(labels)])

    def remove(self, numbers: Tensor) -> None:
        """Forget frames with their objects and labels."""
        rows = self.rows(numbers)
        self.objects.remove(spans(rows[:, 2:4]))
        self.labels.remove(spans(rows[:, 4:6]))
        self.frames.remove(numbers)
        for number in numbers.tolist():
            identity = self._identities.pop(number, None)
            # A frame that came again has a newer number.
            if identity is not None and self._numbers.get(identity) == number:
                del self._numbers[identity]


def span(part: Tensor) -> Tensor:
    """Numbers of the items in (first, count)."""
    first, count = part.tolist()
    return torch.arange(first, first + count)


def spans(parts: Tensor) -> Tensor:
    """Numbers of the items in several (first, count), (N, 2)."""
    return torch.cat([torch.arange(0), *(torch.arange(f, f + n) for f, n in parts.tolist() if n)])
