"""Packet files decoded to pictures, several at a time, damaged ones set aside."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from common.bitstream import Packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.errors import ImageError, PacketError
from edge_node.packet_files import read_packet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["PacketPixels"]

BATCH = 16
"""Packets decoded together at most: enough to fill groups."""
BATCH_PIXELS = 8 << 20
"""Output pixels decoded together, unless one picture alone has more; each takes about 20 bytes."""

Item: TypeAlias = tuple[Path, Packet]


class PacketPixels:
    """Decodes packet files.

    Args:
        keyframes: Packets to which others refer.
        device: Where to decode.
        size: Output height and width, pixels; None: the coded size of each packet.

    Attributes:
        seconds: Time spent decoding, from packets in memory to RGB on the device.
        damaged: A sentence for each packet that was passed over.
    """

    def __init__(
        self, keyframes: KeyframeFiles, device: torch.device, size: tuple[int, int] | None = None
    ) -> None:
        self.seconds = 0.0
        self.damaged: list[str] = []
        self._keyframes = keyframes
        self._device = device
        self._size = size

    def decode(self, files: Iterable[Path]) -> Iterator[tuple[Path, Packet, Tensor]]:
        """Decode files in order.

        Yields:
            The file, its packet, and (3, height, width) uint8 RGB on the device.
        """
        for batch in self._batches(files):
            begin = time.perf_counter()
            decoded = self._decoded(batch)
            self.seconds += time.perf_counter() - begin
            yield from decoded

    def _batches(self, files: Iterable[Path]) -> Iterator[list[Item]]:
        """Neighbouring packets of one output size, bounded in number and pixels."""
        batch: list[Item] = []
        for file in files:
            try:
                packet = read_packet(file)
                self._keyframes.require(file, packet)
            except PacketError as error:
                self.damaged.append(str(error))
                continue
            shape = self._shape(packet)
            full = (len(batch) + 1) * shape[0] * shape[1] > BATCH_PIXELS or len(batch) == BATCH
            if batch and (full or shape != self._shape(batch[0][1])):
                yield batch
                batch = []
            batch.append((file, packet))
        if batch:
            yield batch

    def _shape(self, packet: Packet) -> tuple[int, int]:
        return self._size or (packet.height, packet.width)

    def _decoded(self, batch: Sequence[Item]) -> list[tuple[Path, Packet, Tensor]]:
        """Packets whose contents are damaged are set aside."""
        import torch

        from common.inr.compose import to_bytes
        from common.inr.decode import compose_packets

        packets = [packet for _, packet in batch]
        try:
            composed = compose_packets(
                packets, self._shape(packets[0]), device=self._device, keyframes=self._keyframes
            )
            pixels = to_bytes(composed)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        except (PacketError, ImageError) as error:
            if len(batch) == 1:
                self.damaged.append(f"{batch[0][0]}: {error}")
                return []
            # One by one, to find which.
            return [found for item in batch for found in self._decoded([item])]
        return [(*item, image) for item, image in zip(batch, pixels, strict=True)]
