"""Packet <-> bytes; the layout is in README.md beside this file (numpy only, no torch)."""

from __future__ import annotations

import binascii
import math
import struct
import zlib

from zmq.utils import z85

from common.bitstream.fields import FieldReader, text_bytes, varint_bytes
from common.bitstream.image_payload import decode_image, encode_image
from common.bitstream.network_payload import decode_network, encode_network
from common.bitstream.packet import (
    Background,
    ImageFile,
    Network,
    ObjectPatch,
    Packet,
    Pyramid,
    Reference,
)
from common.bitstream.pyramid_payload import decode_pyramid, encode_pyramid
from common.bitstream.raw_networks import read_raw_contents
from common.bitstream.reference_payload import decode_reference, encode_reference
from common.errors import BoxError, PacketChecksumError, PacketFormatError, PacketVersionError
from common.frame import Box, FrameIdentity

__all__ = ["FORMAT_VERSION", "MAX_PACKET_BYTES", "decode_packet", "encode_packet", "label_box"]

MAGIC = b"RINR"
FORMAT_VERSION = 2
"""Written; version 1 is still read."""
MAX_PACKET_BYTES = 16 << 20
"""Larger packets are refused before they are parsed."""
MAX_SIDE = 4095
"""Largest coded width or height: box edges in 1/16 pixel must fit 16 bits."""
MAX_BOXES = 1000
EDGE_STEPS = 16
"""Box edges are stored in steps of 1/16 pixel, rounded outwards so that the pixel region is kept."""

_LABELLED, _VALIDATION, _IDENTITY = 1, 2, 4
_HEAD = struct.Struct("<4sBBI")
_NETWORK, _PYRAMID, _IMAGE, _REFERENCE = range(4)


def label_box(box: Box, width: int, height: int) -> Box | None:
    """``box`` as a packet of this coded size stores it: clipped, edges outwards to 1/16 pixel.

    Returns:
        None when the box lies outside the frame.
    """
    x0, y0 = (max(0, math.floor(v * EDGE_STEPS)) for v in (box.x0, box.y0))
    x1 = min(width * EDGE_STEPS, math.ceil(box.x1 * EDGE_STEPS))
    y1 = min(height * EDGE_STEPS, math.ceil(box.y1 * EDGE_STEPS))
    if x1 <= x0 or y1 <= y0:
        return None
    return Box(x0 / EDGE_STEPS, y0 / EDGE_STEPS, x1 / EDGE_STEPS, y1 / EDGE_STEPS, box.name)


def encode_packet(packet: Packet) -> bytes:
    """Bytes of a packet; ``decode_packet`` gives the same packet back.

    Raises:
        PacketFormatError: The packet is outside what the format can hold.
    """
    if len(packet.source_digest) != 32:
        raise PacketFormatError(f"a source digest has 32 bytes, not {len(packet.source_digest)}")
    classes = list(dict.fromkeys(box.name for box in packet.boxes))
    flags = _LABELLED * packet.labelled | _VALIDATION * packet.validation
    flags |= _IDENTITY * (packet.identity is not None)
    try:
        body = b"".join(
            [
                text_bytes(packet.profile),
                struct.pack("<HH", packet.width, packet.height),
                packet.source_digest,
                b"" if packet.identity is None else _identity_bytes(packet.identity),
                struct.pack("<B", len(classes)),
                *(text_bytes(name) for name in classes),
                struct.pack("<H", len(packet.boxes)),
                *(_box_bytes(box, classes) for box in packet.boxes),
                _content_bytes(packet.background),
                varint_bytes(len(packet.objects)),
                *(_object_bytes(patch) for patch in packet.objects),
            ]
        )
    except (struct.error, OverflowError, ValueError) as error:
        raise PacketFormatError(f"the frame does not fit a packet: {error}") from error
    head = _HEAD.pack(MAGIC, FORMAT_VERSION, flags, _HEAD.size + len(body) + 4)
    data = head + body
    data += struct.pack("<I", zlib.crc32(data))
    decode_packet(data)  # what is written can be read: a packet out of bounds is refused here
    return data


def decode_packet(data: bytes) -> Packet:
    """The packet that ``data`` holds; memory stays within a few times ``len(data)``.

    Raises:
        PacketVersionError: The format version is unknown.
        PacketChecksumError: The bytes were damaged.
        PacketFormatError: Anything else that is not a well-formed packet.
    """
    if len(data) > MAX_PACKET_BYTES:
        raise PacketFormatError(f"a packet of {len(data)} bytes is above the limit of {MAX_PACKET_BYTES}")
    if len(data) < _HEAD.size + 4:
        raise PacketFormatError(f"a packet of {len(data)} bytes is too short to be one")
    magic, version, flags, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise PacketFormatError("the bytes are no packet: they do not begin with RINR")
    if not 1 <= version <= FORMAT_VERSION:
        raise PacketVersionError(
            f"the packet has format version {version}, this program reads up to {FORMAT_VERSION}; "
            "update the older of the two nodes"
        )
    if length != len(data):
        raise PacketFormatError(f"the packet says {length} bytes but has {len(data)}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise PacketChecksumError("the packet was damaged: its checksum does not match")
    if flags & ~(_LABELLED | _VALIDATION | _IDENTITY):
        raise PacketFormatError(f"the packet has unknown flags {flags:#04x}")
    return _read_packet(FieldReader(data, _HEAD.size, len(data) - 4), version, flags)


def _read_packet(reader: FieldReader, version: int, flags: int) -> Packet:
    profile = reader.text("the profile's name")
    width, height = reader.unpack("HH")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise PacketFormatError(f"a frame of {width}x{height} pixels is outside 1..{MAX_SIDE}")
    digest = reader.take(32)
    identity = _read_identity(reader) if flags & _IDENTITY else None
    classes = [reader.text("a class name") for _ in range(reader.number("B"))]
    if len(set(classes)) != len(classes):
        raise PacketFormatError("a class name stands twice")
    count = reader.number("H")
    if count > MAX_BOXES:
        raise PacketFormatError(f"{count} boxes are above the limit of {MAX_BOXES}")
    boxes = tuple(_read_box(reader, classes, width, height) for _ in range(count))
    background: Background
    if version == 1:
        background, objects = read_raw_contents(reader, count)
    else:
        background = _read_content(reader, width, height)
        objects = _read_objects(reader, boxes, background, width, height)
    reader.finish("the packet")
    labelled, validation = bool(flags & _LABELLED), bool(flags & _VALIDATION)
    return Packet(profile, width, height, labelled, validation, boxes, digest, background, objects, identity)


def _read_objects(
    reader: FieldReader, boxes: tuple[Box, ...], background: Background, width: int, height: int
) -> tuple[ObjectPatch, ...]:
    objects: list[ObjectPatch] = []
    for _ in range(reader.varint()):
        index = reader.varint()
        if index >= len(boxes) or (objects and index <= objects[-1].box):
            raise PacketFormatError(f"an object names box {index}, out of order or not there")
        scale = reader.real("a residual's scale")
        content = _read_content(reader, width, height)
        if isinstance(content, Reference):
            raise PacketFormatError("an object must not be a reference")
        if isinstance(background, Network) and not isinstance(content, Network):
            raise PacketFormatError("objects on a background network must be networks, too")
        objects.append(ObjectPatch(index, scale, content))
    return tuple(objects)


def _read_content(reader: FieldReader, width: int, height: int) -> Background:
    kind = reader.number("B")
    payload = reader.take(reader.varint())
    if kind == _NETWORK:
        return decode_network(payload)
    if kind == _PYRAMID:
        return decode_pyramid(payload)
    if kind == _IMAGE:
        return decode_image(payload)
    if kind == _REFERENCE:
        return decode_reference(payload, width, height)
    raise PacketFormatError(f"a content of the unknown kind {kind}")


def _content_bytes(content: Background) -> bytes:
    match content:
        case Network():
            kind, payload = _NETWORK, encode_network(content)
        case Pyramid():
            kind, payload = _PYRAMID, encode_pyramid(content)
        case ImageFile():
            kind, payload = _IMAGE, encode_image(content)
        case Reference():
            kind, payload = _REFERENCE, encode_reference(content)
    return struct.pack("<B", kind) + varint_bytes(len(payload)) + payload


def _object_bytes(patch: ObjectPatch) -> bytes:
    scale = struct.pack("<f", patch.residual_scale)
    return varint_bytes(patch.box) + scale + _content_bytes(patch.content)


def _read_identity(reader: FieldReader) -> FrameIdentity:
    key = z85.encode(reader.take(32)).decode("ascii")
    epoch, number = reader.unpack("QQ")
    return FrameIdentity(key, epoch, number)


def _read_box(reader: FieldReader, classes: list[str], width: int, height: int) -> Box:
    *edges, index = reader.unpack("HHHHB")
    if index >= len(classes):
        raise PacketFormatError(f"a box has class {index} of {len(classes)}")
    x0, y0, x1, y1 = (edge / EDGE_STEPS for edge in edges)
    if x1 > width or y1 > height:
        raise PacketFormatError(f"box {(x0, y0, x1, y1)} reaches over the frame of {width}x{height}")
    try:
        return Box(x0, y0, x1, y1, classes[index])
    except BoxError as error:
        raise PacketFormatError(str(error)) from error


def _box_bytes(box: Box, classes: list[str]) -> bytes:
    edges = [v * EDGE_STEPS for v in (box.x0, box.y0, box.x1, box.y1)]
    if any(edge != int(edge) for edge in edges):
        raise PacketFormatError(f"box {box} is not in steps of 1/{EDGE_STEPS} pixel; use label_box")
    return struct.pack("<HHHHB", *(int(edge) for edge in edges), classes.index(box.name))


def _identity_bytes(identity: FrameIdentity) -> bytes:
    try:
        key = z85.decode(identity.device)
    except (KeyError, ValueError, struct.error, binascii.Error) as error:
        raise PacketFormatError(f"device key {identity.device!r} is not Z85") from error
    if len(key) != 32:
        raise PacketFormatError(f"device key {identity.device!r} is not 40 characters of Z85")
    return key + struct.pack("<QQ", identity.epoch, identity.number)
