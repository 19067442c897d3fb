"""Finding again a view and its motion: on a real photograph, moved by known amounts."""

import cv2
import numpy as np
import pytest
import torch

from common.inr.raster import between_nodes, warp
from fog_node.encoders.motion_search import find_motion
from fog_node.encoders.registration import find_homography, is_plausible

SIZE = (180, 240)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def scene(photo):
    """A picture larger than a frame."""
    return cv2.resize(photo, (320, 240), interpolation=cv2.INTER_AREA)


def view(scene, matrix):
    """What a camera sees of the scene: ``matrix`` takes its pixels to the scene's."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(scene, np.float64(matrix), SIZE[::-1], flags=flags)


def shown(keyframe, homography, motion=None):
    image = torch.from_numpy(keyframe).permute(2, 0, 1).float()
    return warp(image, homography, SIZE, motion).permute(1, 2, 0).numpy()


def psnr(a, b, inside):
    return 10 * np.log10(255**2 / np.mean((a[inside].astype(float) - b[inside]) ** 2))


def turned(degrees, x, y, zoom=1.0):
    rotation = cv2.getRotationMatrix2D((SIZE[1] / 2, SIZE[0] / 2), degrees, zoom)
    rotation[:, 2] += (x, y)
    return np.vstack([rotation, [0, 0, 1]])


@pytest.mark.parametrize("move", [(0, 3.5, -2.25), (2, 10, 6), (-5, 20, 15, 1.1)])
def test_a_turned_camera_is_found_again(scene, move):
    start, now = turned(0, 40, 30), turned(*move) @ turned(0, 40, 30)
    keyframe, frame = view(scene, start), view(scene, now)
    outside = np.ones(SIZE, bool)
    found = find_homography(frame, keyframe, outside)
    expected = np.linalg.inv(start) @ now
    corners = np.array([[20, 20, 1], [200, 20, 1], [200, 150, 1], [20, 150, 1]]).T
    matrix = np.array([*found, 1]).reshape(3, 3)
    got, wanted = matrix @ corners, expected @ corners
    assert np.abs(got[:2] / got[2] - wanted[:2] / wanted[2]).max() < 0.5


def test_objects_do_not_turn_the_camera(scene):
    keyframe = view(scene, turned(0, 40, 30))
    frame = keyframe.copy()
    frame[60:140, 80:180] = np.roll(frame, 25, 1)[60:140, 80:180]
    outside = np.ones(SIZE, bool)
    outside[60:140, 80:180] = False
    found = find_homography(frame, keyframe, outside)
    assert np.abs(np.array(found) - IDENTITY).max() < 0.05


def test_an_earlier_homography_helps_where_there_are_no_features(scene):
    smooth = cv2.GaussianBlur(scene, (0, 0), 6)
    keyframe, frame = view(smooth, turned(0, 40, 30)), view(smooth, turned(0, 46, 30))
    found = find_homography(frame, keyframe, np.ones(SIZE, bool), (1.0, 0, 5.0, 0, 1.0, 0, 0, 0))
    assert abs(found[2] - 6) < 0.5


@pytest.mark.parametrize(
    "homography",
    [
        (-1.0, 0, 239, 0, 1.0, 0, 0, 0),
        (1.0, 0, 200, 0, 1.0, 0, 0, 0),
        (3.0, 0, 0, 0, 3.0, 0, 0, 0),
        (0.01, 0, 100, 0, 0.01, 90, 0, 0),
        (1.0, 0, 0, 0, 1.0, 0, 0.01, 0),
        (float("nan"), 0, 0, 0, 1.0, 0, 0, 0),
    ],
    ids=["mirrored", "outside", "tiny", "point", "horizon", "nan"],
)
def test_views_that_no_camera_takes_are_refused(homography):
    assert is_plausible(IDENTITY, SIZE, SIZE)
    assert not is_plausible(homography, SIZE, SIZE)


def test_parts_that_move_by_themselves_are_followed(scene):
    keyframe = view(scene, turned(0, 40, 30))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    bend = 4 * np.sin(rows / 40)
    frame = cv2.remap(keyframe, columns + bend, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.ones(SIZE, bool)
    motion = find_motion(frame, keyframe, None, inside, 32)
    before, after = (
        psnr(shown(keyframe, None), frame, inside),
        psnr(shown(keyframe, None, motion), frame, inside),
    )
    assert after > before + 6
    vectors = torch.from_numpy(motion.vectors).permute(2, 0, 1).float() / 4
    right = between_nodes(vectors, 32, SIZE)[0].numpy()
    assert np.abs(right - bend)[20:-20, 20:-20].mean() < 1


@pytest.mark.parametrize("size", [(1, 16), (8, 16), (8, 96), (11, 640), (12, 24), (31, 64), (64, 16)])
def test_pictures_too_thin_to_search_in_have_no_motion(size):
    rng = np.random.default_rng(0)
    frame, keyframe = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
    inside = np.ones(size, bool)
    found = find_homography(frame, keyframe, inside)
    assert found is None or is_plausible(found, size, size)
    assert find_motion(frame, keyframe, None, inside, 32) is None


def test_pixels_in_boxes_do_not_bend_the_field(scene):
    keyframe = view(scene, turned(0, 40, 30))
    frame = keyframe.copy()
    frame[60:140, 80:180] = 0
    outside = np.ones(SIZE, bool)
    outside[60:140, 80:180] = False
    assert np.abs(find_motion(frame, keyframe, None, outside, 32).vectors).max() <= 1
