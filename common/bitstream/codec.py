"""Packet <-> bytes; the layout is in README.md beside this file (numpy only, no torch)."""

from __future__ import annotations

import binascii
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from zmq.utils import z85

from common.bitstream.packet import Layer, Network, ObjectNetwork, Packet, QuantizedTensor
from common.errors import BoxError, PacketChecksumError, PacketFormatError, PacketVersionError
from common.frame import Box, FrameIdentity

__all__ = ["FORMAT_VERSION", "MAX_PACKET_BYTES", "decode_packet", "encode_packet", "label_box"]

MAGIC = b"RINR"
FORMAT_VERSION = 1
MAX_PACKET_BYTES = 16 << 20
"""Larger packets are refused before they are parsed."""
MAX_SIDE = 4095
"""Largest coded width or height: box edges in 1/16 pixel must fit 16 bits."""
MAX_BOXES = 1000
MAX_WIDTH, MAX_DEPTH = 255, 32
"""Largest network: neurons a sine layer, sine layers."""
EDGE_STEPS = 16
"""Box edges are stored in steps of 1/16 pixel, rounded outwards so that the pixel region is kept."""

_LABELLED, _VALIDATION, _IDENTITY = 1, 2, 4
_HEAD = struct.Struct("<4sBBI")
_DTYPES = {8: "<i1", 16: "<i2"}
_INPUTS, _OUTPUTS = 2, 3


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
    networks = [packet.background, *(o.network for o in packet.objects)]
    kinds = list(dict.fromkeys(_kind(network) for network in networks))
    flags = _LABELLED * packet.labelled | _VALIDATION * packet.validation
    flags |= _IDENTITY * (packet.identity is not None)
    try:
        body = b"".join(
            [
                _text(packet.profile),
                struct.pack("<HH", packet.width, packet.height),
                packet.source_digest,
                b"" if packet.identity is None else _identity_bytes(packet.identity),
                struct.pack("<B", len(classes)),
                *(_text(name) for name in classes),
                struct.pack("<H", len(packet.boxes)),
                *(_box_bytes(box, classes) for box in packet.boxes),
                struct.pack("<B", len(kinds)),
                *(struct.pack("<BBBBBf", *kind) for kind in kinds),
                _network_bytes(packet.background, kinds),
                struct.pack("<H", len(packet.objects)),
                *(
                    struct.pack("<Hf", o.box, o.residual_scale) + _network_bytes(o.network, kinds)
                    for o in packet.objects
                ),
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
    if version != FORMAT_VERSION:
        raise PacketVersionError(
            f"the packet has format version {version}, this program reads version {FORMAT_VERSION}; "
            "update the older of the two nodes"
        )
    if length != len(data):
        raise PacketFormatError(f"the packet says {length} bytes but has {len(data)}")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise PacketChecksumError("the packet was damaged: its checksum does not match")
    if flags & ~(_LABELLED | _VALIDATION | _IDENTITY):
        raise PacketFormatError(f"the packet has unknown flags {flags:#04x}")
    return _Reader(data, _HEAD.size, len(data) - 4).packet(flags)


@dataclass(slots=True)
class _Reader:
    """Reads fields in order; every length is checked against what is left before it is used."""

    data: bytes
    at: int
    end: int

    def take(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise PacketFormatError(f"the packet ends {count - self.end + self.at} bytes early")
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, form: str) -> tuple[int, ...]:
        values: tuple[int, ...] = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return values

    def number(self, form: str) -> int:
        return self.unpack(form)[0]

    def real(self, what: str) -> float:
        value = float(struct.unpack("<f", self.take(4))[0])
        if not math.isfinite(value) or value < 0:
            raise PacketFormatError(f"{what} is {value}, not a finite number from 0")
        return value

    def text(self, what: str) -> str:
        raw = self.take(self.number("B"))
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PacketFormatError(f"{what} is not UTF-8") from error
        if not text or not text.isprintable():
            raise PacketFormatError(f"{what} is empty or holds unprintable characters")
        return text

    def packet(self, flags: int) -> Packet:
        profile = self.text("the profile's name")
        width, height = self.unpack("HH")
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise PacketFormatError(f"a frame of {width}x{height} pixels is outside 1..{MAX_SIDE}")
        digest = self.take(32)
        identity = self.identity() if flags & _IDENTITY else None
        classes = [self.text("a class name") for _ in range(self.number("B"))]
        if len(set(classes)) != len(classes):
            raise PacketFormatError("a class name stands twice")
        count = self.number("H")
        if count > MAX_BOXES:
            raise PacketFormatError(f"{count} boxes are above the limit of {MAX_BOXES}")
        boxes = tuple(self.box(classes, width, height) for _ in range(count))
        kinds = [self.kind() for _ in range(self.number("B"))]
        background = self.network(kinds)
        objects: list[ObjectNetwork] = []
        for _ in range(self.number("H")):
            index = self.number("H")
            if index >= count or (objects and index <= objects[-1].box):
                raise PacketFormatError(f"an object network names box {index}, out of order or not there")
            objects.append(ObjectNetwork(index, self.real("a residual's scale"), self.network(kinds)))
        if self.at != self.end:
            raise PacketFormatError(f"{self.end - self.at} bytes follow the end of the packet")
        labelled, validation = bool(flags & _LABELLED), bool(flags & _VALIDATION)
        return Packet(
            profile, width, height, labelled, validation, boxes, digest, background, tuple(objects), identity
        )

    def identity(self) -> FrameIdentity:
        key = z85.encode(self.take(32)).decode("ascii")
        epoch, number = self.unpack("QQ")
        return FrameIdentity(key, epoch, number)

    def box(self, classes: list[str], width: int, height: int) -> Box:
        *edges, index = self.unpack("HHHHB")
        if index >= len(classes):
            raise PacketFormatError(f"a box has class {index} of {len(classes)}")
        x0, y0, x1, y1 = (edge / EDGE_STEPS for edge in edges)
        if x1 > width or y1 > height:
            raise PacketFormatError(f"box {(x0, y0, x1, y1)} reaches over the frame of {width}x{height}")
        try:
            return Box(x0, y0, x1, y1, classes[index])
        except BoxError as error:
            raise PacketFormatError(str(error)) from error

    def kind(self) -> _Kind:
        width, depth, first_bits, weight_bits, bias_bits = self.unpack("BBBBB")
        if width < 1 or not 1 <= depth <= MAX_DEPTH:
            raise PacketFormatError(f"a network of {depth} sine layers of {width} is out of bounds")
        if not {first_bits, weight_bits, bias_bits} <= _DTYPES.keys():
            raise PacketFormatError(
                f"integers of {first_bits}, {weight_bits} and {bias_bits} bits are unknown"
            )
        return width, depth, first_bits, weight_bits, bias_bits, self.real("w0")

    def network(self, kinds: list[_Kind]) -> Network:
        index = self.number("B")
        if index >= len(kinds):
            raise PacketFormatError(f"a network has architecture {index} of {len(kinds)}")
        width, depth, first_bits, weight_bits, bias_bits, w0 = kinds[index]
        layers = []
        for layer in range(depth + 1):
            out = width if layer < depth else _OUTPUTS
            fan_in = width if layer else _INPUTS
            weight = self.tensor((out, fan_in), weight_bits if layer else first_bits)
            layers.append(Layer(weight, self.tensor((out,), bias_bits)))
        return Network(tuple(layers), w0)

    def tensor(self, shape: tuple[int, ...], bits: int) -> QuantizedTensor:
        scale = self.real("a quantization step")
        raw = np.frombuffer(self.take(math.prod(shape) * bits // 8), dtype=_DTYPES[bits])
        return QuantizedTensor(raw.astype(f"i{bits // 8}").reshape(shape), scale)


_Kind = tuple[int, int, int, int, int, float]
"""Width, depth, bits of the first layer's weights, of the others', of biases, w0: an architecture's entry."""


def _kind(network: Network) -> _Kind:
    first, *others = network.layers
    weight_bits = {8 * layer.weight.values.itemsize for layer in others}
    bias_bits = {8 * layer.bias.values.itemsize for layer in network.layers}
    if len(weight_bits) != 1 or len(bias_bits) != 1:
        raise PacketFormatError(
            "layers after the first must have weights, and all layers biases, of one width"
        )
    first_bits = 8 * first.weight.values.itemsize
    return network.width, network.depth, first_bits, weight_bits.pop(), bias_bits.pop(), network.w0


def _network_bytes(network: Network, kinds: list[_Kind]) -> bytes:
    parts = [struct.pack("<B", kinds.index(_kind(network)))]
    for layer in network.layers:
        for tensor in (layer.weight, layer.bias):
            values = tensor.values
            parts += [struct.pack("<f", tensor.scale), values.astype(_DTYPES[8 * values.itemsize]).tobytes()]
    return b"".join(parts)


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


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<B", len(raw)) + raw
