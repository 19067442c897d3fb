"""A classic image file <-> bytes: u8 codec, then its bare bytes (:mod:`common.bitstream.bare_images`)."""

from __future__ import annotations

import struct

from common.bitstream.bare_images import bare_image, image_from_bare
from common.bitstream.fields import FieldReader
from common.bitstream.image_files import CODECS, image_size
from common.bitstream.packet import ImageFile
from common.errors import PacketFormatError

__all__ = ["decode_image", "encode_image"]


def encode_image(image: ImageFile) -> bytes:
    """Payload of an image file.

    Raises:
        PacketFormatError: The file is not of the one shape that packets hold.
    """
    image_size(image)
    return struct.pack("<B", CODECS.index(image.codec)) + bare_image(image.codec, image.data)


def decode_image(data: bytes) -> ImageFile:
    """The image file of a payload; nothing of its picture is decoded.

    Raises:
        PacketFormatError: The codec is unknown, or the bytes are no picture of it.
    """
    reader = FieldReader.over(data)
    codec = reader.number("B")
    if codec >= len(CODECS):
        raise PacketFormatError(f"an image has the unknown codec {codec}")
    return ImageFile(CODECS[codec], image_from_bare(CODECS[codec], reader.rest()))
