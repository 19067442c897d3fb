import math

import numpy as np
import pytest

from common.quality import PSNR_CAP_DB, frame_quality, psnr


def shifted(rgb, by):
    return np.where(rgb > 200, rgb - by, rgb + by).astype(np.uint8)


def test_psnr_of_a_known_error(photo):
    assert psnr(photo, shifted(photo, 5)) == pytest.approx(20 * math.log10(255 / 5))


def test_psnr_is_symmetric_and_does_not_wrap():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr(black, white) == psnr(white, black) == 0


def test_identical_images_are_capped(photo):
    assert psnr(photo, photo) == PSNR_CAP_DB


def test_mask_selects_pixels(photo):
    other = photo.copy()
    other[:10] = shifted(photo[:10], 5)
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:] = True
    assert psnr(photo, other, mask) == PSNR_CAP_DB
    assert psnr(photo, other, ~mask) == pytest.approx(20 * math.log10(255 / 5))


def test_background_is_what_lies_outside_every_box(photo):
    decoded = shifted(photo, 2)
    decoded[10:20, 10:30] = shifted(photo[10:20, 10:30], 8)
    decoded[15:40, 25:40] = shifted(photo[15:40, 25:40], 8)
    background, objects = frame_quality(decoded, photo, [(10, 10, 30, 20), (25, 15, 40, 40)])
    assert background == pytest.approx(20 * math.log10(255 / 2))
    assert objects == [pytest.approx(20 * math.log10(255 / 8))] * 2


def test_without_boxes_all_is_background(photo):
    assert frame_quality(photo, photo, []) == (PSNR_CAP_DB, [])


def test_a_box_over_the_whole_frame_leaves_no_background(photo):
    background, objects = frame_quality(shifted(photo, 1), photo, [(0, 0, 96, 72)])
    assert background is None
    assert len(objects) == 1


def test_mismatched_images_are_refused(photo):
    with pytest.raises(ValueError, match="one shape"):
        psnr(photo, photo[1:])
    with pytest.raises(ValueError, match="8-bit"):
        psnr(photo.astype(np.float32), photo.astype(np.float32))
