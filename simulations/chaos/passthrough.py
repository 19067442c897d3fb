"""``python -m simulations.chaos.passthrough``: an encoder that stores frames without fitting.

A packet is a magic, the image's content hash and the image itself, so a store's content tells which frame it
was made of, and an encoding takes no time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from common.errors import PacketFormatError
from common.frame import Frame, content_digest
from fog_node.encoder_worker import BatchEncoder, serve
from fog_node.workers.encoder_messages import Encoded, NotEncoded, StartEncoder

__all__ = ["MODULE", "factory", "packet_of", "source_of"]

MODULE = "simulations.chaos.passthrough"
"""Value of the fog's setting ``workers.module``."""

MAGIC = b"passthrough\n"
DIGEST_BYTES = 32

QUALITY_DB = 99.0
"""Nothing is lost."""


def packet_of(image: bytes) -> bytes:
    """The packet of an image."""
    return MAGIC + content_digest(image) + image


def source_of(packet: bytes) -> bytes:
    """Content hash of the image that a packet holds, 32 bytes.

    Raises:
        PacketFormatError: It is none of these packets, or its image is another one than it says.
    """
    head = len(MAGIC) + DIGEST_BYTES
    digest = packet[len(MAGIC) : head]
    if not packet.startswith(MAGIC) or content_digest(packet[head:]) != digest:
        raise PacketFormatError("these bytes are no packet of the profile that stores frames as they are")
    return digest


def factory(start: StartEncoder) -> BatchEncoder:
    """An encoder; it has no settings."""

    def encode(frames: Sequence[Frame]) -> list[Encoded | NotEncoded]:
        return [
            Encoded(packet_of(frame.image), QUALITY_DB, tuple(QUALITY_DB for _ in frame.boxes), 0.0, True)
            for frame in frames
        ]

    return encode


if __name__ == "__main__":
    sys.exit(serve(factory, max_bytes=int(sys.argv[1]) if len(sys.argv) > 1 else 64 << 20))
