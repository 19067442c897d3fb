"""How a camera has turned since its keyframe: a homography from features, refined on the pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from common.images import Rgb

__all__ = ["Homography", "Mask", "find_homography", "grey_of", "is_plausible"]

Homography = tuple[float, ...]
"""Row by row, the first eight entries of the matrix (the last is 1) from this frame's pixel centres to the
keyframe's."""
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]

FEATURES = 1000
"""Features of each picture; the strongest."""
RATIO = 0.8
"""A match counts when it is so much nearer than the second (Lowe, 2004)."""
FEWEST = 12
"""Matches that a homography must explain; four would do for any."""
REACH_PX = 2.0
"""A match within so many pixels is explained."""
REFINEMENTS = 30
"""Steps of the refinement at most."""
SMOOTHING = 5
"""Window of the smoothing before the refinement, pixels."""
LEAST_INSIDE = 0.5
"""Share of the frame that must lie inside the keyframe: what lies outside is guessed from its edge."""
DEPTHS = (0.5, 2.0)
"""Bounds of the projective denominator: beyond them a part of the frame nearly is the horizon."""
AREAS = (0.25, 4.0)
"""Bounds of a corner's change of area."""


def find_homography(
    frame: Rgb, keyframe: Rgb, outside: Mask, start: Homography | None = None
) -> Homography | None:
    """The homography under which ``keyframe`` looks most like ``frame``.

    Args:
        frame: (H, W, 3) uint8.
        keyframe: (H', W', 3) uint8, as it is decoded.
        outside: (H, W) pixels of ``frame`` outside its boxes: objects move by themselves.
        start: Of an earlier frame of the same keyframe; tried before features are looked for.

    Returns:
        None when none is found that is plausible.
    """
    grey, key = grey_of(frame), grey_of(keyframe)
    sizes = (grey.shape[:2], key.shape[:2])
    begins = [_matrix(start)] if start is not None else []
    matched = _from_features(grey, key, outside)
    if matched is not None and is_plausible(_entries(matched), *sizes):
        begins.append(matched)
    if not begins:
        begins.append(np.eye(3))
    best: tuple[float, Homography] | None = None
    for begin in begins:
        refined = _refined(grey, key, outside, begin)
        for candidate in (begin, refined):
            entries = None if candidate is None else _entries(candidate)
            if entries is None or not is_plausible(entries, *sizes):
                continue
            error = _error(grey, key, outside, _matrix(entries))
            if best is None or error < best[0]:
                best = error, entries
    return None if best is None else best[1]


def is_plausible(homography: Homography, size: tuple[int, int], keyframe_size: tuple[int, int]) -> bool:
    """Whether a camera may have seen a frame so: finite, not mirrored, no horizon, mostly in the keyframe.

    Args:
        homography: From the frame to the keyframe.
        size: Height and width of the frame, pixels.
        keyframe_size: Those of the keyframe.
    """
    matrix = _matrix(homography)
    if not np.isfinite(matrix).all():
        return False
    rows, columns = np.meshgrid(np.linspace(0, size[0] - 1, 9), np.linspace(0, size[1] - 1, 9), indexing="ij")
    points = np.stack([columns.reshape(-1), rows.reshape(-1), np.ones(rows.size)])
    u, v, depth = matrix @ points
    if not (DEPTHS[0] < depth.min() and depth.max() < DEPTHS[1]):
        return False
    areas = np.linalg.det(matrix) / depth**3
    if not (AREAS[0] < areas.min() and areas.max() < AREAS[1]):
        return False
    x, y = u / depth, v / depth
    inside = (x > -1) & (x < keyframe_size[1]) & (y > -1) & (y < keyframe_size[0])
    return float(inside.mean()) >= LEAST_INSIDE


def grey_of(image: Rgb) -> Grey:
    """(H, W) uint8 of an RGB image."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _from_features(grey: Grey, key: Grey, outside: Mask) -> Matrix | None:
    try:
        return _matched(grey, key, outside)
    except cv2.error:  # pictures of a few pixels have no scale space
        return None


def _matched(grey: Grey, key: Grey, outside: Mask) -> Matrix | None:
    finder = cv2.SIFT.create(FEATURES)
    points, described = finder.detectAndCompute(grey, outside.astype(np.uint8) * 255)
    key_points, key_described = finder.detectAndCompute(key, None)
    if described is None or key_described is None or min(len(points), len(key_points)) < FEWEST:
        return None
    pairs = cv2.BFMatcher().knnMatch(described, key_described, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    if len(good) < FEWEST:
        return None
    here = np.array([points[match.queryIdx].pt for match in good], np.float32)
    there = np.array([key_points[match.trainIdx].pt for match in good], np.float32)
    found, explained = cv2.findHomography(here, there, cv2.USAC_MAGSAC, REACH_PX)
    if found is None or int(explained.sum()) < FEWEST or abs(found[2, 2]) < 1e-9:
        return None
    return np.asarray(found / found[2, 2], np.float64)


def _refined(grey: Grey, key: Grey, outside: Mask, begin: Matrix) -> Matrix | None:
    """The homography near ``begin`` of the highest correlation (ECC; Evangelidis and Psarakis, 2008)."""
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, REFINEMENTS, 1e-5)
    mask = outside.astype(np.uint8) * 255
    try:
        _, found = cv2.findTransformECC(
            grey, key, begin.astype(np.float32), cv2.MOTION_HOMOGRAPHY, stop, mask, SMOOTHING
        )
    except cv2.error:  # the pictures do not resemble each other from there
        return None
    return None if abs(found[2, 2]) < 1e-9 else np.asarray(found / found[2, 2], np.float64)


def _error(grey: Grey, key: Grey, outside: Mask, matrix: Matrix) -> float:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (grey.shape[1], grey.shape[0])
    seen = cv2.warpPerspective(key, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    difference = (seen.astype(np.float32) - grey)[outside]
    return float(np.mean(np.square(difference))) if difference.size else 0.0


def _matrix(homography: Homography) -> Matrix:
    return np.array([*homography, 1.0], np.float64).reshape(3, 3)


def _entries(matrix: Matrix) -> Homography:
    """As a packet stores them: binary32."""
    return tuple(float(value) for value in matrix.reshape(-1)[:8].astype(np.float32))
