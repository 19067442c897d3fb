"""How to see a keyframe so that it shows a frame: as it is, through a homography, or moved in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.bitstream import Motion
from common.bitstream.motion_payload import encode_motion
from common.images import Rgb
from common.inr.raster import warp
from common.pyramid.wavelet import COLOURS, analyse, from_colours
from fog_node.encoders.ladder import psnr_db
from fog_node.encoders.motion_search import find_motion
from fog_node.encoders.registration import Homography, Mask, find_homography

__all__ = ["View", "correction_bytes", "find_view"]

HOMOGRAPHY_BYTES = 32
BITS_A_COEFFICIENT, BITS_AN_OCTAVE = 6.0, 1.3
"""Bits of a coefficient at the threshold, and for each octave above it."""
FIXED_BYTES = 60
QUANTIZED_ERROR = 0.25
"""Mean squared error of a quantized coefficient, in squared thresholds."""
BINS, BINS_AN_OCTAVE = 60, 4
"""Of the histogram of coefficients, from 1 grey level."""
GREYS = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A way to see the keyframe, and what it shows.

    Attributes:
        homography: From the frame to the keyframe; None: the same view.
        motion: Added to it.
        picture: (3, H, W) float32 RGB, not clamped, as a decoder warps the keyframe.
        psnr_db: Of the picture outside the boxes.
        bytes: Estimate of what the view and the correction that it leaves take.
    """

    homography: Homography | None
    motion: Motion | None
    picture: Tensor
    psnr_db: float
    bytes: float


def find_view(
    image: Rgb,
    keyframe: Tensor,
    outside: Mask,
    target_db: float,
    *,
    spacing: int,
    start: Homography | None = None,
) -> View:
    """The view of a keyframe that leaves the fewest bytes, the plainest first.

    Args:
        image: The frame, (H, W, 3) uint8.
        keyframe: Its keyframe's decoded background, (3, H', W') float32 RGB.
        outside: (H, W) pixels outside every box.
        target_db: A view that reaches it needs no correction, and no other is looked for.
        spacing: Pixels between the nodes of a motion field.
        start: Homography of an earlier frame of the same keyframe.
    """
    scene = _Scene(image, keyframe, outside, target_db)
    best: View | None = None
    if keyframe.shape[1:] == image.shape[:2]:
        best = scene.view(None, None)
        if best.psnr_db >= target_db:
            return best
    shown = keyframe.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    homography = find_homography(image, shown, outside, start)
    turned = None if homography is None else scene.view(homography, None)
    if turned is not None and (best is None or turned.bytes < best.bytes):
        best = turned
        if best.psnr_db >= target_db:
            return best
    begin = homography if best is None else best.homography
    # Objects are followed, too: what the keyframe's background shows of them is where their residuals begin.
    motion = find_motion(image, shown, begin, np.ones_like(outside), spacing)
    if motion is None and best is not None:
        return best
    moved = scene.view(begin, motion)
    return moved if best is None or moved.bytes < best.bytes else best


class _Scene:
    """What views of one frame are measured against."""

    def __init__(self, image: Rgb, keyframe: Tensor, outside: Mask, target_db: float) -> None:
        self._wanted = torch.from_numpy(image).permute(2, 0, 1).float()
        self._keyframe = keyframe
        self._outside = torch.from_numpy(outside)
        self._target_db = target_db

    def view(self, homography: Homography | None, motion: Motion | None) -> View:
        """This view, measured."""
        size = self._wanted.shape[1], self._wanted.shape[2]
        picture = self._keyframe
        if homography is not None or motion is not None:
            picture = warp(self._keyframe, homography, size, motion)
        error = self._wanted - picture.clamp(0, 1).mul(GREYS).round()
        counted = error[:, self._outside]
        mean = float(counted.square().mean()) if counted.numel() else 0.0
        reached = psnr_db(mean / GREYS**2)
        spent = HOMOGRAPHY_BYTES * (homography is not None) + (len(encode_motion(motion)) if motion else 0)
        correction = 0.0 if reached >= self._target_db else self._correction_bytes(error)
        return View(homography, motion, picture, reached, spent + correction)

    def _correction_bytes(self, error: Tensor) -> float:
        low, details = analyse(from_colours(error * self._outside, inverse=True))
        grids = [low, *(grid for level in details for grid in level)]
        allowed = 10 ** (-self._target_db / 10) * GREYS**2 * COLOURS * int(self._outside.sum())
        return correction_bytes([grid.abs().reshape(-1).numpy() for grid in grids], allowed)


def correction_bytes(sizes: Sequence[npt.NDArray[np.float32]], allowed: float) -> float:
    """Estimate of the bytes of a correction, from the sizes of its coefficients.

    Coefficients below a threshold are left out, the others are quantized; the threshold is the highest that
    leaves no more than the allowed error. It tells views apart; what a correction takes is counted later.

    Args:
        sizes: Absolute values of an orthonormal transform.
        allowed: Sum of squared errors that may stay.
    """
    counts, energies = np.zeros(BINS), np.zeros(BINS)
    for part in sizes:
        bins = np.clip(np.log2(np.maximum(part, 1e-3)) * BINS_AN_OCTAVE, 0, BINS - 1).astype(np.int64)
        counts += np.bincount(bins, minlength=BINS)
        energies += np.bincount(bins, np.square(part), minlength=BINS)
    left_out = np.concatenate([[0.0], np.cumsum(energies)[:-1]])
    kept = np.cumsum(counts[::-1])[::-1]
    thresholds = 2.0 ** (np.arange(BINS) / BINS_AN_OCTAVE)
    remaining = left_out + kept * QUANTIZED_ERROR * np.square(thresholds)
    place = int(np.nonzero(remaining <= allowed)[0].max(initial=0))
    octaves = (np.arange(BINS) - place) / BINS_AN_OCTAVE
    bits = (BITS_A_COEFFICIENT + BITS_AN_OCTAVE * octaves) * counts
    return FIXED_BYTES + float(bits[place:].sum()) / 8
