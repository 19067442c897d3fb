"""Distortion of decoded frames: PSNR over 8-bit RGB, inside and outside the boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.images import Rgb

__all__ = ["PSNR_CAP_DB", "Region", "frame_quality", "psnr"]

PSNR_CAP_DB = 99.0
"""PSNR given to identical pixels, dB; above what 8-bit images of any usual size can reach otherwise."""

Region = tuple[int, int, int, int]
"""Pixels (x0, y0, x1, y1), half-open, 0-based, inside the image."""


def psnr(a: Rgb, b: Rgb, mask: npt.NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all channels, at most 99; 99 where there is no pixel.

    Args:
        a: (H, W, 3) uint8.
        b: The same shape and type.
        mask: (H, W) bool; only True pixels count.

    Raises:
        ValueError: The shapes differ or the values are not 8 bit.
    """
    if a.shape != b.shape:
        raise ValueError(f"PSNR needs images of one shape, not {a.shape} and {b.shape}")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"PSNR is over 8-bit images, not {a.dtype} and {b.dtype}")
    if mask is not None:
        a, b = a[mask], b[mask]
    if a.size == 0:
        return PSNR_CAP_DB
    error = a.astype(np.float64) - b.astype(np.float64)
    mean_square = float(np.mean(error * error))
    if mean_square == 0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, float(10 * np.log10(255**2 / mean_square)))


def frame_quality(decoded: Rgb, original: Rgb, regions: Sequence[Region]) -> tuple[float | None, list[float]]:
    """(background PSNR, [PSNR of each region]) in dB.

    The background is every pixel outside all regions; its PSNR is None when there is no such pixel.

    Args:
        decoded: (H, W, 3) uint8.
        original: The same shape and type.
        regions: Object regions, as :meth:`common.frame.Box.region` gives them.
    """
    outside = np.ones(original.shape[:2], dtype=np.bool_)
    for x0, y0, x1, y1 in regions:
        outside[y0:y1, x0:x1] = False
    background = psnr(decoded, original, outside) if outside.any() else None
    objects = [psnr(decoded[y0:y1, x0:x1], original[y0:y1, x0:x1]) for x0, y0, x1, y1 in regions]
    return background, objects
