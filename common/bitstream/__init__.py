"""Packets: one encoded frame as bytes; the byte layout is in README.md beside this file."""

from common.bitstream.codec import decode_packet, encode_packet, label_box
from common.bitstream.packet import Layer, Network, ObjectNetwork, Packet, QuantizedTensor

__all__ = [
    "Layer",
    "Network",
    "ObjectNetwork",
    "Packet",
    "QuantizedTensor",
    "decode_packet",
    "encode_packet",
    "label_box",
]
