"""Classic image files of a packet: pixels -> file, file -> pixels, by Pillow."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import ImageFile as PillowFiles

from common.bitstream.bare_images import bare_image, bare_image_size, image_from_bare
from common.bitstream.packet import ImageCodec, ImageFile
from common.errors import PacketFormatError

__all__ = ["AVIF_SPEED", "CODECS", "FULL_COLOUR", "QUALITIES", "image_file", "image_pixels", "image_size"]

CODECS: tuple[ImageCodec, ...] = ("jpeg", "webp", "avif")
"""Codecs by their number in a packet."""
QUALITIES: dict[ImageCodec, tuple[int, ...]] = {
    "jpeg": tuple(range(1, 101)),
    "webp": tuple(range(101)),
    "avif": tuple(100 - round(step * 100 / 63) for step in reversed(range(64))),
}
"""Qualities that give different files; AV1 has 64 quantizers only."""
FULL_COLOUR: frozenset[ImageCodec] = frozenset({"jpeg", "avif"})
"""Codecs that can keep colour at full size; the others have it at half size."""
AVIF_SPEED = 4
"""libaom's speed, 0 (slow) to 10: 4 needs about 7 % fewer bytes than 6, and four times the time."""
_OPTIONS: dict[ImageCodec, dict[str, Any]] = {
    "jpeg": {"optimize": True},
    "webp": {"method": 6},
    # Quality is stated as PSNR here: libaom's default tuning needs 6 to 10 % more bytes for it.
    "avif": {"advanced": {"tune": "psnr"}, "max_threads": 1},
}
"""Pillow's options: what makes files small at a bearable speed."""
_BYTES_A_PIXEL = 8
"""Of a JPEG at the most: black and white noise at the highest quality takes 5.6."""
_BUFFER = threading.Lock()


def image_file(
    rgb: npt.NDArray[np.uint8],
    codec: ImageCodec,
    quality: int,
    *,
    full_colour: bool = False,
    avif_speed: int = AVIF_SPEED,
) -> ImageFile:
    """``rgb`` (H, W, 3) uint8 as a file of ``codec``.

    Args:
        rgb: The pixels.
        codec: Format of the file.
        quality: One of the codec's QUALITIES.
        full_colour: Keep colour at full size (4:4:4) instead of half (4:2:0); only for FULL_COLOUR codecs.
        avif_speed: libaom's speed, 0 to 10.

    Raises:
        PacketFormatError: The codec cannot encode an image of this size or with such colour.
    """
    if full_colour and codec not in FULL_COLOUR:
        raise PacketFormatError(f"{codec} cannot keep colour at full size")
    target = io.BytesIO()
    options = _OPTIONS[codec] | ({"speed": avif_speed} if codec == "avif" else {})
    if codec in FULL_COLOUR:
        options = options | {"subsampling": "4:4:4" if full_colour else "4:2:0"}
    try:
        with _room_for(rgb) if codec == "jpeg" else nullcontext():
            Image.fromarray(rgb).save(target, codec, quality=quality, **options)
    except (OSError, ValueError, KeyError) as error:
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise PacketFormatError(f"Pillow cannot encode {size} pixels as {codec}: {error}") from error
    return ImageFile(codec, image_from_bare(codec, bare_image(codec, target.getvalue())))


@contextmanager
def _room_for(rgb: npt.NDArray[np.uint8]) -> Iterator[None]:
    """Let Pillow hold a whole file of noise: it writes an optimized JPEG at once, and guesses too little."""
    height, width = (-(-side // 16) * 16 for side in rgb.shape[:2])
    with _BUFFER:
        usual = PillowFiles.MAXBLOCK
        PillowFiles.MAXBLOCK = max(usual, _BYTES_A_PIXEL * height * width)
        try:
            yield
        finally:
            PillowFiles.MAXBLOCK = usual


def image_size(file: ImageFile) -> tuple[int, int]:
    """(width, height) that a file's own header states, read without decoding it.

    Raises:
        PacketFormatError: The file is not of the one shape that packets hold.
    """
    bare = bare_image(file.codec, file.data)
    if image_from_bare(file.codec, bare) != file.data:
        raise PacketFormatError(f"the {file.codec} file holds more than a packet takes; use image_file")
    return bare_image_size(file.codec, bare)


def image_pixels(file: ImageFile, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Pixels of a file of a region.

    Args:
        file: As :func:`image_file` makes it, or from a packet of unknown origin.
        height: Of the region, pixels.
        width: Of the region, pixels.

    Returns:
        (height, width, 3) uint8 RGB, contiguous and writable.

    Raises:
        PacketFormatError: The file states another size, which is checked before anything is allocated, or is
            damaged.
    """
    stated = image_size(file)
    if stated != (width, height):
        raise PacketFormatError(
            f"a region of {width}x{height} pixels holds a {file.codec} file of {stated[0]}x{stated[1]}"
        )
    return checked_pixels(file, height, width)


def checked_pixels(file: ImageFile, height: int, width: int) -> npt.NDArray[np.uint8]:
    """:func:`image_pixels` of a file that passed it before: its shape is not looked at again.

    Raises:
        PacketFormatError: The file is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(file.data), formats=[file.codec.upper()]) as image:
                if image.size != (width, height):
                    raise PacketFormatError(f"the {file.codec} file's headers state two sizes")
                pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    except PacketFormatError:
        raise
    except Exception as error:  # decoders of hostile bytes raise anything: OSError, SyntaxError, ValueError
        raise PacketFormatError(f"the {file.codec} file of a region is damaged ({error})") from error
    return pixels
