"""Every frame of a simulation, as columns: a million of them take some 60 MB."""

from __future__ import annotations

from array import array

__all__ = ["FrameColumns"]


class FrameColumns:
    """Recorded frames by number, in order of recording.

    Attributes:
        device: Number of the device that recorded it.
        trained: 1 when it may be trained on, 0 when it is held out.
        recorded: When, seconds.
        jpeg_bytes: As recorded.
        packet_bytes: As a packet.
        encode_s: Seconds of encoding it.
        uploaded: When it was on the fog's disk, seconds.
        encoded: When its record was in the log, seconds.
        copies: Devices that it was delivered to.
    """

    def __init__(self) -> None:
        self.device = array("q")
        self.trained = array("b")
        self.recorded = array("d")
        self.jpeg_bytes = array("q")
        self.packet_bytes = array("q")
        self.encode_s = array("f")
        self.uploaded = array("d")
        self.encoded = array("d")
        self.copies = array("q")

    def __len__(self) -> int:
        return len(self.device)

    def add(
        self, device: int, trained: bool, recorded: float, jpeg_bytes: int, packet_bytes: int, encode_s: float
    ) -> int:
        """Note a frame; returns its number."""
        self.device.append(device)
        self.trained.append(trained)
        self.recorded.append(recorded)
        self.jpeg_bytes.append(jpeg_bytes)
        self.packet_bytes.append(packet_bytes)
        self.encode_s.append(encode_s)
        self.uploaded.append(0.0)
        self.encoded.append(0.0)
        self.copies.append(0)
        return len(self.device) - 1
