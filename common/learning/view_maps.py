"""Views as geometry: which point of which frame each pixel shows, and where the boxes come to lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.inr.sampling import Sampling
from common.learning.letterbox import FILL, letterbox_content
from common.learning.views import View

__all__ = ["ASPECT_LIMIT", "LEAST_AREA", "LEAST_SIDE", "ViewMaps", "view_maps"]

# As in Ultralytics' RandomPerspective.box_candidates.
LEAST_SIDE = 2.0
"""A moved box must be wider and higher than this, pixels (wh_thr)."""
LEAST_AREA = 0.1
"""Share of a moved box that must still be inside the image (area_thr)."""
ASPECT_LIMIT = 100.0
"""A moved box must not be longer than this many times its width, nor the other way round (ar_thr)."""
_EPS = 1e-16


@dataclass(frozen=True, slots=True, eq=False)
class ViewMaps:
    """The geometry of a batch of B views with P pieces, on the host.

    Attributes:
        imgsz: Side of the images, pixels.
        sampling: What is shown where; its pieces are the frames of the first view, then those of the second..
        placed: (P, 3, 3) float64, coded coordinates of each piece to canvas coordinates.
        shown: (P, 4) float64 x0, y0, x1, y1: the part of the canvas that each piece may cover.
        matrices: (P, 3, 3) float64, canvas to image coordinates, mirroring included.
        scales: (P,) float64, by how much they scale.
        moved: (P,) bool, whether the view is more than a letterbox, mirrored or not.
    """

    imgsz: int
    sampling: Sampling
    placed: Tensor
    shown: Tensor
    matrices: Tensor
    scales: Tensor
    moved: Tensor

    def boxes(self, pieces: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Where boxes come to lie, and which are still worth learning from.

        Args:
            pieces: (L,) int64 piece of each box.
            boxes: (L, 4) float32 x centre, y centre, width, height as shares of the coded frame.

        Returns:
            (L, 4) float32 x centre, y centre, width, height as shares of the image, clipped to it; (L,) bool
            which are kept. A box of a frame in its letterbox is always kept.
        """
        moved = self.moved[pieces, None]
        size = self.sampling.coded[pieces].flip(1).double()
        centre, half = boxes[:, :2].double(), boxes[:, 2:].double() / 2
        corners = torch.cat([centre - half, centre + half], 1) * size.repeat(1, 2)
        diagonal = self.placed[pieces][:, [0, 1, 0, 1], [0, 1, 0, 1]]
        canvas = corners * diagonal + self.placed[pieces][:, :2, 2].repeat(1, 2)
        mosaic = canvas.maximum(self.shown[pieces][:, [0, 1, 0, 1]])
        mosaic = mosaic.minimum(self.shown[pieces][:, [2, 3, 2, 3]])
        canvas = torch.where(torch.isfinite(self.shown[pieces]).all(1, keepdim=True), mosaic, canvas)
        image, ahead = _around(self.matrices[pieces], canvas)
        image = torch.where(moved, image.clamp(0, self.imgsz), image)
        scale = self.scales[pieces, None]
        sides = canvas[:, 2:] - canvas[:, :2]
        kept = ahead & (sides > 0).all(1) & _candidates(sides * scale, image[:, 2:] - image[:, :2])
        centred = torch.cat([(image[:, :2] + image[:, 2:]) / 2, image[:, 2:] - image[:, :2]], 1)
        return (centred / self.imgsz).float(), kept | ~moved[:, 0]


def view_maps(views: Sequence[View], coded: Tensor, imgsz: int) -> ViewMaps:
    """The geometry of views.

    Args:
        views: B of them, with P frames together.
        coded: (P, 2) int64 coded height and width of their frames, view by view.
        imgsz: Side of the images, pixels.
    """
    images = torch.repeat_interleave(torch.tensor([len(view.frames) for view in views]))
    content = letterbox_content(coded, imgsz)
    corner = content[:, :2].flip(1).double()
    limits = torch.tensor([[-torch.inf, -torch.inf, torch.inf, torch.inf]], dtype=torch.float64)
    shown = limits.repeat(len(coded), 1)
    first = 0
    for view in views:
        if view.centre is not None:
            mine = slice(first, first + len(view.frames))
            corner[mine] = _around_centre(view.centre, content[mine, 2:])
            shown[mine] = torch.tensor([0.0, 0.0, 2.0 * imgsz, 2.0 * imgsz], dtype=torch.float64)
        first += len(view.frames)
    scale = content[:, 2:].double() / coded.double()
    placed = torch.zeros(len(coded), 3, 3, dtype=torch.float64)
    placed[:, 0, 0], placed[:, 1, 1], placed[:, 2, 2] = scale[:, 1], scale[:, 0], 1.0
    placed[:, :2, 2] = corner
    unplaced = torch.zeros_like(placed)
    unplaced[:, 0, 0], unplaced[:, 1, 1], unplaced[:, 2, 2] = 1 / scale[:, 1], 1 / scale[:, 0], 1.0
    unplaced[:, :2, 2] = -corner / scale.flip(1)
    matrices = torch.stack([_mirrored(view, imgsz) for view in views])[images]
    sides = coded.flip(1).double()
    clips = (shown - corner.repeat(1, 2)) / scale.flip(1).repeat(1, 2)
    clips = clips.clamp_min(0).minimum(sides.repeat(1, 2))
    maps = unplaced @ torch.linalg.inv(matrices)
    return ViewMaps(
        imgsz=imgsz,
        sampling=Sampling(imgsz, imgsz, len(views), images, coded, maps, clips, FILL / 255),
        placed=placed,
        shown=shown,
        matrices=matrices,
        scales=torch.tensor([view.scale for view in views], dtype=torch.float64)[images],
        moved=torch.tensor([view.moved for view in views])[images],
    )


def _around_centre(centre: tuple[int, int], sizes: Tensor) -> Tensor:
    """Left, top (4, 2) on the canvas of four frames of ``sizes`` (height, width) that meet at ``centre``."""
    x, y = centre
    height, width = sizes.double().unbind(1)
    left = torch.stack([x - width[0], width.new_tensor(x), x - width[2], width.new_tensor(x)])
    top = torch.stack([y - height[0], y - height[1], height.new_tensor(y), height.new_tensor(y)])
    return torch.stack([left, top], 1)


def _mirrored(view: View, imgsz: int) -> Tensor:
    mirror = np.eye(3)
    for axis, wanted in enumerate(view.mirror):
        if wanted:
            mirror[axis, axis], mirror[axis, 2] = -1.0, imgsz
    return torch.from_numpy(mirror @ view.matrix)


def _around(matrices: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (L, 4) x0, y0, x1, y1 around the four moved corners of boxes; which lie before the viewer."""
    corners = boxes[:, [0, 1, 2, 3, 0, 3, 2, 1]].view(-1, 4, 2)
    corners = torch.cat([corners, torch.ones_like(corners[:, :, :1])], 2) @ matrices.transpose(1, 2)
    depth = corners[:, :, 2:]
    points = corners[:, :, :2] / depth.clamp_min(_EPS)
    return torch.cat([points.amin(1), points.amax(1)], 1), (depth > _EPS).flatten(1).all(1)


def _candidates(before: Tensor, after: Tensor) -> Tensor:
    """Which of the boxes (L, 2) of width and height before and after are kept."""
    width, height = after.unbind(1)
    aspect = torch.maximum(width / (height + _EPS), height / (width + _EPS))
    share = after.prod(1) / (before.prod(1) + _EPS)
    return (width > LEAST_SIDE) & (height > LEAST_SIDE) & (share > LEAST_AREA) & (aspect < ASPECT_LIMIT)
