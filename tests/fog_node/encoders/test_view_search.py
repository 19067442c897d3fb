"""The view of a keyframe: the plainest that is good enough, else the one that leaves the fewest bytes."""

import cv2
import numpy as np
import pytest
import torch

from fog_node.encoders.view_search import correction_bytes, find_view

HEIGHT, WIDTH = 144, 192
EVERYWHERE = np.ones((HEIGHT, WIDTH), bool)


@pytest.fixture(scope="module")
def scene(photo):
    return cv2.resize(photo, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)


def view(scene, x=40, y=30):
    return np.ascontiguousarray(scene[y : y + HEIGHT, x : x + WIDTH])


def keyframe(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def found(frame, key, target=32, outside=EVERYWHERE):
    return find_view(frame, keyframe(key), outside, target, spacing=32)


def test_the_same_view_is_taken_as_it_is(scene):
    best = found(view(scene), view(scene))
    assert (best.homography, best.motion, best.bytes) == (None, None, 0)
    assert best.psnr_db == 99


def test_what_moves_in_boxes_does_not_count(scene):
    frame = view(scene).copy()
    frame[40:90, 60:120] = 0
    outside = EVERYWHERE.copy()
    outside[40:90, 60:120] = False
    assert found(frame, view(scene), outside=outside).psnr_db == 99


def test_a_camera_that_has_turned_costs_a_homography(scene):
    best = found(view(scene, 47, 33), view(scene), target=30)
    assert best.homography is not None
    assert best.motion is None
    assert best.psnr_db >= 30


def test_parts_that_move_by_themselves_cost_a_motion_field(scene):
    key = view(scene)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    bent = cv2.remap(
        key, columns + 5 * np.sin(rows / 25), rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    best = found(bent, key, target=40)
    assert best.motion is not None
    assert best.psnr_db > found(bent, key, target=10).psnr_db


def test_a_keyframe_of_another_size_is_seen_through_a_view(scene):
    best = found(view(scene), scene, target=30)
    assert best.picture.shape == (3, HEIGHT, WIDTH)
    assert best.homography is not None


def test_what_a_decoder_shows_is_what_was_measured(scene):
    from common.inr.raster import warp

    best = found(view(scene, 47, 33), view(scene), target=30)
    shown = warp(keyframe(view(scene)), best.homography, (HEIGHT, WIDTH), best.motion)
    assert torch.equal(shown, best.picture)


def test_corrections_cost_more_the_more_is_wrong_and_the_less_is_allowed():
    rng = np.random.default_rng(0)
    error = np.abs(rng.normal(0, 8, 10_000)).astype(np.float32)
    some = correction_bytes([error], allowed=3e5)
    assert correction_bytes([2 * error], allowed=3e5) > some
    assert correction_bytes([error], allowed=1e5) > some
    assert correction_bytes([error], allowed=1e9) < 100
