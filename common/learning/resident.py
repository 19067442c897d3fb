"""The resident store: what packets hold on the training device, networks grouped by size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.bitstream.packet import Network, Packet
from common.errors import LearningError, PacketError
from common.inr.decode import is_vector
from common.inr.groups import GroupKey, NetworkGroup, group_key
from common.inr.vector import check_network_work, network_contents
from common.learning.raster_frame import RasterFrame
from common.learning.raster_store import RasterStore
from common.learning.settings import TrainingSettings
from common.learning.tables import Table

__all__ = ["RASTER", "Added", "ResidentStore"]

RASTER = -1
"""In place of the group of a frame's background: the frame is composed at its coded size."""

EVICTED_SHARE = 0.125
"""Share of the frames evicted at a time, so that copying is rare."""
ADDED_AT_A_TIME = 256
"""Packets that are taken over together; those on their way are not yet within the budget."""


@dataclass(slots=True)
class Added:
    """What became of packets that were offered.

    Attributes:
        trainable: Frames added.
        unlabelled, validation: Frames left out because nobody labelled them, or because they are held out.
        refused: Frames left out because the memory budget is used up.
        evicted: Older frames that made room.
        damaged: Frames left out because they cannot be decoded: place in what was offered, and a sentence.
    """

    trainable: int = 0
    unlabelled: int = 0
    validation: int = 0
    refused: int = 0
    evicted: int = 0
    damaged: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A packet on its way into the store: ``raster`` is None for one of networks only."""

    packet: Packet
    labels: list[tuple[float, ...]]
    raster: RasterFrame | None


@dataclass(slots=True)
class _Columns:
    """Rows of the index tables, collected before they become tensors."""

    frames: list[tuple[int, ...]] = field(default_factory=list)
    objects: list[tuple[int, ...]] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)
    labels: list[tuple[float, ...]] = field(default_factory=list)


class ResidentStore:
    """Labelled frames that are not held out, decoded as far as their pixels do not yet take memory.

    Networks lie in one :class:`Table` a size class, all else in a :class:`RasterStore`. The index (which
    networks and labels a frame has) lies in host memory, so that grouping a batch needs no wait for the
    device; it counts against the budget too. Frames are numbered in the order of arrival and are evicted
    oldest first.

    Args:
        device: Where the quantized tensors live.
        budget_bytes: Bound on the bytes of all tables, spare rows included, and of all else that is kept.
        settings: Class list and class map of the deployment.
        when_full: Evict the oldest frames, or refuse new ones.
    """

    def __init__(
        self,
        device: torch.device | str,
        budget_bytes: int,
        settings: TrainingSettings,
        when_full: Literal["evict", "refuse"] = "evict",
    ) -> None:
        self.device = torch.device(device)
        self.budget_bytes = budget_bytes
        self.when_full = when_full
        self._settings = settings
        self.rasters = RasterStore(self.device)
        """Frames whose group is :data:`RASTER`."""
        self._keys: list[GroupKey] = []
        self._groups: list[Table] = []
        long = torch.int64
        # group, row (for RASTER the number in ``rasters``), objects (first, count), labels (first, count),
        # coded height, coded width
        self._frames = Table([torch.empty(0, 8, dtype=long)])
        # group, row, x0, y0, x1, y1, box | residual scale
        self._objects = Table([torch.empty(0, 7, dtype=long), torch.empty(0)])
        # class, x centre, y centre, width, height as shares of the coded frame
        self._labels = Table([torch.empty(0, 5)])

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def first(self) -> int:
        """Number of the oldest frame."""
        return self._frames.first

    @property
    def end(self) -> int:
        """Number that the next frame will get."""
        return self._frames.end

    @property
    def nbytes(self) -> int:
        """Bytes that the frames take, in device and host memory."""
        return sum(t.nbytes for t in self._tables) + self.rasters.nbytes

    @property
    def boxes(self) -> int:
        """Number of labels of the resident frames."""
        return len(self._labels)

    @property
    def group_keys(self) -> tuple[GroupKey, ...]:
        """Size classes seen so far."""
        return tuple(self._keys)

    @property
    def _tables(self) -> list[Table]:
        return [self._frames, self._objects, self._labels, *self._groups]

    def add(self, packets: Sequence[Packet], keyframes: Mapping[bytes, Packet] | None = None) -> Added:
        """Append packets in order; may be called between any two batches.

        Args:
            packets: Of any profile.
            keyframes: Packets that they may refer to, by content hash.

        Raises:
            LearningError: A label's class is neither listed nor mapped; nothing of ``packets`` was added.
        """
        added = Added()
        usable = []
        for place, packet in enumerate(packets):
            if packet.validation:
                added.validation += 1
            elif not packet.labelled:
                added.unlabelled += 1
            else:
                usable.append((place, packet, self._label_rows(packet)))
        for at in range(0, len(usable), ADDED_AT_A_TIME):
            incoming = []
            for place, packet, labels in usable[at : at + ADDED_AT_A_TIME]:
                raster = None
                try:
                    if is_vector(packet):
                        check_network_work(packet)
                    else:
                        raster = self.rasters.prepare(packet, keyframes or {})
                except PacketError as error:
                    added.damaged.append((place, str(error)))
                else:
                    incoming.append(_Incoming(packet, labels, raster))
            self._append(incoming, added)
        return added

    def frame_rows(self, frames: Tensor) -> Tensor:
        """Index rows (B, 8) int64 of frames by number: group or RASTER, row, objects first and count, labels
        first and count, coded height and width; on the host.

        Raises:
            LearningError: A frame is not resident.
        """
        if len(frames) and not (self.first <= int(frames.min()) and int(frames.max()) < self.end):
            raise LearningError(
                f"frames {int(frames.min())} to {int(frames.max())} were asked for, but only {self.first} to "
                f"{self.end - 1} are resident; draw frames from the sampler"
            )
        return self._frames.columns[0][self._frames.places(frames)]

    def object_rows(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Index rows (M, 7) int64 of objects (group, row, x0, y0, x1, y1, box) and residual scales (M,)."""
        places = self._objects.places(numbers)
        rows, scales = self._objects.columns
        return rows[places], scales[places]

    def label_rows(self, numbers: Tensor) -> Tensor:
        """(L, 5) float32 class, x centre, y centre, width, height; shares of the coded frame."""
        return self._labels.columns[0][self._labels.places(numbers)]

    def group(self, index: int) -> tuple[NetworkGroup, Table]:
        """Size class ``index``: its networks, and the table whose ``places`` turns row numbers into rows."""
        table = self._groups[index]
        return NetworkGroup(self._keys[index], table.columns[:-1], table.columns[-1]), table

    def _label_rows(self, packet: Packet) -> list[tuple[float, ...]]:
        rows: list[tuple[float, ...]] = []
        for box in packet.boxes:
            index = self._settings.class_index(box.name)
            if index is None:
                raise LearningError(
                    f"a frame has a box of the unknown class {box.name!r}; "
                    "add it to 'classes' or map it in 'class_map'"
                )
            centre = (box.x0 + box.x1) / 2 / packet.width, (box.y0 + box.y1) / 2 / packet.height
            rows.append((index, *centre, (box.x1 - box.x0) / packet.width, (box.y1 - box.y0) / packet.height))
        return rows

    def _append(self, packets: Sequence[_Incoming], added: Added) -> None:
        """Append one slice that is as large as the budget allows."""
        if not packets:
            return
        if not self._make_room(packets, added):
            if len(packets) == 1:
                added.refused += 1
                return
            # Refused as a whole: halves may still fit.
            self._append(packets[: len(packets) // 2], added)
            self._append(packets[len(packets) // 2 :], added)
            return
        networks: dict[int, list[Network]] = {}
        columns = _Columns()
        for incoming in packets:
            self._index_packet(incoming, networks, columns)
        parts: list[tuple[Table, list[Tensor]]] = []
        for group, members in networks.items():
            packed = NetworkGroup.pack(members, self.device)
            parts.append((self._groups[group], [*packed.values, packed.scales]))
        parts.append((self._frames, [torch.tensor(columns.frames, dtype=torch.int64)]))
        if columns.objects:
            objects = torch.tensor(columns.objects, dtype=torch.int64)
            parts.append((self._objects, [objects, torch.tensor(columns.scales)]))
        if columns.labels:
            parts.append((self._labels, [torch.tensor(columns.labels)]))
        needed = sum(table.growth(len(new[0])) for table, new in parts)
        for table, new in parts:
            # Half of what is left is spare room for this table, so that several may grow.
            spare = max(0, self.budget_bytes - self.nbytes - needed) // 2
            needed -= table.growth(len(new[0]))
            table.append(new, spare)
        added.trainable += len(packets)

    def _index_packet(
        self, incoming: _Incoming, networks: dict[int, list[Network]], columns: _Columns
    ) -> None:
        def place(network: Network) -> tuple[int, int]:
            group = self._group_of(network)
            members = networks.setdefault(group, [])
            members.append(network)
            return group, self._groups[group].end + len(members) - 1

        packet = incoming.packet
        first_object = self._objects.end + len(columns.objects)
        first_label = self._labels.end + len(columns.labels)
        count = 0
        if incoming.raster is not None:
            background = RASTER, self.rasters.append(incoming.raster)
        else:
            network, patches = network_contents(packet)
            background = place(network)
            for item, residual in patches:
                region = packet.boxes[item.box].region(packet.width, packet.height)
                if region is not None:
                    columns.objects.append((*place(residual), *region, item.box))
                    columns.scales.append(item.residual_scale)
                    count += 1
        columns.labels.extend(incoming.labels)
        columns.frames.append(
            (
                *background,
                first_object,
                count,
                first_label,
                len(incoming.labels),
                packet.height,
                packet.width,
            )
        )

    def _group_of(self, network: Network) -> int:
        key = group_key(network)
        if key not in self._keys:
            empty = NetworkGroup.pack([network], self.device)
            self._keys.append(key)
            self._groups.append(Table([c[:0] for c in (*empty.values, empty.scales)]))
        return self._keys.index(key)

    def _make_room(self, packets: Sequence[_Incoming], added: Added) -> bool:
        """Trim or evict until ``packets`` fit; False if they do not fit."""
        if self._fits(packets):
            return True
        for table in self._tables:
            table.trim()
        while not self._fits(packets):
            if self.when_full == "refuse" or len(self) == 0:
                return False
            added.evicted += self._evict(math.ceil(len(self) * EVICTED_SHARE))
        return True

    def _fits(self, packets: Sequence[_Incoming]) -> bool:
        rows: dict[int, int] = {}
        objects = 0
        for incoming in packets:
            if incoming.raster is None:
                background, patches = network_contents(incoming.packet)
                objects += len(patches)
                for network in (background, *(residual for _, residual in patches)):
                    group = self._group_of(network)
                    rows[group] = rows.get(group, 0) + 1
        growth = self.rasters.growth([x.raster for x in packets if x.raster is not None])
        growth += sum(self._groups[group].growth(count) for group, count in rows.items())
        growth += self._frames.growth(len(packets)) + self._objects.growth(objects)
        growth += self._labels.growth(sum(len(x.labels) for x in packets))
        return self.nbytes + growth <= self.budget_bytes

    def _evict(self, count: int) -> int:
        """Drop the oldest ``count`` frames with their networks and labels; returns how many there were."""
        count = min(count, len(self))
        gone = self.frame_rows(torch.arange(self.first, self.first + count))
        objects = int(gone[-1, 2] + gone[-1, 3])
        rows, _ = self.object_rows(torch.arange(self._objects.first, objects))
        for groups, numbers in ((gone[:, 0], gone[:, 1]), (rows[:, 0], rows[:, 1])):
            for group in np.unique(groups.numpy()):
                # Rows of a group are in the order of their frames, so what goes is always a front part.
                kept = self.rasters if group == RASTER else self._groups[group]
                kept.drop(int(numbers[groups == int(group)].max()) + 1)
        self._frames.drop(self.first + count)
        self._objects.drop(objects)
        self._labels.drop(int(gone[-1, 4] + gone[-1, 5]))
        for table in self._tables:
            table.trim()
        return count
