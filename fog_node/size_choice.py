"""Which network size to start from, predicted from the pixels.

JPEG is a good judge of how hard a picture is: the bytes that it needs for the target quality predict the
parameters that a SIREN needs, at a cost of milliseconds. A wrong guess costs time (a round that misses) or
bytes (a larger network than needed), never quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from common.images import Rgb
from common.inr.siren import Architecture

__all__ = ["background_rung", "jpeg_bytes_for", "object_rung"]

QUALITIES = tuple(range(4, 97, 4))
"""JPEG qualities searched by bisection."""


def jpeg_bytes_for(image: Rgb, psnr: float) -> int:
    """Bytes of the smallest JPEG of ``image`` whose PSNR is at least ``psnr`` dB (of the best if none is)."""
    low, high = 0, len(QUALITIES) - 1
    bgr = np.ascontiguousarray(image[..., ::-1])
    size = 0
    while low <= high:
        middle = (low + high) // 2
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITIES[middle]])[1]
        error = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32) - bgr
        if 255**2 / max(1e-9, float(np.square(error).mean())) >= 10 ** (psnr / 10):
            size, high = len(data), middle - 1
        else:
            size, low = size or len(data), middle + 1
    return size


def background_rung(image: Rgb, psnr: float, sizes: Sequence[Architecture]) -> int:
    """Index of the size to start a background from."""
    wanted = 15_000 * (jpeg_bytes_for(image, psnr) / 9_500) ** 3
    return _closest(wanted, sizes)


def object_rung(crop: Rgb, psnr: float, sizes: Sequence[Architecture]) -> int:
    """Index of the size to start an object's residual from."""
    wanted = max(0, jpeg_bytes_for(crop, psnr) - 600)
    return _closest(wanted, sizes)


def _closest(parameters: float, sizes: Sequence[Architecture]) -> int:
    """The smallest size with at least ``parameters``, else the largest."""
    for index, size in enumerate(sizes):
        if size.parameters >= parameters:
            return index
    return len(sizes) - 1
