"""What is sampled for each output image: pieces of frames, each with a map of coordinates.

Coordinates are continuous: pixel (x, y) covers [x, x + 1) x [y, y + 1) and its centre is (x + 0.5, y + 0.5),
in output images and in coded frames. A map takes output coordinates to coded ones, so whoever decodes asks
it, for each output pixel, which point of the frame is wanted: nothing is decoded that is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["PixelRun", "Sampling", "whole_frames"]

EDGE = 1e-6
"""A centre that lies on an edge up to rounding belongs to the pixels that begin there, coded pixels."""
PIXELS_AT_A_TIME = 1 << 20
"""Output pixels that are looked at together: about 60 bytes each while that lasts."""
SHRUNK = 1.65
"""Coded pixels a side of an output pixel from which a frame counts as shrunk: at half the coded width that is
the case for all of the default augmentation, which enlarges by at most 1.2."""
HORIZON = 1e-6
"""A map's third row below this points behind the viewer: nothing is there."""


@dataclass(frozen=True, slots=True)
class PixelRun:
    """Output pixels and the points that they show.

    Attributes:
        region: (N,) int64, ascending: which of the regions asked for; each pixel comes at most once a region.
        flat: (N,) int64 index into all output pixels, image by image, row by row.
        points: (N, 2) float64 coded coordinates (x, y), pixels.
    """

    region: Tensor
    flat: Tensor
    points: Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """P pieces of frames in B output images. All tensors lie on one device.

    Attributes:
        height, width: Size of every output image, pixels.
        count: Output images, B.
        images: (P,) int64 output image of each piece. Pieces of an image do not overlap.
        coded: (P, 2) int64 coded height and width of the frame that a piece comes from.
        maps: (P, 3, 3) float64, output coordinates (x, y, 1) to coded (x, y, w); divide by w. The last row is
            0, 0, 1 unless there is perspective.
        clips: (P, 4) float64 x0, y0, x1, y1, coded coordinates: the part of the frame that is shown.
        fill: Value in [0, 1] of the pixels that show no frame.
    """

    height: int
    width: int
    count: int
    images: Tensor
    coded: Tensor
    maps: Tensor
    clips: Tensor
    fill: float = 114 / 255

    @classmethod
    def letterbox(
        cls, height: int, width: int, coded: Tensor, content: Tensor, fill: float = 114 / 255
    ) -> Sampling:
        """One whole frame an image.

        Args:
            height: Of the output images, pixels.
            width: Of the output images, pixels.
            coded: (B, 2) int64 height and width of the frames.
            content: (B, 4) int64 top, left, height, width of each frame inside its image.
            fill: Value in [0, 1] around them.
        """
        count = len(coded)
        scale = coded.double() / content[:, 2:].double()
        maps = torch.zeros(count, 3, 3, dtype=torch.float64, device=coded.device)
        maps[:, 0, 0], maps[:, 1, 1], maps[:, 2, 2] = scale[:, 1], scale[:, 0], 1.0
        maps[:, :2, 2] = -(content[:, :2].double() * scale).flip(1)
        images = torch.arange(count, device=coded.device)
        return cls(height, width, count, images, coded, maps, whole_frames(coded), fill)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def affine(self) -> bool:
        """Whether no map has perspective; ``maps[:, :2]`` are then all of it."""
        last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=self.maps.device)
        return bool((self.maps[:, 2] == last).all())

    def to(self, device: torch.device | str) -> Sampling:
        """The same on ``device``."""
        names = ("images", "coded", "maps", "clips")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def select(self, pieces: Tensor) -> Sampling:
        """Only the ``pieces`` (int64), in the same images."""
        names = ("images", "coded", "maps", "clips")
        return replace(self, **{name: getattr(self, name)[pieces] for name in names})

    def finer(self, factor: int) -> Sampling:
        """The same view with ``factor`` x ``factor`` output pixels for each."""
        if factor == 1:
            return self
        shrink = torch.tensor([1 / factor, 1 / factor, 1.0], dtype=torch.float64, device=self.maps.device)
        return replace(self, height=self.height * factor, width=self.width * factor, maps=self.maps * shrink)

    def windows(self, pieces: Tensor, regions: Tensor) -> Tensor:
        """Output rectangles that hold every pixel that shows a region.

        Args:
            pieces: (R,) int64 piece of each region.
            regions: (R, 4) float64 x0, y0, x1, y1, coded coordinates; cut off at the pieces' clips.

        Returns:
            (R, 4) int64 x0, y0, x1, y1, half-open, inside the image; of zero size where nothing shows.
        """
        shown = self.shown(pieces, regions)
        corners = shown[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)
        corners = torch.cat([corners, torch.ones_like(corners[:, :, :1])], 2)
        placed = corners @ torch.linalg.inv(self.maps[pieces]).transpose(1, 2)
        depth = placed[:, :, 2:]
        placed = placed[:, :, :2] / depth.clamp_min(HORIZON)
        low = (placed.amin(1) - 0.5 - EDGE).ceil()
        high = (placed.amax(1) - 0.5 - EDGE).ceil()
        # A rectangle that reaches behind the viewer may lie anywhere.
        beyond = (depth <= HORIZON).any(1)
        low = torch.where(beyond, 0.0, low)
        limit = torch.tensor([self.width, self.height], dtype=torch.float64, device=self.maps.device)
        high = torch.where(beyond, limit, high)
        low = low.clamp(min=0).minimum(limit)
        high = high.minimum(limit).maximum(low)
        empty = (shown[:, 2:] <= shown[:, :2]).any(1, keepdim=True)
        return torch.cat([low, torch.where(empty, low, high)], 1).long()

    def reads(self) -> Tensor:
        """The part of its frame that each piece shows, with a pixel around it for interpolation.

        Returns:
            (P, 4) int64 x0, y0, x1, y1, half-open, inside the frame; of zero size where nothing shows.
        """
        pieces = torch.arange(len(self), device=self.maps.device)
        frames = whole_frames(self.coded)
        windows = self.windows(pieces, frames).double()
        empty = (windows[:, 2:] <= windows[:, :2]).any(1, keepdim=True)
        corners = windows[:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2)
        corners = torch.cat([corners, torch.ones_like(corners[:, :, :1])], 2)
        points = corners @ self.maps.transpose(1, 2)
        depth = points[:, :, 2:]
        points = points[:, :, :2] / depth.clamp_min(HORIZON)
        around = torch.cat([(points.amin(1) - 1).floor(), (points.amax(1) + 1).ceil()], 1)
        around = around.maximum(frames[:, [0, 1, 0, 1]]).minimum(frames[:, [2, 3, 2, 3]])
        around = torch.where((depth <= HORIZON).any(1), frames, around)
        return torch.where(empty, 0.0, around).long()

    def pixels(self, pieces: Tensor, regions: Tensor) -> Iterator[PixelRun]:
        """The output pixels whose centres show a region, run by run, with the points that they show.

        Args:
            pieces: (R,) int64 piece of each region.
            regions: (R, 4) float64 x0, y0, x1, y1, coded coordinates; cut off at the pieces' clips.
        """
        windows = self.windows(pieces, regions)
        shown = self.shown(pieces, regions)
        sizes = windows[:, 2:] - windows[:, :2]
        row_region = torch.repeat_interleave(sizes[:, 1])
        first_row = (sizes[:, 1].cumsum(0) - sizes[:, 1])[row_region]
        row_y = windows[row_region, 1] + torch.arange(len(row_region), device=windows.device) - first_row
        ends = sizes[row_region, 0].cumsum(0).cpu()
        at = 0
        while at < len(row_region):
            done = int(ends[at - 1]) if at else 0
            limit = torch.tensor(done + PIXELS_AT_A_TIME)
            stop = max(at + 1, int(torch.searchsorted(ends, limit, right=True)))
            rows = slice(at, stop)
            at = stop
            yield self._run(pieces, shown, windows, row_region[rows], row_y[rows])

    def _run(
        self, pieces: Tensor, shown: Tensor, windows: Tensor, row_region: Tensor, row_y: Tensor
    ) -> PixelRun:
        """The pixels that show their region among those of some rows of its window.

        All that a row's pixels share is computed once a row.
        """
        window, piece = windows[row_region], pieces[row_region]
        widths = window[:, 2] - window[:, 0]
        row = torch.repeat_interleave(widths)
        along = torch.arange(len(row), device=row.device) - (widths.cumsum(0) - widths)[row]
        maps, centre = self.maps[piece], window[:, 0].double() + 0.5
        first = (
            maps[:, :, 0] * centre[:, None] + maps[:, :, 1] * (row_y.double() + 0.5)[:, None] + maps[:, :, 2]
        )
        flat = ((self.images[piece] * self.height + row_y) * self.width + window[:, 0])[row] + along
        steps, limits = maps[:, :, 0], shown[row_region] - EDGE
        point = [first[:, axis][row] + steps[:, axis][row] * along for axis in (0, 1)]
        inside = torch.ones_like(row, dtype=torch.bool)
        if not self.affine:
            depth = first[:, 2][row] + steps[:, 2][row] * along
            inside = depth > HORIZON
            point = [x / depth for x in point]
        for axis, values in enumerate(point):
            inside &= (values >= limits[:, axis][row]) & (values < limits[:, axis + 2][row])
        kept = inside.nonzero()[:, 0]
        points = torch.stack([x[kept] for x in point], 1)
        return PixelRun(row_region[row[kept]], flat[kept], points)

    @property
    def straight(self) -> Tensor:
        """(P,) bool: the sides of the frame stay parallel to those of the image; no rotation, no shear."""
        turned = self.maps[:, [0, 1, 2, 2], [1, 0, 0, 1]]
        return ~(turned != 0).any(1)

    @property
    def shrunk(self) -> Tensor:
        """(P,) bool: output pixels have at least :data:`SHRUNK` coded pixels a side; False in perspective."""
        last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=self.maps.device)
        steps: Tensor = self.maps[:, :2, :2].square().sum(1).sqrt()
        return (steps >= SHRUNK - EDGE).all(1) & (self.maps[:, 2] == last).all(1)

    def shown(self, pieces: Tensor, regions: Tensor) -> Tensor:
        """``regions`` (R, 4) cut off at the clips of their pieces; no positive size where nothing is left."""
        clips = self.clips[pieces]
        return torch.cat([regions[:, :2].maximum(clips[:, :2]), regions[:, 2:].minimum(clips[:, 2:])], 1)


def whole_frames(coded: Tensor) -> Tensor:
    """Clips (P, 4) float64 that show all of frames of ``coded`` (P, 2) height and width."""
    zeros = torch.zeros(len(coded), 2, dtype=torch.float64, device=coded.device)
    return torch.cat([zeros, coded.flip(1).double()], 1)
