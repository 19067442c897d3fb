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
    matrix = sampling.maps[piece]
    if _fills(sampling, piece, region[0], (x0, y0, x1, y1)):
        shown = resize(image, (y1 - y0, x1 - x0))
        axes = [axis + 1 for axis, place in ((0, (1, 1)), (1, (0, 0))) if float(matrix[place]) < 0]
        target.copy_(shown.flip(axes) if axes else shown)
        return
    down, across = _points_of(sampling, piece, (x0, y0, x1, y1))
    straight = bool(sampling.straight[piece])
    if straight and down * across > 1 and image.device.type == "cpu":
        u = _centres(x0, x1, across, matrix) * matrix[0, 0] + matrix[0, 2]
        v = _centres(y0, y1, down, matrix) * matrix[1, 1] + matrix[1, 2]
        target.copy_(_read_straight(image, v, u, down, across))
        return
    grid, inside = _grid(sampling, piece, (x0, y0, x1, y1), (down, across), straight)
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


def _points_of(sampling: Sampling, piece: int, window: tuple[int, int, int, int]) -> tuple[int, int]:
    """At how many points a pixel of a window is read, down and across; see :func:`show_frame`."""
    x0, y0, x1, y1 = window
    matrix = sampling.maps[piece]
    height, width = sampling.coded[piece].tolist()
    middle = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, 1.0], dtype=torch.float64, device=matrix.device)
    depth = (matrix[2] @ middle).abs().clamp_min(EDGE)
    steps = (matrix[:2, :2] / depth).norm(dim=0).tolist()
    places = max(PLACES_PER_PIXEL * height * width, LEAST_PLACES) // ((x1 - x0) * (y1 - y0))
    across, down = _parts(steps, max(height, width), max(1, places))
    return down, across


def _grid(
    sampling: Sampling,
    piece: int,
    window: tuple[int, int, int, int],
    points: tuple[int, int],
    straight: bool,
) -> tuple[Tensor, Tensor | None]:
    """Where the pixels of a window are read, at ``points`` places down and across each.

    Returns:
        (h * down, w * across, 2) float32 places, -1 to 1 across the frame; and which pixels (h, w) show the
        piece at their centres, None for all.
    """
    x0, y0, x1, y1 = window
    down, across = points
    matrix = sampling.maps[piece]
    height, width = sampling.coded[piece].tolist()
    x, y = _centres(x0, x1, across, matrix), _centres(y0, y1, down, matrix)
    if straight:
        u = (x * matrix[0, 0] + matrix[0, 2]) * 2 / width - 1
        v = (y * matrix[1, 1] + matrix[1, 2]) * 2 / height - 1
        grid = torch.empty(len(v), len(u), 2, device=matrix.device)
        grid[..., 0], grid[..., 1] = u, v[:, None]
        return grid, None
    limits = matrix.new_tensor([width, height])
    grid = (_seen(matrix, x, y)[0] * 2 / limits - 1).float()
    centres, ahead = _seen(matrix, _centres(x0, x1, 1, matrix), _centres(y0, y1, 1, matrix))
    clip = sampling.clips[piece]
    inside = ((centres >= clip[:2] - EDGE) & (centres < clip[2:] - EDGE)).all(2) & ahead
    return grid, inside


def _read_straight(image: Tensor, v: Tensor, u: Tensor, down: int, across: int) -> Tensor:
    """Read an image along rows and columns: the means that reading at every point and pooling gives.

    Each output row is a weighted sum of a few rows, and each column of a few columns; on a CPU that takes an
    eighth of the time.

    Args:
        image: (3, H, W) float32.
        v: (h * down,) float64 places of the points, coded pixels.
        u: (w * across,) float64.
        down: Points of an output pixel, one below the other.
        across: Beside each other.

    Returns:
        (3, h, w) float32.
    """
    channels, height, width = image.shape
    rows, weights = _neighbours(v, height, down)
    first = torch.arange(channels, device=rows.device)[:, None, None] * height
    lines = F.embedding_bag(
        (first + rows).flatten(0, 1),
        image.reshape(channels * height, width),
        mode="sum",
        per_sample_weights=weights.repeat(channels, 1),
    )
    columns, weights = _neighbours(u, width, across)
    read = F.embedding_bag(columns, lines.t().contiguous(), mode="sum", per_sample_weights=weights)
    return read.t().reshape(channels, -1, len(columns))


def _neighbours(places: Tensor, length: int, points: int) -> tuple[Tensor, Tensor]:
    """Samples (n, 2 * points) int64 that each of n means of bilinear readings consists of, and their weights.

    Args:
        places: (n * points,) float64, sample i lies at i + 0.5; outside, the outermost sample goes on.
        length: Samples.
        points: Readings that are averaged.
    """
    inside = (places - 0.5).clamp(0, length - 1)
    low = inside.floor()
    share = (inside - low).float()
    samples = torch.stack([low, (low + 1).clamp_max(length - 1)], 1).long()
    return samples.view(-1, 2 * points), torch.stack([1 - share, share], 1).view(-1, 2 * points) / points


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
