"""Keyframes by content hash among the packet files of a folder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.bitstream.codec import MAX_PACKET_BYTES, decode_packet
from common.bitstream.packet import Packet
from common.errors import KeyframeError, PacketError
from common.frame import content_digest

__all__ = ["PACKET_SUFFIX", "KeyframeFiles"]

PACKET_SUFFIX = ".rinr"
"""Of packet files."""
HELD = 16
"""Parsed keyframes held in memory; neighbouring frames share theirs."""


class KeyframeFiles(Mapping[bytes, Packet]):
    """The packets of a folder by the SHA-256 of their files.

    Files are hashed when a keyframe is first asked for, and new ones when one is not found, so that a folder
    may grow meanwhile.

    Args:
        folder: Where packet files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[bytes, Path] = {}
        self._seen: dict[Path, tuple[int, int]] = {}
        self._held: OrderedDict[bytes, Packet] = OrderedDict()

    def __getitem__(self, digest: bytes) -> Packet:
        held = self._held.get(digest)
        if held is None:
            held = self._held[digest] = self._load(digest)
            if len(self._held) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(digest)
        return held

    def __contains__(self, digest: object) -> bool:
        if digest not in self._paths:
            self._look()
        return digest in self._paths

    def __iter__(self) -> Iterator[bytes]:
        self._look()
        return iter(list(self._paths))

    def __len__(self) -> int:
        if not self._paths:
            self._look()
        return len(self._paths)

    def require(self, path: Path, packet: Packet) -> None:
        """Check that ``packet``, read from ``path``, can be decoded with what is in the folder.

        Raises:
            KeyframeError: Its keyframe is not there.
        """
        if packet.keyframe is not None and packet.keyframe not in self:
            raise KeyframeError(
                f"{path} needs the keyframe {packet.keyframe.hex()[:16]}, but no packet in {self._folder} "
                "has this content hash; put the keyframe's file beside it"
            )

    def _load(self, digest: bytes) -> Packet:
        if digest not in self:
            raise KeyError(digest)
        data = _read(self._paths[digest])
        if content_digest(data) != digest:
            # Replaced since it was hashed.
            del self._paths[digest]
            raise KeyError(digest)
        try:
            return decode_packet(data)
        except PacketError as error:
            raise KeyError(digest) from error

    def _look(self) -> None:
        """Hash the files that are new or were changed since the last look."""
        for path in sorted(self._folder.glob(f"*{PACKET_SUFFIX}")):
            try:
                found = path.stat()
                mark = (found.st_mtime_ns, found.st_size)
                if found.st_size > MAX_PACKET_BYTES or self._seen.get(path) == mark:
                    continue
                self._paths[content_digest(_read(path))] = path
            except OSError:
                continue
            self._seen[path] = mark


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PACKET_BYTES + 1)
