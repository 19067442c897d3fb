"""A motion field <-> bytes: each vector as its difference from its neighbours, range coded."""

from __future__ import annotations

import struct

import constriction
import numpy as np
import numpy.typing as npt

from common.bitstream.fields import FieldReader
from common.bitstream.integer_models import MODEL_CODES, best_model, integer_model
from common.bitstream.packet import Motion
from common.errors import PacketFormatError

__all__ = ["MAX_NODES", "SPACINGS", "decode_motion", "encode_motion", "node_grid"]

SPACINGS = (8, 16, 32, 64, 128)
"""Pixels between two nodes."""
MAX_NODES = 1 << 14
"""Nodes of one field; bounds what a short payload makes a decoder allocate."""
MAX_STEPS = 1 << 14
"""Longest vector, quarter pixels: beyond any frame."""
_COMPONENTS = 2


def node_grid(width: int, height: int, spacing: int) -> tuple[int, int]:
    """Rows and columns of the field of a frame of this size: one node in the middle of each block."""
    return -(-height // spacing), -(-width // spacing)


def encode_motion(motion: Motion) -> bytes:
    """Payload of a motion field: u8 place of its spacing in ``SPACINGS``, two model bytes, coded integers.

    Raises:
        PacketFormatError: The field is outside what the format can hold.
    """
    vectors = motion.vectors
    if motion.spacing not in SPACINGS or vectors.ndim != 3 or vectors.shape[2] != _COMPONENTS:
        raise PacketFormatError(
            f"a motion field of shape {vectors.shape} and spacing {motion.spacing} is none"
        )
    if vectors.shape[0] * vectors.shape[1] > MAX_NODES or np.abs(vectors.astype(np.int64)).max() > MAX_STEPS:
        raise PacketFormatError(f"a motion field has more than {MAX_NODES} nodes or vectors beyond any frame")
    differences = [_differences(vectors[:, :, axis].astype(np.int64)) for axis in range(_COMPONENTS)]
    models = [best_model(values) for values in differences]
    encoder = constriction.stream.queue.RangeEncoder()
    for values, code in zip(differences, models, strict=True):
        if code:
            model = integer_model(code)
            high, low = model.split(values)
            encoder.encode(high.astype(np.int32), model.coder)
            if model.shift:
                encoder.encode(low.astype(np.int32), constriction.stream.model.Uniform(1 << model.shift))
    words: npt.NDArray[np.uint32] = encoder.get_compressed()
    head = struct.pack("<BBB", SPACINGS.index(motion.spacing), *models)
    return head + words.astype(">u4").tobytes().rstrip(b"\0")


def decode_motion(data: bytes, width: int, height: int) -> Motion:
    """The motion field of a payload, in a frame of this coded size.

    Raises:
        PacketFormatError: The bytes are no motion field.
    """
    reader = FieldReader.over(data)
    place, *models = reader.unpack("BBB")
    if place >= len(SPACINGS) or max(models) >= MODEL_CODES:
        raise PacketFormatError("a motion field has an unknown spacing or integer model")
    rows, columns = node_grid(width, height, SPACINGS[place])
    if rows * columns > MAX_NODES:
        raise PacketFormatError(f"a motion field of {rows}x{columns} nodes is above the limit of {MAX_NODES}")
    coded = reader.rest()
    words = np.frombuffer(coded + bytes(-len(coded) % 4), ">u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    vectors = np.zeros((rows, columns, _COMPONENTS), np.int16)
    try:
        for axis, code in enumerate(models):
            if not code:
                continue
            model = integer_model(code)
            high = decoder.decode(model.coder, rows * columns).astype(np.int64)
            low = np.zeros(rows * columns, np.int64)
            if model.shift:
                uniform = constriction.stream.model.Uniform(1 << model.shift)
                low = decoder.decode(uniform, rows * columns).astype(np.int64)
            vectors[:, :, axis] = _integrated(model.merge(high, low).reshape(rows, columns))
    except AssertionError as error:  # what constriction raises for words that no encoder writes
        raise PacketFormatError("the vectors of a motion field are damaged") from error
    return Motion(SPACINGS[place], vectors)


def _differences(field: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each value less what :func:`_expected` says, row by row."""
    rows, columns = field.shape
    found = np.empty_like(field)
    for y in range(rows):
        for x in range(columns):
            found[y, x] = field[y, x] - _expected(field, y, x)
    return found.reshape(-1)


def _integrated(differences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    field = np.zeros_like(differences)
    rows, columns = field.shape
    for y in range(rows):
        for x in range(columns):
            value = int(differences[y, x]) + _expected(field, y, x)
            if abs(value) > MAX_STEPS:
                raise PacketFormatError("a vector of a motion field reaches beyond any frame")
            field[y, x] = value
    return field


def _expected(field: npt.NDArray[np.int64], y: int, x: int) -> int:
    """What the neighbours to the left and above let expect: their plane, between the two (as in LOCO-I)."""
    if not y:
        return int(field[y, x - 1]) if x else 0
    above = int(field[y - 1, x])
    if not x:
        return above
    left = int(field[y, x - 1])
    plane = left + above - int(field[y - 1, x - 1])
    return max(min(left, above), min(max(left, above), plane))
