"""Decode a batch of frames straight into the detector's input tensor."""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from common.inr.compose import BackgroundPart, Canvas, ObjectPart, compose, to_bytes
from common.inr.decode import resize
from common.learning.letterbox import FILL, letterbox_boxes, letterbox_content
from common.learning.resident import RASTER, ResidentStore

__all__ = ["TrainingBatch", "decode_batch"]


class TrainingBatch(TypedDict):
    """What Ultralytics' detection trainer takes.

    Attributes:
        img: (B, 3, imgsz, imgsz) uint8 RGB.
        cls: (L, 1) float32 class indices.
        bboxes: (L, 4) float32 x centre, y centre, width, height as shares of the image.
        batch_idx: (L,) float32 image of each box.
        im_file: A name for each image.
        ori_shape: Coded height and width of each frame.
    """

    img: Tensor
    cls: Tensor
    bboxes: Tensor
    batch_idx: Tensor
    im_file: list[str]
    ori_shape: list[tuple[int, int]]


def decode_batch(
    store: ResidentStore,
    frames: Tensor,
    imgsz: int,
    *,
    flip: Tensor | None = None,
    supersample: int = 1,
    chunk: int | None = None,
) -> TrainingBatch:
    """Decode frames at training resolution, letterboxed.

    Networks of one size are one batched kernel. Frames of other kinds are composed at their coded size, those
    of one size together, and resized.

    The pixels of a frame do not depend on the other frames of the batch or on their order.

    Args:
        store: Where the frames are resident.
        frames: (B,) int64 frame numbers, host memory; the images come in this order.
        imgsz: Side of the square images, pixels.
        flip: (B,) bool, images to mirror left to right, host memory.
        supersample: Decode at this multiple of ``imgsz`` and average, which lessens aliasing.
        chunk: As in :func:`common.inr.compose.compose`.

    Returns:
        Tensors on the store's device.

    Raises:
        LearningError: A frame is not resident.
    """
    rows = store.frame_rows(frames)
    content = letterbox_content(rows[:, 6:], imgsz)
    img = _images(store, rows, content, imgsz, supersample, chunk)
    image, labels = _ragged(rows[:, 4], rows[:, 5])
    table = store.label_rows(labels)
    boxes = letterbox_boxes(table[:, 1:], content[image], imgsz)
    if flip is not None:
        img = torch.where(flip.to(store.device)[:, None, None, None], img.flip(3), img)
        boxes[:, 0] = torch.where(flip[image], 1 - boxes[:, 0], boxes[:, 0])
    return TrainingBatch(
        img=img,
        cls=table[:, :1].to(store.device),
        bboxes=boxes.to(store.device),
        batch_idx=image.float().to(store.device),
        im_file=[f"frame{number}" for number in frames.tolist()],
        ori_shape=[(height, width) for height, width in rows[:, 6:].tolist()],
    )


def _images(
    store: ResidentStore, rows: Tensor, content: Tensor, imgsz: int, supersample: int, chunk: int | None
) -> Tensor:
    raster = rows[:, 0] == RASTER
    if not bool(raster.any()):
        return _vector_images(store, rows, content, imgsz, supersample, chunk)
    img = torch.full((len(rows), 3, imgsz, imgsz), FILL, dtype=torch.uint8, device=store.device)
    if not bool(raster.all()):
        vectors = ~raster
        made = _vector_images(store, rows[vectors], content[vectors], imgsz, supersample, chunk)
        img[vectors.to(store.device)] = made
    members = raster.nonzero()[:, 0].tolist()
    for place, image in store.rasters.images(rows[raster, 1].tolist()):
        top, left, height, width = content[members[place]].tolist()
        shown = resize(image, (height * supersample, width * supersample))
        img[members[place], :, top : top + height, left : left + width] = _to_bytes(shown, supersample)
    return img


def _vector_images(
    store: ResidentStore, rows: Tensor, content: Tensor, imgsz: int, supersample: int, chunk: int | None
) -> Tensor:
    side = imgsz * supersample
    canvas = Canvas(
        side, side, (content * supersample).to(store.device), rows[:, 6:].to(store.device), FILL / 255
    )
    backgrounds = []
    for index, members in _grouped(rows[:, 0]):
        group, table = store.group(index)
        stack = group.dequantize(table.places(rows[members, 1]).to(store.device))
        backgrounds.append(BackgroundPart(stack, members.to(store.device)))
    image, numbers = _ragged(rows[:, 2], rows[:, 3])
    table_rows, scales = store.object_rows(numbers)
    objects = []
    for index, members in _grouped(table_rows[:, 0]):
        group, table = store.group(index)
        mine = table_rows[members]
        stack = group.dequantize(table.places(mine[:, 1]).to(store.device))
        columns = (image[members], mine[:, 2:6], scales[members], mine[:, 6])
        objects.append(ObjectPart(stack, *(c.to(store.device) for c in columns)))
    return _to_bytes(compose(canvas, backgrounds, objects, chunk), supersample).contiguous()


def _to_bytes(pixels: Tensor, supersample: int) -> Tensor:
    """Float RGB (..., height * supersample, width * supersample) to bytes (..., height, width)."""
    if supersample > 1:
        # Clamp first: what is averaged is what would be shown.
        pixels = F.avg_pool2d(pixels.clamp(0, 1), supersample)
    return to_bytes(pixels)


def _grouped(groups: Tensor) -> list[tuple[int, Tensor]]:
    """Each group that occurs, with the positions (ascending int64) of its members."""
    return [(g, (groups == g).nonzero()[:, 0]) for g in sorted(set(groups.tolist()))]


def _ragged(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Owner (N,) and number (N,) of the items ``first[i] .. first[i] + count[i]`` of every owner i."""
    owner = torch.repeat_interleave(count)
    offset = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
    return owner, first[owner] + offset
