"""Region JPEG within a number of bytes: a coarse background, which may be small, and a sharper crop a box.

The peer is given every help: its files count without what every JPEG repeats (207 bytes), its background may
have any of several sizes and the quality that fits, and the size is chosen whose picture, enlarged again, is
nearest to the original. A crop is the cheapest that reaches the target inside its box, within half of the
bytes for all crops together; one that would take more has the best quality that fits, or is left out.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image

from common.bitstream.bare_images import bare_image
from common.images import Rgb
from common.quality import Region, psnr
from judge.peers import PLACE_BYTES

__all__ = ["region_jpeg"]

SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)
"""Sizes of the background, as shares of the frame's sides."""
QUALITIES = range(1, 96)
"""libjpeg's qualities that are tried."""


def region_jpeg(image: Rgb, regions: Sequence[Region], budget: int, object_psnr: float) -> tuple[Rgb, int]:
    """What region JPEG makes of a frame in ``budget`` bytes.

    Args:
        image: (H, W, 3) uint8, at the coded size.
        regions: Boxes in it.
        budget: Bytes. Where even the smallest background takes more, it is used all the same.
        object_psnr: What is enough inside a box, dB.

    Returns:
        The decoded picture (H, W, 3) uint8, and its bytes.
    """
    crops: list[tuple[Region, Rgb]] = []
    spent = 0
    for place, (x0, y0, x1, y1) in enumerate(regions):
        crop = np.ascontiguousarray(image[y0:y1, x0:x1])
        allowance = (budget // 2 - spent) // (len(regions) - place) - PLACE_BYTES
        found = _crop(crop, allowance, object_psnr)
        if found is not None:
            crops.append(((x0, y0, x1, y1), found[0]))
            spent += found[1] + PLACE_BYTES
    outside = np.ones(image.shape[:2], bool)
    for x0, y0, x1, y1 in regions:
        outside[y0:y1, x0:x1] = False
    mask = outside if outside.any() else None
    tried = [_background(image, share, budget - spent) for share in SHARES]
    fitting = [item for item in tried if item[1] <= budget - spent]
    picture, size = max(fitting, key=lambda item: psnr(item[0], image, mask)) if fitting else tried[-1]
    for (x0, y0, x1, y1), crop in crops:
        picture[y0:y1, x0:x1] = crop
    return picture, size + spent


def _background(image: Rgb, share: float, budget: int) -> tuple[Rgb, int]:
    """The best background of this size within ``budget``, enlarged to the frame; else the smallest file."""
    height, width = image.shape[:2]
    size = max(8, round(width * share)), max(8, round(height * share))
    small = image if share == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    quality = _last(lambda q: _bytes(small, q) <= budget) or QUALITIES[0]
    decoded, count = _round_trip(small, quality)
    if share < 1:
        decoded = cv2.resize(decoded, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    return decoded, count


def _crop(crop: Rgb, allowance: int, target: float) -> tuple[Rgb, int] | None:
    enough = _last(lambda q: psnr(crop, _round_trip(crop, q)[0]) < target)
    quality = QUALITIES[0] if enough is None else min(enough + 1, QUALITIES[-1])
    if _bytes(crop, quality) > allowance:
        fitting = _last(lambda q: _bytes(crop, q) <= allowance)
        if fitting is None:
            return None
        quality = fitting
    return _round_trip(crop, quality)


def _last(holds: Callable[[int], bool]) -> int | None:
    """The last quality for which ``holds`` is true, which is true up to some quality; None: for none."""
    low, high = 0, len(QUALITIES)
    while low < high:
        middle = (low + high) // 2
        if holds(QUALITIES[middle]):
            low = middle + 1
        else:
            high = middle
    return QUALITIES[low - 1] if low else None


def _file(image: Rgb, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality, optimize=True)
    return file.getvalue()


def _bytes(image: Rgb, quality: int) -> int:
    return len(bare_image("jpeg", _file(image, quality)))


def _round_trip(image: Rgb, quality: int) -> tuple[Rgb, int]:
    data = _file(image, quality)
    with Image.open(io.BytesIO(data)) as decoded:
        return np.array(decoded.convert("RGB"), dtype=np.uint8), len(bare_image("jpeg", data))
