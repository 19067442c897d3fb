"""A quantized network <-> bytes: integers range coded under one parametric model a tensor.

The layout is in README.md beside this file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import constriction
import numpy as np
import numpy.typing as npt

from common.bitstream.fields import FieldReader
from common.bitstream.fixed_start import fixed_start
from common.bitstream.integer_models import MODEL_CODES, best_model, integer_model
from common.bitstream.packet import Layer, Network, QuantizedTensor
from common.errors import PacketFormatError

__all__ = ["coded_step", "decode_network", "encode_network"]

MAX_DEPTH = 32
DEFAULT_W0 = 30.0
"""Not sent."""
PARAMETERS_PER_BYTE, FREE_PARAMETERS = 8, 1024
"""A payload of n bytes holds at most 8 n + 1,024 parameters, so that no small packet asks for much memory."""
TINIEST = 1e-30
STEPS_PER_OCTAVE, LOWEST_STEP = 8, -30
"""A coded step is 2^(code / 8 - 30) with a code of 0 to 255: 1e-9 to 3.7."""

_FIRST_16, _WEIGHTS_16, _BIASES_16, _HAS_W0, _EXACT_STEPS, _FROM_START = 1, 2, 4, 8, 16, 32
_INPUTS, _OUTPUTS = 2, 3
_EIGHTHS = (1.0, 1.0905077, 1.1892071, 1.2968396, 1.4142135, 1.5422108, 1.6817929, 1.834008)
"""2^(i / 8), written out: no library's power function decides the last bit."""

Integers = npt.NDArray[np.int64]


def coded_step(step: float) -> float:
    """The nearest step that takes one byte instead of four, within 4.5 %; clipped to what a byte holds."""
    if not TINIEST < step < 1 / TINIEST:  # or no number
        return _step(255 if step > 1 else 0)
    code = round(STEPS_PER_OCTAVE * (math.log2(step) - LOWEST_STEP))
    return _step(min(255, max(0, code)))


def encode_network(network: Network) -> bytes:
    """Payload of a network; :func:`decode_network` gives it back: integers, their types and steps.

    Raises:
        PacketFormatError: Its layers differ in the width of their integers.
    """
    tensors = [tensor for layer in network.layers for tensor in (layer.weight, layer.bias)]
    flags = _integer_flags(network)
    steps = [float(np.float32(tensor.scale)) for tensor in tensors]
    exact = any(step != coded_step(step) for step in steps)
    flags |= _EXACT_STEPS * exact | _HAS_W0 * (network.w0 != DEFAULT_W0)
    values = [tensor.values.astype(np.int64).reshape(-1) for tensor in tensors]
    starts = _starts(network.width, network.depth, steps)
    plain = [best_model(v) for v in values]
    moved = [v - s for v, s in zip(values, starts, strict=True)]
    from_start = [best_model(v) for v in moved]
    if _bits(moved, from_start) < _bits(values, plain):
        flags, values, plain = flags | _FROM_START, moved, from_start
    head = struct.pack("<BBB", flags, network.width, network.depth)
    head += struct.pack("<f", network.w0) if flags & _HAS_W0 else b""
    head += struct.pack(f"<{len(steps)}f", *steps) if exact else bytes(_code(step) for step in steps)
    data = head + bytes(plain) + _coded(values, plain)
    needed = (network.parameters - FREE_PARAMETERS + PARAMETERS_PER_BYTE - 1) // PARAMETERS_PER_BYTE
    return data.ljust(needed, b"\0")


def decode_network(data: bytes) -> Network:
    """The network of a payload; memory stays within a few times ``len(data)``.

    Raises:
        PacketFormatError: The bytes are no network.
    """
    reader = FieldReader.over(data)
    flags, width, depth = reader.unpack("BBB")
    if flags & ~63:
        raise PacketFormatError(f"a network has unknown flags {flags:#04x}")
    w0 = reader.real("w0") if flags & _HAS_W0 else DEFAULT_W0
    if width < 1 or not 1 <= depth <= MAX_DEPTH:
        raise PacketFormatError(f"a network of {depth} sine layers of {width} is out of bounds")
    shapes = _shapes(width, depth)
    parameters = sum(math.prod(shape) for shape in shapes)
    if parameters > PARAMETERS_PER_BYTE * len(data) + FREE_PARAMETERS:
        raise PacketFormatError(f"{len(data)} bytes are too few for a network of {parameters} parameters")
    if flags & _EXACT_STEPS:
        steps = [reader.real("a quantization step") for _ in shapes]
    else:
        steps = [_step(code) for code in reader.take(len(shapes))]
    models = reader.take(len(shapes))
    if max(models) >= MODEL_CODES:
        raise PacketFormatError(f"an integer model {max(models)} is unknown")
    values = _decoded(reader.rest(), models, [math.prod(shape) for shape in shapes])
    if flags & _FROM_START:
        starts = _starts(width, depth, steps)
        values = [v + s for v, s in zip(values, starts, strict=True)]
    tensors = []
    for index, (shape, step, integers) in enumerate(zip(shapes, steps, values, strict=True)):
        bit = _BIASES_16 if index % 2 else _WEIGHTS_16 if index else _FIRST_16
        limit = 1 << 15 if flags & bit else 1 << 7
        if not -limit <= integers.min() <= integers.max() < limit:
            raise PacketFormatError(f"an integer of a network is outside -{limit} to {limit - 1}")
        whole = integers.reshape(shape)
        tensors.append(
            QuantizedTensor(whole.astype(np.int16) if flags & bit else whole.astype(np.int8), step)
        )
    layers = tuple(Layer(w, b) for w, b in zip(tensors[0::2], tensors[1::2], strict=True))
    return Network(layers, w0)


def _shapes(width: int, depth: int) -> list[tuple[int, ...]]:
    """Shape of each tensor, weight and bias layer by layer."""
    shapes: list[tuple[int, ...]] = []
    for layer in range(depth + 1):
        out = width if layer < depth else _OUTPUTS
        shapes += [(out, width if layer else _INPUTS), (out,)]
    return shapes


def _integer_flags(network: Network) -> int:
    first, *others = network.layers
    weights = {layer.weight.values.itemsize for layer in others}
    biases = {layer.bias.values.itemsize for layer in network.layers}
    if len(weights) != 1 or len(biases) != 1:
        raise PacketFormatError(
            "layers after the first must have weights, and all layers biases, of one width"
        )
    flags = _FIRST_16 * (first.weight.values.itemsize == 2)
    return flags | _WEIGHTS_16 * (weights == {2}) | _BIASES_16 * (biases == {2})


def _starts(width: int, depth: int, steps: Sequence[float]) -> list[Integers]:
    """The fixed start of each tensor in its steps, flat; zeros where there is none."""
    starts = []
    for shape, start, step in zip(_shapes(width, depth), fixed_start(width, depth), steps, strict=True):
        if start is None or step <= 0:
            starts.append(np.zeros(math.prod(shape), np.int64))
        else:
            # Steps below a 16-bit integer's reach are none that a quantizer makes: do not let them overflow.
            starts.append(np.rint(np.clip(start / step, -32768, 32767)).astype(np.int64).reshape(-1))
    return starts


def _bits(values: Sequence[Integers], models: Sequence[int]) -> float:
    return sum(integer_model(m).bits(v) for v, m in zip(values, models, strict=True) if m)


def _coded(values: Sequence[Integers], models: Sequence[int]) -> bytes:
    """One range coded stream; zero bytes at its end are left out."""
    encoder = constriction.stream.queue.RangeEncoder()
    for integers, code in zip(values, models, strict=True):
        if code:
            model = integer_model(code)
            high, low = model.split(integers)
            encoder.encode(high.astype(np.int32), model.coder)
            if model.shift:
                encoder.encode(low.astype(np.int32), constriction.stream.model.Uniform(1 << model.shift))
    words: npt.NDArray[np.uint32] = encoder.get_compressed()
    return words.astype(">u4").tobytes().rstrip(b"\0")


def _decoded(data: bytes, models: Sequence[int], counts: Sequence[int]) -> list[Integers]:
    words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    values = []
    try:
        for code, count in zip(models, counts, strict=True):
            if code == 0:
                values.append(np.zeros(count, np.int64))
                continue
            model = integer_model(code)
            high = decoder.decode(model.coder, count).astype(np.int64)
            low = np.zeros(count, np.int64)
            if model.shift:
                low = decoder.decode(constriction.stream.model.Uniform(1 << model.shift), count).astype(
                    np.int64
                )
            values.append(model.merge(high, low))
    except AssertionError as error:  # what constriction raises for words that no encoder writes
        raise PacketFormatError("the integers of a network are damaged") from error
    return values


def _step(code: int) -> float:
    octave, eighth = divmod(code, STEPS_PER_OCTAVE)
    return float(np.float32(math.ldexp(_EIGHTHS[eighth], octave + LOWEST_STEP)))


def _code(step: float) -> int:
    """The code of a coded step."""
    return round(STEPS_PER_OCTAVE * (math.log2(step) - LOWEST_STEP))
