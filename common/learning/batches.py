"""Decode a batch of frames straight into the detector's input tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from common.inr.compose import BackgroundPart, ObjectPart, to_bytes
from common.inr.resample import show_frame
from common.inr.sampled import compose_samples
from common.inr.sampling import Sampling
from common.learning.colour_jitter import jitter_colours
from common.learning.resident import RASTER, ResidentStore
from common.learning.view_maps import ViewMaps, view_maps
from common.learning.views import View, plain_view

__all__ = [
    "TrainingBatch",
    "ViewDecoder",
    "batch_of",
    "decode_batch",
    "decode_views",
    "jittered",
    "sample_frames",
]


PART = 0.75
"""If less than this share of a frame is shown, only that part of it is decoded."""


class TrainingBatch(TypedDict):
    """What Ultralytics' detection trainer takes.

    Attributes:
        img: (B, 3, imgsz, imgsz) uint8 RGB.
        cls: (L, 1) float32 class indices.
        bboxes: (L, 4) float32 x centre, y centre, width, height as shares of the image.
        batch_idx: (L,) float32 image of each box, ascending.
        im_file: A name for each image.
        ori_shape: Coded height and width of each frame; of a mosaic's first.
    """

    img: Tensor
    cls: Tensor
    bboxes: Tensor
    batch_idx: Tensor
    im_file: list[str]
    ori_shape: list[tuple[int, int]]


class ViewDecoder(Protocol):
    """What makes a training batch of views: :func:`decode_views`, or a peer that it is compared with."""

    def __call__(
        self, store: ResidentStore, views: Sequence[View], imgsz: int, *, supersample: int = 1
    ) -> TrainingBatch:
        """See :func:`decode_views`."""


def decode_batch(
    store: ResidentStore, frames: Tensor, imgsz: int, *, supersample: int = 1, chunk: int | None = None
) -> TrainingBatch:
    """Decode frames at training resolution, letterboxed, as they are.

    Args:
        store: Where the frames are resident.
        frames: (B,) int64 frame numbers, host memory; the images come in this order.
        imgsz: Side of the square images, pixels.
        supersample: Decode at this multiple of ``imgsz`` and average, which lessens aliasing.
        chunk: As in :func:`common.inr.compose.compose`.

    Returns:
        Tensors on the store's device.

    Raises:
        LearningError: A frame is not resident.
    """
    views = [plain_view(number) for number in frames.tolist()]
    return decode_views(store, views, imgsz, supersample=supersample, chunk=chunk)


def decode_views(
    store: ResidentStore,
    views: Sequence[View],
    imgsz: int,
    *,
    supersample: int = 1,
    chunk: int | None = None,
) -> TrainingBatch:
    """Decode views of frames at training resolution.

    Networks of one size are one batched kernel, evaluated at the points that are shown. Frames of other kinds
    are composed at their coded size, those of one size together, and read at those points.

    The pixels and boxes of a view do not depend on the other views of the batch or on their order.

    Args:
        store: Where the frames are resident.
        views: What each image shows; the images come in this order.
        imgsz: Side of the square images, pixels.
        supersample: As in :func:`decode_batch`.
        chunk: As in :func:`common.inr.compose.compose`.

    Returns:
        Tensors on the store's device.

    Raises:
        LearningError: A frame is not resident.
    """
    rows = store.frame_rows(torch.tensor([number for view in views for number in view.frames]))
    maps = view_maps(views, rows[:, 6:], imgsz)
    pixels = sample_frames(store, rows, maps.sampling.finer(supersample), chunk)
    if supersample > 1:
        # Clamp first: what is averaged is what would be shown.
        pixels = F.avg_pool2d(pixels.clamp(0, 1), supersample)
    return batch_of(store, views, rows, maps, to_bytes(jittered(pixels, views)).contiguous())


def batch_of(
    store: ResidentStore, views: Sequence[View], rows: Tensor, maps: ViewMaps, img: Tensor
) -> TrainingBatch:
    """Images with the boxes that their views show.

    Args:
        store: Where the frames are resident.
        views: B of them.
        rows: Index rows of their frames (:meth:`ResidentStore.frame_rows`).
        maps: Their geometry.
        img: (B, 3, imgsz, imgsz) uint8.
    """
    piece, labels = _ragged(rows[:, 4], rows[:, 5])
    table = store.label_rows(labels)
    boxes, kept = maps.boxes(piece, table[:, 1:])
    image = maps.sampling.images[piece]
    counts = torch.tensor([len(view.frames) for view in views])
    firsts = counts.cumsum(0) - counts
    return TrainingBatch(
        img=img,
        cls=table[kept, :1].to(store.device),
        bboxes=boxes[kept].to(store.device),
        batch_idx=image[kept].float().to(store.device),
        im_file=[f"frame{view.frames[0]}" for view in views],
        ori_shape=[(height, width) for height, width in rows[firsts, 6:].tolist()],
    )


def jittered(pixels: Tensor, views: Sequence[View]) -> Tensor:
    """Change the colours of images as their views say, image by image: one without gains keeps its bits.

    Args:
        pixels: (B, 3, H, W) float32 RGB, not clamped; may be written to.
        views: B of them.

    Returns:
        (B, 3, H, W) float32 RGB; clamped if any image changed.
    """
    gains = torch.tensor([view.gains for view in views])
    some = (gains != 0).any(1).nonzero()[:, 0]
    if not len(some):
        return pixels
    pixels = pixels.nan_to_num(0.0).clamp(0, 1)
    for place in some.tolist():
        pixels[place] = jitter_colours(pixels[place : place + 1], gains[place : place + 1])[0]
    return pixels


def sample_frames(store: ResidentStore, rows: Tensor, sampling: Sampling, chunk: int | None = None) -> Tensor:
    """Decode pieces of frames.

    Args:
        store: Where the frames are resident.
        rows: (P, 8) index rows of the frame of each piece (:meth:`ResidentStore.frame_rows`).
        sampling: What is shown where, host memory.
        chunk: As in :func:`common.inr.compose.compose`.

    Returns:
        (B, 3, height, width) float32 RGB, not clamped, on the store's device.
    """
    raster = rows[:, 0] == RASTER
    vectors = (~raster).nonzero()[:, 0]
    out = _vector_pixels(store, rows[vectors], sampling.select(vectors).to(store.device), chunk)
    if bool(raster.any()):
        pieces = raster.nonzero()[:, 0]
        _show_rasters(store, out, rows[pieces, 1], sampling.select(pieces).to(store.device))
    return out


def _show_rasters(store: ResidentStore, out: Tensor, numbers: Tensor, sampling: Sampling) -> None:
    """Show pieces of frames of ``numbers`` (P,) that are composed at their coded size."""
    reads = sampling.reads()
    sides = reads[:, 2:] - reads[:, :2]
    shares = (sides.prod(1) / sampling.coded.prod(1)).cpu()
    # A GPU decodes whole frames together; a part at a time would leave most of it idle.
    whole = shares > (PART if store.device.type == "cpu" else 0.0)
    # Where a frame is shrunk the filter of a pyramid costs more than it gives (docs/decoding.md).
    shrunk = sampling.shrunk.cpu()
    for piece in ((shares > 0) & ~whole).nonzero()[:, 0].tolist():
        x0, y0, x1, y1 = reads[piece].tolist()
        image = store.rasters.part(int(numbers[piece]), (x0, y0, x1, y1), filtered=not shrunk[piece])
        show_frame(out, image, sampling, piece)
    for filtered in (True, False):
        pieces = (whole & (shrunk != filtered)).nonzero()[:, 0]
        if not len(pieces):
            continue
        wanted, which = numbers[pieces].unique(return_inverse=True)
        for place, image in store.rasters.images(wanted.tolist(), filtered):
            for piece in pieces[which == place].tolist():
                show_frame(out, image, sampling, piece)


def _vector_pixels(store: ResidentStore, rows: Tensor, sampling: Sampling, chunk: int | None) -> Tensor:
    backgrounds = []
    for index, members in _grouped(rows[:, 0]):
        group, table = store.group(index)
        stack = group.dequantize(table.places(rows[members, 1]).to(store.device))
        backgrounds.append(BackgroundPart(stack, members.to(store.device)))
    piece, numbers = _ragged(rows[:, 2], rows[:, 3])
    table_rows, scales = store.object_rows(numbers)
    objects = []
    for index, members in _grouped(table_rows[:, 0]):
        group, table = store.group(index)
        mine = table_rows[members]
        stack = group.dequantize(table.places(mine[:, 1]).to(store.device))
        columns = (piece[members], mine[:, 2:6], scales[members], mine[:, 6])
        objects.append(ObjectPart(stack, *(c.to(store.device) for c in columns)))
    return compose_samples(sampling, backgrounds, objects, chunk)


def _grouped(groups: Tensor) -> list[tuple[int, Tensor]]:
    """Each group that occurs, with the positions (ascending int64) of its members."""
    return [(g, (groups == g).nonzero()[:, 0]) for g in sorted(set(groups.tolist()))]


def _ragged(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Owner (N,) and number (N,) of the items ``first[i] .. first[i] + count[i]`` of every owner i."""
    owner = torch.repeat_interleave(count)
    offset = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
    return owner, first[owner] + offset
