"""Decoded frames to output images through maps of coordinates: one resampling, averaging where it shrinks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from common.inr.decode import resize
from common.inr.sampling import EDGE, Sampling, whole_frames

__all__ = ["show_frame"]

PLACES_PER_PIXEL = 16
"""Places at which a frame is read at most, for each of its coded pixels: rotation, shear and rounding up need
up to 7, a view that crushes a frame to a line would need millions."""
LEAST_PLACES = 1 << 22
"""The same bound for small frames; a place takes about 30 bytes while a frame is read."""


def show_frame(out: Tensor, image: Tensor, sampling: Sampling, piece: int) -> None:
    """Show a piece of a decoded frame.

    A whole frame whose sides fall on pixel edges (a letterbox, mirrored or not) is resized by
    :func:`common.inr.decode.resize`. Anything else is read bilinearly at points spread evenly over each
    output pixel, no further apart than the frame's pixels, and averaged: an affine map resamples once. A view
    that crushes the frame is read at fewer places (:data:`PLACES_PER_PIXEL`).

    Args:
        out: (B, 3, height, width) float32; the pixels that show the piece are overwritten.
        image: (3, h, w) float32, the frame at its coded size.
        sampling: What is shown where, on the device of ``image``.
        piece: Which of its pieces.
    """
    chosen = torch.tensor([piece], device=image.device)
    region = whole_frames(sampling.coded[chosen])
    x0, y0, x1, y1 = sampling.windows(chosen, region)[0].tolist()
    if x1 == x0 or y1 == y0:
        return
    target = out[int(sampling.images[piece]), :, y0:y1, x0:x1]
    scaling = sampling.maps[piece]
    if _fills(sampling, piece, region[0], (x0, y0, x1, y1)):
        shown = resize(image, (y1 - y0, x1 - x0))
        axes = [axis + 1 for axis, place in ((0, (1, 1)), (1, (0, 0))) if float(scaling[place]) < 0]
        target.copy_(shown.flip(axes) if axes else shown)
        return
    grid, inside, (down, across) = _grid(sampling, piece, (x0, y0, x1, y1))
    read = F.grid_sample(image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    if down * across > 1:
        read = F.avg_pool2d(read, (down, across))
    target.copy_(read[0] if inside is None else torch.where(inside, read[0], target))


def _fills(sampling: Sampling, piece: int, frame: Tensor, window: tuple[int, int, int, int]) -> bool:
    """Whether the whole frame is shown, parallel to the image, and its corners are those of the window."""
    if not bool(sampling.straight[piece]) or not torch.equal(sampling.clips[piece], frame):
        return False
    x0, y0, x1, y1 = window
    scale, offset = sampling.maps[piece][[0, 1], [0, 1]], sampling.maps[piece][:2, 2]
    ends = torch.tensor([[x0, y0], [x1, y1]], dtype=torch.float64, device=frame.device) * scale + offset
    return bool(((ends.sort(0).values.flatten() - frame).abs() < EDGE).all())


def _grid(
    sampling: Sampling, piece: int, window: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
    """Where the pixels of a window are read.

    Returns:
        (h * down, w * across, 2) float32 places, -1 to 1 across the frame; which pixels (h, w) show the piece
        at their centres, None for all; and how many places a pixel has down and across.
    """
    x0, y0, x1, y1 = window
    matrix = sampling.maps[piece]
    height, width = sampling.coded[piece].tolist()
    middle = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, 1.0], dtype=torch.float64, device=matrix.device)
    depth = (matrix[2] @ middle).abs().clamp_min(EDGE)
    steps = (matrix[:2, :2] / depth).norm(dim=0).tolist()
    places = max(PLACES_PER_PIXEL * height * width, LEAST_PLACES) // ((x1 - x0) * (y1 - y0))
    across, down = _parts(steps, max(height, width), max(1, places))
    x, y = _centres(x0, x1, across, matrix), _centres(y0, y1, down, matrix)
    if bool(sampling.straight[piece]):
        u = (x * matrix[0, 0] + matrix[0, 2]) * 2 / width - 1
        v = (y * matrix[1, 1] + matrix[1, 2]) * 2 / height - 1
        grid = torch.empty(len(v), len(u), 2, device=matrix.device)
        grid[..., 0], grid[..., 1] = u, v[:, None]
        return grid, None, (down, across)
    limits = matrix.new_tensor([width, height])
    grid = (_seen(matrix, x, y)[0] * 2 / limits - 1).float()
    centres, ahead = _seen(matrix, _centres(x0, x1, 1, matrix), _centres(y0, y1, 1, matrix))
    clip = sampling.clips[piece]
    inside = ((centres >= clip[:2] - EDGE) & (centres < clip[2:] - EDGE)).all(2) & ahead
    return grid, inside, (down, across)


def _parts(steps: list[float], most: int, places: int) -> tuple[int, int]:
    """Parts of an output pixel across and down that are at most a coded pixel wide; ``places`` in all."""
    across, down = (min(max(1, math.ceil(step - EDGE)), most) for step in steps)
    if across * down > places:
        share = math.sqrt(places / (across * down))
        across, down = (max(1, int(parts * share)) for parts in (across, down))
        across, down = min(across, places // down or 1), min(down, places // across or 1)
    return across, down


def _centres(first: int, last: int, parts: int, like: Tensor) -> Tensor:
    """Centres of the ``parts`` equal parts of each pixel from ``first`` to ``last``, float64."""
    count = (last - first) * parts
    return first + (torch.arange(count, dtype=torch.float64, device=like.device) + 0.5) / parts


def _seen(matrix: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Points (Y, X, 2) that ``matrix`` shows at output positions, and which (Y, X) lie before the viewer."""
    seen = y[:, None, None] * matrix[:, 1] + (x[:, None] * matrix[:, 0] + matrix[:, 2])
    depth = seen[..., 2:]
    return seen[..., :2] / depth.clamp_min(EDGE), depth[..., 0] > EDGE
