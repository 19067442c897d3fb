"""A reference to a keyframe <-> bytes."""

from __future__ import annotations

import math
import struct

from common.bitstream.fields import FieldReader, varint_bytes
from common.bitstream.motion_payload import decode_motion, encode_motion
from common.bitstream.packet import Reference, Update
from common.bitstream.pyramid_payload import decode_pyramid, encode_pyramid
from common.errors import PacketFormatError

__all__ = ["MAX_UPDATES", "decode_reference", "encode_reference"]

MAX_UPDATES = 256
"""Corrections of one background at most."""
_WARPED, _MOVED = 1, 2
_HASH_BYTES = 32
_ENTRIES = 8


def encode_reference(reference: Reference) -> bytes:
    """Payload of a reference: hash, u8 flags, 8 x f32 homography if warped, motion if moved, updates.

    Motion is a varint length and its payload, an update 4 x u16 region and a pyramid's length and payload.

    Raises:
        PacketFormatError: The hash or homography has another length.
    """
    if len(reference.packet) != _HASH_BYTES:
        raise PacketFormatError(f"a keyframe's hash has {_HASH_BYTES} bytes, not {len(reference.packet)}")
    flags = _WARPED * (reference.homography is not None) | _MOVED * (reference.motion is not None)
    parts = [reference.packet, struct.pack("<B", flags)]
    if reference.homography is not None:
        if len(reference.homography) != _ENTRIES:
            raise PacketFormatError(f"a homography has {_ENTRIES} entries, not {len(reference.homography)}")
        parts.append(struct.pack(f"<{_ENTRIES}f", *reference.homography))
    if reference.motion is not None:
        motion = encode_motion(reference.motion)
        parts += [varint_bytes(len(motion)), motion]
    parts.append(varint_bytes(len(reference.updates)))
    for update in reference.updates:
        payload = encode_pyramid(update.content)
        parts += [struct.pack("<HHHH", *update.region), varint_bytes(len(payload)), payload]
    return b"".join(parts)


def decode_reference(data: bytes, width: int, height: int) -> Reference:
    """The reference of a payload in a frame of this coded size.

    Raises:
        PacketFormatError: The bytes are no reference.
    """
    reader = FieldReader.over(data)
    packet = reader.take(_HASH_BYTES)
    flags = reader.number("B")
    if flags & ~(_WARPED | _MOVED):
        raise PacketFormatError(f"a reference has unknown flags {flags:#04x}")
    homography = None
    if flags & _WARPED:
        homography = struct.unpack(f"<{_ENTRIES}f", reader.take(4 * _ENTRIES))
        if not all(map(math.isfinite, homography)):
            raise PacketFormatError("a homography has an entry that is not a finite number")
    motion = None
    if flags & _MOVED:
        motion = decode_motion(reader.take(reader.varint()), width, height)
    count = reader.varint()
    if count > MAX_UPDATES:
        raise PacketFormatError(f"{count} updates are above the limit of {MAX_UPDATES}")
    updates = []
    for _ in range(count):
        x0, y0, x1, y1 = reader.unpack("HHHH")
        if not (x0 < x1 <= width and y0 < y1 <= height):
            raise PacketFormatError(f"an update of {(x0, y0, x1, y1)} is no region of {width}x{height}")
        updates.append(Update((x0, y0, x1, y1), decode_pyramid(reader.take(reader.varint()))))
    reader.finish("a reference")
    return Reference(packet, homography, tuple(updates), motion)
