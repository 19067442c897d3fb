"""Frames laid aside beside the training device: their packets and what was decoded of them once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from common.bitstream import decode_packet, encode_packet
from common.bitstream.packet import Packet
from common.errors import PacketError
from common.inr.decode import is_vector
from common.learning.raster_frame import RasterFrame
from common.learning.raster_store import Integers, RasterStore
from common.learning.spill import Spill

__all__ = ["Aside", "Returned"]


@dataclass(frozen=True, slots=True)
class Returned:
    """A frame that was read back.

    Attributes:
        number: Its number in the store.
        packet: The packet.
        raster: Ready to be kept on the device; None for a packet of networks only.
    """

    number: int
    packet: Packet
    raster: RasterFrame | None


class Aside:
    """Frames in a :class:`Spill`, as their packets with the integers of their pyramids beside them.

    Entropy decoding is what takes long about a pyramid; with its integers at hand a frame is back on the
    device within a millisecond. A keyframe is kept once for all frames that refer to it.

    Args:
        spill: Where the bytes lie. Numbers below zero are those of keyframes.
        rasters: Prepares frames for the device.
    """

    def __init__(self, spill: Spill, rasters: RasterStore) -> None:
        self.spill = spill
        self._rasters = rasters
        self._frames: dict[int, bytes | None] = {}
        self._keyframes: dict[bytes, tuple[int, int]] = {}
        self._last = 0

    def put(self, number: int, packet: Packet, integers: Integers, keyframes: Mapping[bytes, Packet]) -> bool:
        """Lay a frame aside; False when there is no room for it."""
        digest = packet.keyframe
        if digest is not None and digest not in self._keyframes:
            self._last -= 1
            if not self.spill.put(self._last, _record(keyframes[digest], integers, None)):
                return False
            self._keyframes[digest] = self._last, 0
        if not self.spill.put(number, _record(packet, integers, digest)):
            self._release(digest, 0)
            return False
        self._frames[number] = digest
        self._release(digest, 1)
        return True

    def fetch(self, numbers: Sequence[int]) -> list[Returned]:
        """Read frames back and prepare them; those that have gone or are damaged are left out."""
        returned = []
        for number, record in zip(numbers, self.spill.get(numbers), strict=True):
            with contextlib.suppress(PacketError, ValueError, TypeError):
                found = None if record is None else self._prepared(number, record)
                if found is not None:
                    returned.append(found)
        return returned

    def _prepared(self, number: int, record: bytes) -> Returned | None:
        packet, integers, digest = _read(record)
        if is_vector(packet):
            return Returned(number, packet, None)
        keyframes: dict[bytes, Packet] = {}
        if digest is not None:
            place = self._keyframes.get(digest)
            kept = None if place is None else self.spill.get([place[0]])[0]
            if kept is None:
                return None
            keyframes[digest], more, _ = _read(kept)
            integers |= more
        return Returned(number, packet, self._rasters.prepare(packet, keyframes, integers))

    def forget(self, numbers: Sequence[int]) -> None:
        """Drop frames, and keyframes with the last that refers to them."""
        mine = [number for number in numbers if number in self._frames]
        for number in mine:
            self._release(self._frames.pop(number), -1)
        self.spill.drop(mine)

    def _release(self, digest: bytes | None, change: int) -> None:
        """Change the number of frames that refer to a keyframe."""
        if digest is None:
            return
        number, users = self._keyframes[digest]
        if users + change > 0:
            self._keyframes[digest] = number, users + change
        else:
            del self._keyframes[digest]
            self.spill.drop([number])


def _record(packet: Packet, integers: Integers, keyframe: bytes | None) -> bytes:
    """A packet, those of the integers that are its own, and the keyframe that it refers to."""
    mine = {part.data for part in _coded(packet)}
    held = [[*place, data] for place, data in integers.items() if place[0] in mine]
    record: bytes = msgpack.packb([encode_packet(packet), held, keyframe])
    return record


def _read(record: bytes) -> tuple[Packet, Integers, bytes | None]:
    packet, held, keyframe = msgpack.unpackb(record)
    return decode_packet(packet), {tuple(place): data for *place, data in held}, keyframe


def _coded(packet: Packet) -> list[Any]:
    """The parts of a packet that were decoded on arrival: pyramids and image files."""
    background = packet.background
    parts = [background, *(patch.content for patch in packet.objects)]
    parts += [part.content for part in getattr(background, "updates", ())]
    return [part for part in parts if hasattr(part, "data")]
