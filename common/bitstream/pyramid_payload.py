"""A pyramid <-> bytes. Its integers stay coded until they are wanted (:mod:`common.pyramid.coder`)."""

from __future__ import annotations

import struct

from common.bitstream.fields import FieldReader
from common.bitstream.packet import Pyramid
from common.errors import PacketFormatError

__all__ = ["SMALLEST_STEP", "decode_pyramid", "encode_pyramid"]

SMALLEST_STEP = 2.0**-10
"""Of a pyramid, grey levels; the largest is that of all reals."""

_MODEL_BYTES = 4


def encode_pyramid(pyramid: Pyramid) -> bytes:
    """Payload of a pyramid: model id, f32 step, coded integers.

    Raises:
        PacketFormatError: The model's id has another length.
    """
    if len(pyramid.model) != _MODEL_BYTES:
        raise PacketFormatError(f"a model's id has {_MODEL_BYTES} bytes, not {len(pyramid.model)}")
    return pyramid.model + struct.pack("<f", pyramid.step) + pyramid.data


def decode_pyramid(data: bytes) -> Pyramid:
    """The pyramid of a payload.

    Raises:
        PacketFormatError: The bytes are no pyramid.
    """
    reader = FieldReader.over(data)
    model = reader.take(_MODEL_BYTES)
    step = reader.real("a pyramid's step")
    if step < SMALLEST_STEP:
        raise PacketFormatError(f"a pyramid's step is {step}, below {SMALLEST_STEP} grey levels")
    return Pyramid(model, step, reader.rest())
