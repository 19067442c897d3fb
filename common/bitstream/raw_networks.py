"""Networks of format version 1: an architecture table, then plain integers. Only read, never written."""

from __future__ import annotations

import math

import numpy as np

from common.bitstream.fields import FieldReader
from common.bitstream.packet import Layer, Network, ObjectPatch, QuantizedTensor
from common.errors import PacketFormatError

__all__ = ["read_raw_contents"]

MAX_DEPTH = 32
_DTYPES = {8: "<i1", 16: "<i2"}
_INPUTS, _OUTPUTS = 2, 3
_Kind = tuple[int, int, int, int, int, float]
"""Width, depth, bits of the first layer's weights, of the others', of biases, w0: an architecture's entry."""


def read_raw_contents(reader: FieldReader, boxes: int) -> tuple[Network, tuple[ObjectPatch, ...]]:
    """Background and objects of a version 1 packet with this many boxes.

    Raises:
        PacketFormatError: They are malformed.
    """
    kinds = [_kind(reader) for _ in range(reader.number("B"))]
    background = _network(reader, kinds)
    objects: list[ObjectPatch] = []
    for _ in range(reader.number("H")):
        index = reader.number("H")
        if index >= boxes or (objects and index <= objects[-1].box):
            raise PacketFormatError(f"an object network names box {index}, out of order or not there")
        objects.append(ObjectPatch(index, reader.real("a residual's scale"), _network(reader, kinds)))
    return background, tuple(objects)


def _kind(reader: FieldReader) -> _Kind:
    width, depth, first_bits, weight_bits, bias_bits = reader.unpack("BBBBB")
    if width < 1 or not 1 <= depth <= MAX_DEPTH:
        raise PacketFormatError(f"a network of {depth} sine layers of {width} is out of bounds")
    if not {first_bits, weight_bits, bias_bits} <= _DTYPES.keys():
        raise PacketFormatError(f"integers of {first_bits}, {weight_bits} and {bias_bits} bits are unknown")
    return width, depth, first_bits, weight_bits, bias_bits, reader.real("w0")


def _network(reader: FieldReader, kinds: list[_Kind]) -> Network:
    index = reader.number("B")
    if index >= len(kinds):
        raise PacketFormatError(f"a network has architecture {index} of {len(kinds)}")
    width, depth, first_bits, weight_bits, bias_bits, w0 = kinds[index]
    layers = []
    for layer in range(depth + 1):
        out = width if layer < depth else _OUTPUTS
        fan_in = width if layer else _INPUTS
        weight = _tensor(reader, (out, fan_in), weight_bits if layer else first_bits)
        layers.append(Layer(weight, _tensor(reader, (out,), bias_bits)))
    return Network(tuple(layers), w0)


def _tensor(reader: FieldReader, shape: tuple[int, ...], bits: int) -> QuantizedTensor:
    scale = reader.real("a quantization step")
    raw = np.frombuffer(reader.take(math.prod(shape) * bits // 8), dtype=_DTYPES[bits])
    return QuantizedTensor(raw.astype(f"i{bits // 8}").reshape(shape), scale)
