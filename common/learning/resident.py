"""The resident store: what packets hold on the training device, networks grouped by size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.bitstream.packet import Network, Packet
from common.errors import LearningError, PacketError
from common.frame import FrameIdentity
from common.inr.decode import is_vector
from common.inr.groups import GroupKey, NetworkGroup, group_key
from common.inr.vector import check_network_work, network_contents
from common.learning.frame_index import ELSEWHERE, IDENTITY_BYTES, RASTER, Columns, FrameIndex, spans
from common.learning.laid_aside import Aside, Returned
from common.learning.offers import Added, Incoming, KnownLabels, label_rows
from common.learning.raster_frame import RasterFrame
from common.learning.raster_store import Integers, RasterStore
from common.learning.settings import TrainingSettings
from common.learning.spill import Spill
from common.learning.tables import Table
from common.learning.usefulness import Usefulness

__all__ = ["RASTER", "Added", "KnownLabels", "ResidentStore"]

EVICTED_SHARE = 0.125
"""Share of the frames evicted at a time, so that choosing and copying are rare."""
ADDED_AT_A_TIME = 256
"""Packets that are taken over together; those on their way are not yet within the budget."""
SPARE_SHARE = 1 / 16
"""Share of the budget in spare and removed rows above which these go before a frame is laid aside."""
RETURNED_SHARE = 0.125
"""Share of the budget that is left to frames which are brought to the device for one batch."""


class ResidentStore:
    """Labelled frames that are not held out, decoded as far as their pixels do not yet take memory.

    Networks lie in one :class:`Table` a size class, all else in a :class:`RasterStore`, indexed by a
    :class:`FrameIndex`; all of it counts against the budget. Frames are numbered in the order of arrival.
    Those for which the device has no room are laid aside in a :class:`Spill` and brought back for a batch
    (:meth:`stage`); when that is full too, the least useful frames are evicted, wherever they lie.

    Args:
        device: Where the quantized tensors live.
        budget_bytes: Bound on the bytes of all tables, spare rows included, and of all else that is kept.
        settings: Class list and class map of the deployment, budgets of frames laid aside, what is useful.
        when_full: Evict the least useful frames, or refuse new ones.
        folder: Where frames are laid aside on disk; None: nothing is laid aside.
    """

    def __init__(
        self,
        device: torch.device | str,
        budget_bytes: int,
        settings: TrainingSettings,
        when_full: Literal["evict", "refuse"] = "evict",
        folder: Path | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.budget_bytes = budget_bytes
        self.when_full = when_full
        self._settings = settings
        self.rasters = RasterStore(self.device, settings.decode_bytes)
        """Frames whose group is :data:`RASTER`."""
        self.useful = Usefulness(settings.keep, settings.seed)
        """What decides which frames go first."""
        self._index = FrameIndex()
        self._keys: list[GroupKey] = []
        self._groups: list[Table] = []
        host, disk = (settings.host_bytes, settings.disk_bytes) if folder is not None else (0, 0)
        self._aside = Aside(Spill(host, disk, folder), self.rasters) if host or disk else None
        self._staged: list[int] = []
        self.new_from = 0
        """Frames from this number on are new since the last round."""

    def __len__(self) -> int:
        return len(self._index.frames)

    @property
    def numbers(self) -> Tensor:
        """(F,) int64 numbers of all frames, ascending: the order of arrival."""
        return self._index.frames.numbers

    @property
    def end(self) -> int:
        """Number that the next frame will get."""
        return self._index.frames.end

    @property
    def nbytes(self) -> int:
        """Bytes that the frames take, in device and host memory, without those laid aside."""
        return self._index.nbytes + sum(t.nbytes for t in self._groups) + self.rasters.nbytes

    @property
    def aside(self) -> Spill | None:
        """Where frames are laid aside."""
        return None if self._aside is None else self._aside.spill

    @property
    def boxes(self) -> int:
        """Labels of all frames."""
        return len(self._index.labels)

    def resident(self, frames: Tensor) -> Tensor:
        """Which (N,) bool of the frames (N,) int64 are here, on the device or laid aside."""
        return self._index.frames.has(frames)

    def number_of(self, identity: FrameIdentity) -> int | None:
        """The number of this frame, if it is here."""
        return self._index.number_of(identity)

    def add(
        self,
        packets: Sequence[Packet],
        keyframes: Mapping[bytes, Packet] | None = None,
        corrected: Mapping[int, KnownLabels] | None = None,
    ) -> Added:
        """Append packets in order; may be called between any two batches.

        Args:
            packets: Of any profile.
            keyframes: Packets that they may refer to, by content hash.
            corrected: Labels that hold instead of a packet's own, by place in ``packets``.

        Raises:
            LearningError: A label's class is neither listed nor mapped; nothing of ``packets`` was added.
        """
        added = Added()
        usable = []
        for place, packet in enumerate(packets):
            correct = (corrected or {}).get(place) or KnownLabels(
                packet.labelled, packet.boxes, packet.width, packet.height
            )
            if packet.validation:
                added.validation += 1
            elif not correct.labelled:
                added.unlabelled += 1
            else:
                usable.append((place, packet, label_rows(correct, self._settings)))
        for at in range(0, len(usable), ADDED_AT_A_TIME):
            incoming = []
            for place, packet, labels in usable[at : at + ADDED_AT_A_TIME]:
                raster: RasterFrame | None = None
                integers: Integers = {}
                try:
                    if is_vector(packet):
                        check_network_work(packet)
                    else:
                        keep = integers if self._aside is not None else None
                        raster = self.rasters.prepare(packet, keyframes or {}, keep)
                except PacketError as error:
                    added.damaged.append((place, str(error)))
                else:
                    incoming.append(Incoming(packet, labels, raster, integers))
            self._take(incoming, keyframes or {}, added)
        return added

    def relabel(self, number: int, correct: KnownLabels) -> None:
        """Replace the labels of a frame that is here.

        Raises:
            LearningError: A class is neither listed nor mapped; nothing was changed.
        """
        labels = label_rows(correct, self._settings)
        self._index.relabel(number, labels)
        self.useful.arrived(number, [int(row[0]) for row in labels])

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget frames, wherever they lie."""
        gone = torch.tensor(sorted(numbers), dtype=torch.int64)
        self._drop_parts(gone)
        self._index.remove(gone)
        self.useful.gone(numbers)
        self._staged = [number for number in self._staged if number not in set(numbers)]
        if self._aside is not None:
            self._aside.forget(numbers)

    def away(self, frames: Sequence[int]) -> list[int]:
        """Those of these frames that must be brought to the device before they can be decoded."""
        if self._aside is None or not len(self._aside.spill):
            return []
        chosen = torch.tensor(sorted(set(frames)), dtype=torch.int64)
        chosen = chosen[self.resident(chosen)]
        return chosen[self._index.rows(chosen)[:, 0] == ELSEWHERE].tolist()

    def fetch(self, frames: Sequence[int]) -> list[Returned]:
        """Read frames that are laid aside; may be called from any thread, beside everything else."""
        return [] if self._aside is None else self._aside.fetch(frames)

    def stage(self, returned: Sequence[Returned]) -> None:
        """Put frames that were fetched on the device, until :meth:`unstage`."""
        for frame in returned:
            here = bool(self.resident(torch.tensor([frame.number]))[0])
            if not here or frame.number in self._staged:
                continue
            networks: dict[int, list[Network]] = {}
            columns = Columns()
            group, row, first, count = self._place(frame.packet, frame.raster, networks, columns)
            self._append_parts(networks, columns.parts(self._index)[1:] if columns.objects else [])
            self._index.move(frame.number, group, row, (first, count))
            self._staged.append(frame.number)

    def unstage(self) -> None:
        """Take the frames of :meth:`stage` off the device again."""
        if self._staged:
            numbers = torch.tensor(sorted(self._staged), dtype=torch.int64)
            self._drop_parts(numbers)
            for number in self._staged:
                self._index.move(number, ELSEWHERE, 0, (0, 0))
            self._staged = []

    def frame_rows(self, frames: Tensor) -> Tensor:
        """Index rows (B, 8) int64 of frames by number: group or RASTER, row, objects first and count, labels
        first and count, coded height and width; on the host.

        Raises:
            LearningError: A frame is not on the device.
        """
        rows = self._index.rows(frames)
        if bool((rows[:, 0] == ELSEWHERE).any()):
            raise LearningError("a frame that is laid aside was asked for; stage it first")
        return rows

    def object_rows(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Index rows (M, 7) int64 of objects (group, row, x0, y0, x1, y1, box) and residual scales (M,)."""
        table = self._index.objects
        places = table.places(numbers)
        rows, scales = table.columns
        return rows[places], scales[places]

    def label_rows(self, numbers: Tensor) -> Tensor:
        """(L, 5) float32 class, x centre, y centre, width, height; shares of the coded frame."""
        table = self._index.labels
        return table.columns[0][table.places(numbers)]

    def group(self, index: int) -> tuple[NetworkGroup, Table]:
        """Size class ``index``: its networks, and the table whose ``places`` turns row numbers into rows."""
        table = self._groups[index]
        return NetworkGroup(self._keys[index], table.columns[:-1], table.columns[-1]), table

    def _take(self, packets: Sequence[Incoming], keyframes: Mapping[bytes, Packet], added: Added) -> None:
        """Take over one slice that is as large as the budgets allow."""
        if not packets:
            return
        if self._fits(packets):
            self._append(packets, added)
            return
        if len(packets) > 1:
            # Not as a whole: halves may still fit.
            self._take(packets[: len(packets) // 2], keyframes, added)
            self._take(packets[len(packets) // 2 :], keyframes, added)
            return
        (incoming,) = packets
        if self._spare() > SPARE_SHARE * self.budget_bytes:
            self._trim()
        while not self._fits(packets):
            if self._lay_aside(incoming, keyframes):
                added.trainable += 1
                added.aside += 1
                return
            if self.when_full == "refuse" or len(self) == 0:
                added.refused += 1
                return
            gone = self.useful.least(math.ceil(len(self) * EVICTED_SHARE))
            self.remove(gone)
            self._trim()
            added.evicted += len(gone)
        self._append(packets, added)

    def _append(self, packets: Sequence[Incoming], added: Added) -> None:
        networks: dict[int, list[Network]] = {}
        columns = Columns()
        for incoming in packets:
            place = self._place(incoming.packet, incoming.raster, networks, columns)
            self._enter(incoming, place, columns)
        self._append_parts(networks, columns.parts(self._index))
        added.trainable += len(packets)

    def _enter(self, incoming: Incoming, place: tuple[int, int, int, int], columns: Columns) -> None:
        """The rows of a new frame and what else is remembered of it."""
        packet, labels = incoming.packet, incoming.labels
        number = self.end + len(columns.frames)
        first = self._index.labels.end + len(columns.labels)
        columns.labels.extend(labels)
        columns.frames.append((*place, first, len(labels), packet.height, packet.width))
        self._index.name(number, packet.identity)
        self.useful.arrived(number, [int(row[0]) for row in labels])

    def _lay_aside(self, incoming: Incoming, keyframes: Mapping[bytes, Packet]) -> bool:
        """Whether a frame was laid aside; its labels and its place in the index stay in memory."""
        indexed = self.nbytes + self._index.growth(1, 0, len(incoming.labels)) <= self.budget_bytes
        if not indexed or self._aside is None:
            return False
        if not self._aside.put(self.end, incoming.packet, incoming.integers, keyframes):
            return False
        columns = Columns()
        self._enter(incoming, (ELSEWHERE, 0, 0, 0), columns)
        self._append_parts({}, columns.parts(self._index))
        return True

    def _append_parts(
        self, networks: Mapping[int, Sequence[Network]], rows: Sequence[tuple[Table, list[Tensor]]]
    ) -> None:
        parts: list[tuple[Table, list[Tensor]]] = []
        for group, members in networks.items():
            packed = NetworkGroup.pack(members, self.device)
            parts.append((self._groups[group], [*packed.values, packed.scales]))
        parts += rows
        needed = sum(table.growth(len(new[0])) for table, new in parts)
        needed += IDENTITY_BYTES * sum(len(new[0]) for table, new in rows if table is self._index.frames)
        for table, new in parts:
            # Half of what is left is spare room for this table, so that several may grow.
            spare = max(0, self.budget_bytes - self.nbytes - needed) // 2
            needed -= table.growth(len(new[0]))
            table.append(new, spare)

    def _place(
        self,
        packet: Packet,
        raster: RasterFrame | None,
        networks: dict[int, list[Network]],
        columns: Columns,
    ) -> tuple[int, int, int, int]:
        """Group, row, first object and objects of a frame whose parts are appended after this."""

        def place(network: Network) -> tuple[int, int]:
            group = self._group_of(network)
            members = networks.setdefault(group, [])
            members.append(network)
            return group, self._groups[group].end + len(members) - 1

        first = self._index.objects.end + len(columns.objects)
        if raster is not None:
            return RASTER, self.rasters.append(raster), first, 0
        network, patches = network_contents(packet)
        group, row = place(network)
        count = 0
        for item, residual in patches:
            region = packet.boxes[item.box].region(packet.width, packet.height)
            if region is not None:
                columns.objects.append((*place(residual), *region, item.box))
                columns.scales.append(item.residual_scale)
                count += 1
        return group, row, first, count

    def _group_of(self, network: Network) -> int:
        key = group_key(network)
        if key not in self._keys:
            empty = NetworkGroup.pack([network], self.device)
            self._keys.append(key)
            self._groups.append(Table([c[:0] for c in (*empty.values, empty.scales)]))
        return self._keys.index(key)

    def _spare(self) -> int:
        """Bytes of spare and removed rows."""
        tables = (*self._index.tables, *self._groups)
        return sum((table.capacity - len(table)) * table.row_bytes for table in tables)

    def _trim(self) -> None:
        for table in (*self._index.tables, *self._groups):
            table.trim()

    def _fits(self, packets: Sequence[Incoming]) -> bool:
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
        growth += self._index.growth(len(packets), objects, sum(len(x.labels) for x in packets))
        share = 1.0 if self._aside is None else 1 - RETURNED_SHARE
        return self.nbytes + growth <= share * self.budget_bytes

    def _drop_parts(self, numbers: Tensor) -> None:
        """Take the networks and the raster of these frames off the device."""
        frames = self._index.rows(numbers)
        objects = spans(frames[:, 2:4])
        rows, _ = self.object_rows(objects)
        held = torch.cat([frames[:, :2], rows[:, :2]])
        for group in held[:, 0].unique().tolist():
            mine = held[held[:, 0] == group, 1]
            if group == RASTER:
                self.rasters.drop(mine.tolist())
            elif group != ELSEWHERE:
                self._groups[group].remove(mine)
        self._index.objects.remove(objects)
        for number in numbers.tolist():
            self._index.move(number, ELSEWHERE, 0, (0, 0))
