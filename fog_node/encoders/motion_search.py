"""Where the parts of a frame lie in its keyframe: optical flow, fitted to the nodes of a motion field."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from common.bitstream import Motion
from common.bitstream.motion_payload import MAX_STEPS, node_grid
from common.images import Rgb
from common.inr.raster import between_nodes, warp
from fog_node.encoders.registration import Homography, Mask, grey_of

__all__ = ["find_motion"]

Floats = npt.NDArray[np.float32]

STEPS = 30
"""Steps of the fit."""
FIRST_RATE, LAST_RATE = 0.5, 0.02
"""Its rate, pixels a step."""
SMOOTHNESS = 0.1
"""Cost of a pixel of difference between neighbouring vectors, in squared error (hundreds) per pixel of a
block: on four clips outside the measured ones 0.02 to 0.3 gave the same bytes within 3 %."""
STEPS_A_PIXEL = 4
SMALLEST_SIDE = 32
"""Pixels a side below which nothing is searched: OpenCV's flow needs whole patches at its coarsest level, and
fails or reads beyond the picture in thin ones. A field of so few nodes would save next to nothing."""


def find_motion(
    frame: Rgb, keyframe: Rgb, homography: Homography | None, outside: Mask, spacing: int
) -> Motion | None:
    """The motion field under which ``keyframe`` looks most like ``frame``.

    Args:
        frame: (H, W, 3) uint8.
        keyframe: (H', W', 3) uint8, as it is decoded.
        homography: From the frame to the keyframe; the field is added to it.
        outside: (H, W) pixels that count.
        spacing: Pixels between nodes.

    Returns:
        None when either picture is too thin to search in, or no flow is found.
    """
    if min(*frame.shape[:2], *keyframe.shape[:2]) < SMALLEST_SIDE:
        return None
    height, width = frame.shape[:2]
    grey = grey_of(frame)
    key = torch.from_numpy(grey_of(keyframe)).float()[None]
    # The flow is of the keyframe as the homography shows it: what is left is small. Boxes are shown at rest.
    seen = warp(key, homography, (height, width))[0].clamp(0, 255).byte().numpy()
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((height, width, 2), np.float32)
    try:
        flow = np.asarray(finder.calc(np.where(outside, grey, seen), seen, start), np.float32)
    except cv2.error:
        return None
    nodes = _node_means(flow, _weights(grey, outside), spacing)
    fitted = _fitted(nodes, spacing, grey, key, homography, outside)
    steps = np.rint(fitted * STEPS_A_PIXEL).clip(-MAX_STEPS, MAX_STEPS)
    return Motion(spacing, steps.astype(np.int16))


def _weights(grey: npt.NDArray[np.uint8], outside: Mask) -> Floats:
    """How far the flow of each pixel is to be trusted: by its contrast, not at all in boxes."""
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray((np.abs(across) + np.abs(down) + 5) * outside, np.float32)


def _node_means(flow: Floats, weights: Floats, spacing: int) -> Floats:
    """(rows, columns, 2) weighted means of the flow over each node's block."""
    height, width = weights.shape
    rows, columns = node_grid(width, height, spacing)
    blocks = np.zeros((rows * spacing, columns * spacing, 3), np.float32)
    blocks[:height, :width, :2] = flow * weights[:, :, None]
    blocks[:height, :width, 2] = weights
    sums = blocks.reshape(rows, spacing, columns, spacing, 3).sum((1, 3))
    total = sums[:, :, 2:]
    means = sums[:, :, :2] / np.maximum(total, 1e-6)
    # A block inside a box tells nothing: the mean of all will do, it costs least.
    overall = sums[:, :, :2].sum((0, 1)) / max(float(total.sum()), 1e-6)
    return np.asarray(np.where(total > 0, means, overall), np.float32)


def _fitted(
    nodes: Floats,
    spacing: int,
    grey: npt.NDArray[np.uint8],
    key: Tensor,
    homography: Homography | None,
    outside: Mask,
) -> Floats:
    """Vectors of the least squared error between the frame and the moved keyframe, neighbours alike."""
    height, width = grey.shape
    wanted, counts = torch.from_numpy(grey).float(), torch.from_numpy(outside).float()
    vectors = torch.from_numpy(nodes).permute(2, 0, 1).clone().requires_grad_(True)
    base = _places(homography, height, width)
    scale = torch.tensor([2 / key.shape[2], 2 / key.shape[1]]).reshape(2, 1, 1)
    optimizer = torch.optim.Adam([vectors], FIRST_RATE)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = FIRST_RATE * (1 - step / STEPS) + LAST_RATE
        places = (base + between_nodes(vectors, spacing, (height, width)) + 0.5) * scale - 1
        grid = places.permute(1, 2, 0)[None]
        seen = F.grid_sample(key[None], grid, padding_mode="border", align_corners=False)[0, 0]
        error = ((seen - wanted).square() * counts).sum() / (100 * spacing**2)
        across, down = vectors.diff(dim=2), vectors.diff(dim=1)
        rough = (across.square() + 0.05).sqrt().sum() + (down.square() + 0.05).sqrt().sum()
        loss = error + SMOOTHNESS * rough
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return np.asarray(vectors.detach().permute(1, 2, 0).numpy(), np.float32)


def _places(homography: Homography | None, height: int, width: int) -> Tensor:
    """(2, height, width) x and y in the keyframe of every pixel."""
    a, b, c, d, e, f, g, h = homography or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    y, x = torch.arange(height).float()[:, None], torch.arange(width).float()
    depth = g * x + h * y + 1
    return torch.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth])
