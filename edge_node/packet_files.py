"""Packet files on disk: one ``.rinr`` or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.bitstream import Packet, decode_packet
from common.bitstream.codec import MAX_PACKET_BYTES
from common.bitstream.keyframe_files import PACKET_SUFFIX, KeyframeFiles
from common.errors import DatasetError, PacketError

__all__ = ["find_packets", "keyframes_beside", "read_packet"]


def find_packets(path: str | Path) -> list[Path]:
    """The packet file ``path``, or the packet files of the folder ``path``, sorted by name.

    Raises:
        DatasetError: There is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    found: Sequence[Path] = (
        sorted(p for p in path.glob(f"*{PACKET_SUFFIX}") if p.is_file()) if path.is_dir() else []
    )
    if not found:
        raise DatasetError(f"{path} is no packet and no folder of {PACKET_SUFFIX} packets")
    return list(found)


def keyframes_beside(path: str | Path) -> KeyframeFiles:
    """The packets that those of ``path`` may refer to: of the same folder."""
    path = Path(path)
    return KeyframeFiles(path if path.is_dir() else path.parent)


def read_packet(path: Path) -> Packet:
    """Read and check one packet file; an error names the file.

    Raises:
        DatasetError: The file cannot be read.
        PacketError: It is no packet.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PACKET_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return decode_packet(data)
    except PacketError as error:
        raise type(error)(f"{path}: {error}") from error
