"""Which network size to start from, predicted from the frame.

JPEG is a good judge of how hard a picture is: the bytes that it needs for the target quality predict the
parameters that a background needs, at a cost of milliseconds. A wrong guess costs time (a round that misses)
or bytes (a larger network than needed), never quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from common.images import Rgb
from common.inr.siren import Architecture

__all__ = ["background_rung", "jpeg_bytes_for", "object_rung", "rung_for_bytes"]

PARAMETERS_PER_PIXEL_DB = 0.04
"""Parameters of an object's network for each pixel of its box and dB of quality that it must add."""
BITS_PER_PARAMETER = 4.0
"""What a parameter takes at the default rate weight, roughly."""
EMPTY_JPEG = 1_500
"""Bytes of a JPEG of 640 x 360 pixels that shows nothing, roughly."""
QUALITIES = tuple(range(4, 97, 4))
"""JPEG qualities searched by bisection."""


def jpeg_bytes_for(image: Rgb, psnr: float) -> int:
    """Bytes of the smallest JPEG of ``image`` whose PSNR is at least ``psnr`` dB (of the best if none is)."""
    low, high = 0, len(QUALITIES) - 1
    bgr = np.ascontiguousarray(image[..., ::-1])
    size = 0
    while low <= high:
        middle = (low + high) // 2
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITIES[middle], cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        data = cv2.imencode(".jpg", bgr, options)[1]
        error = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32) - bgr
        if 255**2 / max(1e-9, float(np.square(error).mean())) >= 10 ** (psnr / 10):
            size, high = len(data), middle - 1
        else:
            size, low = size or len(data), middle + 1
    return size


def background_rung(image: Rgb, psnr: float, sizes: Sequence[Architecture]) -> int:
    """Index of the size to start a background from."""
    return _closest(14_500 * (max(0, jpeg_bytes_for(image, psnr) - EMPTY_JPEG) / 6_500) ** 1.3, sizes)


def rung_for_bytes(payload_bytes: int, sizes: Sequence[Architecture]) -> int:
    """Index of the size whose payload of :data:`BITS_PER_PARAMETER` is nearest to ``payload_bytes``."""
    return _closest(8 * payload_bytes / BITS_PER_PARAMETER, sizes)


def object_rung(pixels: int, missing_db: float, sizes: Sequence[Architecture]) -> int:
    """Index of the size to start an object's residual from.

    Rate grows with the pixels and with the decibels to gain (a bit a sample for each 6 dB); how many
    parameters a pixel and decibel take was seen on real boxes of 13x13 to 80x190 pixels.
    """
    return _closest(PARAMETERS_PER_PIXEL_DB * pixels * max(0.0, missing_db), sizes)


def _closest(parameters: float, sizes: Sequence[Architecture]) -> int:
    """The size whose number of parameters is nearest by ratio."""
    wanted = math.log(max(1.0, parameters))
    return min(range(len(sizes)), key=lambda index: abs(math.log(sizes[index].parameters) - wanted))
