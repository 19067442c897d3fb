"""Image bytes <-> RGB pixels: bounded before any allocation, and strict about damage."""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from common.errors import ImageError

__all__ = [
    "DEFAULT_LIMITS",
    "ImageHeader",
    "ImageLimits",
    "Rgb",
    "decode_image",
    "encode_jpeg",
    "encode_png",
    "image_header",
    "scale_to_width",
    "scaled_size",
]

Rgb = npt.NDArray[np.uint8]
"""Pixels, (H, W, 3) uint8, RGB."""

# Pillow would import its readers at the first image. Where no file can be opened at that moment it would take
# every image for none, and a fog would refuse good frames for good.
_READERS = (
    BmpImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
Image.preinit()

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_ORIENTATION = 0x0112
_MARKER = re.compile(rb"\xff++([^\x00\xd0-\xd7\xff])")
"""A JPEG marker that ends a scan, after fill bytes: neither a stuffed byte nor a restart marker."""
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The same to search for, without fill bytes: a long run of them would be walked again from each of them."""
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MAX_SEGMENTS = 2_000
"""Marker segments of a JPEG, or chunks beside the pixels of a PNG: far more than any picture has, and few
enough to be walked in a few milliseconds."""
MAX_SCANS = 64
"""Scans of a progressive JPEG, each of which costs as much time as a whole picture; cameras write 10."""
MAX_FILL = 65_536
"""Fill bytes before the markers of a JPEG, which Pillow walks one by one: 16 MB of them took it 4.5 s."""
MAX_PHOTOSHOP = 32
"""Segments of a JPEG with Photoshop's notes (APP13), each of which may hold 5,000 that Pillow reads."""
MAX_CHUNKS = 100_000
"""Chunks of a PNG: 32 MB of pixels in chunks of 8,192 bytes are 4,000."""
_PIXEL_CHUNKS = (b"IDAT", b"fdAT", b"fcTL")
_END_OF_IMAGE, _START_OF_SCAN, _PHOTOSHOP = 0xD9, 0xDA, 0xED
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILLER = b"\xd6\xb5\x6d\xab" * 64


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost.

    Attributes:
        max_pixels: Width times height, pixels.
        max_bytes: Encoded size, bytes.
    """

    max_pixels: int = 64_000_000
    max_bytes: int = 32_000_000


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image says of itself.

    Attributes:
        format: ``JPEG``, ``PNG``, ``BMP`` or ``WEBP``.
        width, height: Size in pixels after EXIF rotation.
        orientation: EXIF orientation, 1 to 8; 1 when absent.
    """

    format: str
    width: int
    height: int
    orientation: int = 1


def image_header(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Format and size of an encoded image, without decoding its pixels.

    A JPEG must reach its end-of-image marker; bytes after that marker are tolerated.

    Raises:
        ImageError: No image of a known format, truncated, or beyond the limits.
    """
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"the image has {len(data):,} bytes, more than the limit of {limits.max_bytes:,}; "
            "record at a smaller size or raise the limit"
        )
    if data.startswith(b"\xff\xd8"):
        width, height, _ = _walk_jpeg(data)
        _check_size(width, height, limits)
    elif data.startswith(_PNG_SIGNATURE):
        _walk_png(data)
    try:
        with warnings.catch_warnings():
            # Pillow's own bound is a warning; ours below is the one that counts.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
                _check_size(width, height, limits)
                kind = "JPEG" if image.format == "MPO" else str(image.format)
                orientation = _orientation(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is larger than the limit of {limits.max_pixels:,} pixels") from error
    except Exception as error:  # parsers of hostile bytes raise anything: OSError, SyntaxError, struct.error
        start = data[:4].hex(" ") or "nothing"
        raise ImageError(
            f"these {len(data):,} bytes are no readable image (they start with {start}); "
            f"use {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}"
        ) from error
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(kind, width, height, orientation)


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Rgb:
    """Decode to RGB as OpenCV does: EXIF rotation applied, greyscale tripled, alpha dropped, 8 bit.

    A scan that ends before the picture does is refused, where libjpeg would only warn and fill in grey.

    Returns:
        (H, W, 3) uint8, contiguous.

    Raises:
        ImageError: As :func:`image_header`, or the pixels are damaged.
    """
    header = image_header(data, limits)
    _check_complete(data, header)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(
            f"the {header.format} image cannot be decoded: {' '.join(str(error).split())}"
        ) from error
    if pixels is None:
        raise ImageError(f"the {header.format} image is damaged and cannot be decoded; record it again")
    rgb = np.ascontiguousarray(_upright(pixels, header.orientation), dtype=np.uint8)
    if rgb.shape != (header.height, header.width, 3):
        raise ImageError(
            f"the {header.format} image decodes to {rgb.shape[1]}x{rgb.shape[0]} pixels, "
            f"its header says {header.width}x{header.height}"
        )
    return rgb


def scaled_size(width: int, height: int, target: int) -> tuple[int, int, float]:
    """(width, height, scale) of an image of this size scaled to ``target`` pixels wide.

    Raises:
        ImageError: ``target`` is below 1.
    """
    if target < 1:
        raise ImageError(f"cannot scale to a width of {target} pixels; give at least 1")
    scale = target / width
    return target, max(1, round(height * scale)), scale


def scale_to_width(rgb: Rgb, width: int) -> tuple[Rgb, float]:
    """Scale with the area filter to ``width`` pixels; the height is round(H * width / W).

    Args:
        rgb: (H, W, 3) uint8.
        width: Target width, pixels.

    Returns:
        (scaled, scale): scaled is ``rgb`` itself when the scale is 1; a box in ``rgb`` times ``scale`` is
        the box in ``scaled``.
    """
    target, height, scale = scaled_size(rgb.shape[1], rgb.shape[0], width)
    if scale == 1:
        return rgb, scale
    scaled = cv2.resize(rgb, (target, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(scaled, dtype=np.uint8), scale


def encode_png(rgb: Rgb) -> bytes:
    """Lossless PNG of (H, W, 3) uint8 RGB.

    Raises:
        ImageError: The array is no such image.
    """
    return _encode(rgb, ".png", [])


def encode_jpeg(rgb: Rgb, quality: int = 95) -> bytes:
    """JPEG of (H, W, 3) uint8 RGB; ``quality`` is libjpeg's, 1 to 100.

    Raises:
        ImageError: The array is no such image, or the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise ImageError(f"JPEG quality must be 1 to 100, not {quality}")
    return _encode(rgb, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(rgb: Rgb, suffix: str, options: list[int]) -> bytes:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise ImageError(f"an image to encode must be (H, W, 3) uint8, not {rgb.shape} {rgb.dtype}")
    ok, buffer = cv2.imencode(suffix, rgb[..., ::-1], options)
    if not ok:
        raise ImageError(f"cannot encode a {rgb.shape[1]}x{rgb.shape[0]} image as {suffix[1:].upper()}")
    return buffer.tobytes()


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the image says it has {width}x{height} pixels")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"the image says it has {width}x{height} pixels, more than the limit of {limits.max_pixels:,}; "
            "record at a smaller size or raise the limit"
        )


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the picture unusable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: npt.NDArray[np.generic], orientation: int) -> npt.NDArray[np.generic]:
    """Undo an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _walk_jpeg(data: bytes) -> tuple[int, int, int]:
    """(width, height, offset of the end-of-image marker) of a JPEG, from its marker segments.

    Raises:
        ImageError: Truncated or not a sequence of marker segments.
    """
    size: tuple[int, int] | None = None
    position = 2
    scans = fill = notes = 0
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.match(data, position)
        if marker is None:
            raise ImageError(_truncated(len(data), position))
        code = marker[1][0]
        fill += marker.end() - position - 2
        notes += code == _PHOTOSHOP
        if fill > MAX_FILL or notes > MAX_PHOTOSHOP:
            raise ImageError("the JPEG has far more padding or notes than a picture needs; save it anew")
        position = marker.end()
        if code == _END_OF_IMAGE:
            if size is None:
                raise ImageError("the JPEG holds no picture: it ends before a frame header")
            return *size, marker.end() - 2
        if code == 0x01:
            continue
        if position + 2 > len(data):
            raise ImageError(_truncated(len(data), position))
        length = struct.unpack_from(">H", data, position)[0]
        if length < 2 or position + length > len(data):
            raise ImageError(_truncated(len(data), position))
        if code in _SIZE_MARKERS and size is None:
            if length < 8:
                raise ImageError("the JPEG's frame header is too short")
            height, width = struct.unpack_from(">HH", data, position + 3)
            size = width, height
        position += length
        if code == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageError(f"the JPEG has more than {MAX_SCANS} scans; save it as a baseline JPEG")
            scan_end = _SCAN_END.search(data, position)
            if scan_end is None:
                raise ImageError(_truncated(len(data), len(data)))
            position = scan_end.start()
    raise ImageError(f"the JPEG has more than {MAX_SEGMENTS:,} marker segments; save it anew")


def _walk_png(data: bytes) -> None:
    """Refuse a PNG of very many chunks; whatever else is wrong with it its decoder says.

    Raises:
        ImageError: Too many chunks.
    """
    position, others = len(_PNG_SIGNATURE), 0
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if kind == b"IEND":
            return
        others += kind not in _PIXEL_CHUNKS
        if others > MAX_SEGMENTS:
            break
    raise ImageError("the PNG has far more chunks than a picture needs; save it anew")


def _truncated(size: int, position: int) -> str:
    where = "at its end" if position >= size else f"at byte {position:,}"
    return f"the JPEG of {size:,} bytes is truncated or damaged {where}: no end-of-image marker was reached"


def _check_complete(data: bytes, header: ImageHeader) -> None:
    """Refuse an image whose pixel data stop before the picture does.

    Decoders make up the missing rest of a JPEG scan silently. What they make up depends on what follows the
    scan, so a JPEG is complete exactly if putting other bytes behind the scan leaves every pixel as it was.
    Pillow decodes here because it neither fills in short files nor writes libjpeg's warnings to stderr.
    """
    try:
        pixels = _pixels(data)
        if header.format != "JPEG":
            return
        end = _walk_jpeg(data)[2]
        if pixels == _pixels(data[:end] + _FILLER + data[end:]):
            return
    except ImageError:
        raise
    except Exception as error:  # parsers of hostile bytes raise anything: OSError, SyntaxError, struct.error
        raise ImageError(
            f"the {header.format} image is truncated or damaged ({error}); record or copy it again"
        ) from error
    raise ImageError("the JPEG is truncated or damaged: its data end before the picture does; copy it again")


def _pixels(data: bytes) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.load()
            return image.tobytes()
