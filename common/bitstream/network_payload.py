"""A quantized network <-> bytes."""

from __future__ import annotations

import math
import struct

import numpy as np

from common.bitstream.fields import FieldReader
from common.bitstream.packet import Layer, Network, QuantizedTensor
from common.errors import PacketFormatError

__all__ = ["decode_network", "encode_network"]

MAX_DEPTH = 32
_INPUTS, _OUTPUTS = 2, 3
_HEAD = "BBBBBf"


def encode_network(network: Network) -> bytes:
    """Payload of a network; :func:`decode_network` gives it back.

    Raises:
        PacketFormatError: Its layers differ in the width of their integers.
    """
    first, *others = network.layers
    weight_bits = {8 * layer.weight.values.itemsize for layer in others}
    bias_bits = {8 * layer.bias.values.itemsize for layer in network.layers}
    if len(weight_bits) != 1 or len(bias_bits) != 1:
        raise PacketFormatError(
            "layers after the first must have weights, and all layers biases, of one width"
        )
    first_bits = 8 * first.weight.values.itemsize
    sizes = network.width, network.depth, first_bits, weight_bits.pop(), bias_bits.pop()
    parts = [struct.pack("<" + _HEAD, *sizes, network.w0)]
    for layer in network.layers:
        for tensor in (layer.weight, layer.bias):
            values = tensor.values
            parts += [struct.pack("<f", tensor.scale), values.astype(f"<i{values.itemsize}").tobytes()]
    return b"".join(parts)


def decode_network(data: bytes) -> Network:
    """The network of a payload.

    Raises:
        PacketFormatError: The bytes are no network.
    """
    reader = FieldReader.over(data)
    width, depth, first_bits, weight_bits, bias_bits = reader.unpack("BBBBB")
    w0 = reader.real("w0")
    if width < 1 or not 1 <= depth <= MAX_DEPTH:
        raise PacketFormatError(f"a network of {depth} sine layers of {width} is out of bounds")
    if not {first_bits, weight_bits, bias_bits} <= {8, 16}:
        raise PacketFormatError(f"integers of {first_bits}, {weight_bits} and {bias_bits} bits are unknown")

    def tensor(shape: tuple[int, ...], bits: int) -> QuantizedTensor:
        scale = reader.real("a quantization step")
        raw = np.frombuffer(reader.take(math.prod(shape) * bits // 8), dtype=f"<i{bits // 8}")
        return QuantizedTensor(raw.astype(f"i{bits // 8}").reshape(shape), scale)

    layers = []
    for layer in range(depth + 1):
        out, fan_in = (width if layer < depth else _OUTPUTS), (width if layer else _INPUTS)
        weight = tensor((out, fan_in), weight_bits if layer else first_bits)
        layers.append(Layer(weight, tensor((out,), bias_bits)))
    reader.finish("a network")
    return Network(tuple(layers), w0)
