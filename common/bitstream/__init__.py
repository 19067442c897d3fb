"""Packets: one encoded frame as bytes; the byte layout is in README.md beside this file."""

from common.bitstream.codec import decode_packet, encode_packet, label_box
from common.bitstream.packet import (
    Background,
    ImageCodec,
    ImageFile,
    Layer,
    Motion,
    Network,
    ObjectPatch,
    Packet,
    Patch,
    Pyramid,
    QuantizedTensor,
    Reference,
    Region,
    Update,
)

__all__ = [
    "Background",
    "ImageCodec",
    "ImageFile",
    "Layer",
    "Motion",
    "Network",
    "ObjectPatch",
    "Packet",
    "Patch",
    "Pyramid",
    "QuantizedTensor",
    "Reference",
    "Region",
    "Update",
    "decode_packet",
    "encode_packet",
    "label_box",
]
