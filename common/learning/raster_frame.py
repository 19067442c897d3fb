"""A frame that is composed at its coded size, as it waits in memory: integers decoded, pixels not yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.bitstream.packet import ImageFile, Reference, Region
from common.inr.compose import BackgroundPart, Canvas, compose
from common.inr.groups import NetworkGroup
from common.inr.raster import file_pixels, from_keyframe, lay_patches
from common.inr.vector import network_residual
from common.pyramid.model import PyramidModel
from common.pyramid.sparse import SparseGrids
from common.pyramid.synthesis import pixels_of_sparse, pixels_of_window

__all__ = ["Layer", "RasterFrame", "ResidentContent", "ResidentPyramid", "render_frames", "render_part"]

LAYER_BYTES = 1024
"""Host memory of a layer beside its data: the objects that hold it, and a tensor's own."""
FRAME_BYTES = 512
"""Host memory of a frame beside its layers."""
_BLOCK = 512
"""The allocator of CUDA memory gives multiples of this, bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class ResidentPyramid:
    """A pyramid whose integers are decoded: its sparse grids on the training device, and how to read them."""

    grids: SparseGrids
    model: PyramidModel
    step: float


ResidentContent = ResidentPyramid | ImageFile | NetworkGroup
"""An image file stays a file, in host memory; a group holds one network."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Layer:
    """A background or a patch.

    Attributes:
        content: What it is made of.
        height, width: Of its region, pixels.
        residual: Whether it is added to what lies below.
        scale: Residual scale of a network.
        key: Identifies a background by what is in it; empty for a patch.
    """

    content: ResidentContent
    height: int
    width: int
    residual: bool
    scale: float = 1.0
    key: bytes = b""

    @property
    def nbytes(self) -> int:
        """Bytes of host and device memory."""
        match self.content:
            case ResidentPyramid():
                data = -(-self.content.grids.nbytes // _BLOCK) * _BLOCK
            case ImageFile():
                data = len(self.content.data)
            case NetworkGroup():
                # Each of its tensors has a block and an object of its own.
                data = self.content.nbytes + len(self.content.values) * (_BLOCK + LAYER_BYTES)
        return data + LAYER_BYTES

    @property
    def group(self) -> tuple[object, ...]:
        """Layers of one group are decoded together."""
        if isinstance(self.content, ResidentPyramid):
            return self.content.model.id, self.residual, self.height, self.width
        return (id(self),)


@dataclass(frozen=True, slots=True, eq=False)
class RasterFrame:
    """One frame.

    Attributes:
        height, width: Coded size, pixels.
        background: Its own, or its keyframe's.
        reference: How to look at the keyframe's (its updates are below); None when the background is its own.
        updates: Corrections of the background by region, added in order.
        patches: Objects by region.
    """

    height: int
    width: int
    background: Layer
    reference: Reference | None = None
    updates: tuple[tuple[Region, Layer], ...] = ()
    patches: tuple[tuple[Region, Layer], ...] = ()

    @property
    def layers(self) -> list[Layer]:
        """Everything that must be decoded for it."""
        return [self.background, *(layer for _, layer in (*self.updates, *self.patches))]

    @property
    def nbytes(self) -> int:
        """Bytes of host and device memory, without the background, which others may share."""
        total = FRAME_BYTES + sum(layer.nbytes for layer in self.layers[1:])
        if self.reference is not None:
            motion = self.reference.motion
            total += LAYER_BYTES + (motion.vectors.nbytes if motion is not None else 0)
        return total


def render_part(frame: RasterFrame, window: Region, device: torch.device, filtered: bool = True) -> Tensor:
    """Part of a frame; the pixels of :func:`render_frames`, but for rounding.

    Args:
        frame: Of any kind; only that part of its own pyramids is decoded, all else as a whole.
        window: Part that is wanted, of positive size.
        device: Where its data lie.
        filtered: As in :func:`render_frames`.

    Returns:
        (3, height, width) float32 RGB of the whole size; pixels outside of ``window`` mean nothing.
    """
    content = frame.background.content
    if frame.reference is not None or not isinstance(content, ResidentPyramid):
        return render_frames([frame], device, filtered)[0]
    x0, y0, x1, y1 = window
    image = torch.zeros(3, frame.height, frame.width, device=device)
    part = pixels_of_window(
        content.grids, content.model, content.step, frame.background.residual, window, filtered
    )
    image[:, y0:y1, x0:x1] = part + 0.5  # a picture stands on grey 0.5
    near = [(region, layer) for region, layer in frame.patches if _overlap(region, window) is not None]
    regions = [region for region, _ in near]
    pixels = [_patch_part(layer, region, window, device) for region, layer in near]
    return lay_patches(image, regions, [not layer.residual for _, layer in near], pixels.__getitem__)


def _overlap(region: Region, window: Region) -> Region | None:
    """The part of ``region`` inside ``window``, counted from the corner of the region."""
    x0, y0, x1, y1 = region
    left, top, right, bottom = max(x0, window[0]), max(y0, window[1]), min(x1, window[2]), min(y1, window[3])
    return (left - x0, top - y0, right - x0, bottom - y0) if right > left and bottom > top else None


def _patch_part(layer: Layer, region: Region, window: Region, device: torch.device) -> Tensor:
    """Pixels (3, h, w) of a patch; those of a pyramid outside of ``window`` mean nothing."""
    part, content = _overlap(region, window), layer.content
    if part is None or part == (0, 0, layer.width, layer.height) or not isinstance(content, ResidentPyramid):
        return _decode({id(layer): layer}, device)[id(layer)]
    pixels = torch.zeros(3, layer.height, layer.width, device=device)
    x0, y0, x1, y1 = part
    pixels[:, y0:y1, x0:x1] = pixels_of_window(
        content.grids, content.model, content.step, layer.residual, part
    )
    return pixels


def render_frames(frames: Sequence[RasterFrame], device: torch.device, filtered: bool = True) -> list[Tensor]:
    """The pixels of frames, each the same alone and among others.

    Args:
        frames: Pyramids of one size among them are decoded together.
        device: Where their data lie.
        filtered: False leaves the filter of pyramids out, for frames that are shrunk.

    Returns:
        (3, height, width) float32 RGB of each, not clamped; :func:`common.inr.raster.raster_image` of their
        packets gives the same.
    """
    pixels = _decode({id(layer): layer for frame in frames for layer in frame.layers}, device, filtered)
    images = []
    for frame in frames:
        below = pixels[id(frame.background)]
        size = frame.height, frame.width
        image = below.clone() if frame.reference is None else from_keyframe(below, frame.reference, size)
        for (x0, y0, x1, y1), layer in frame.updates:
            image[:, y0:y1, x0:x1] += pixels[id(layer)]
        regions = [region for region, _ in frame.patches]
        layers = [layer for _, layer in frame.patches]
        decoded = [pixels[id(layer)] for layer in layers]
        images.append(lay_patches(image, regions, [not x.residual for x in layers], decoded.__getitem__))
    return images


def _decode(layers: dict[int, Layer], device: torch.device, filtered: bool = True) -> dict[int, Tensor]:
    """Pixels (3, h, w) of layers, by their ids."""
    groups: dict[tuple[object, ...], list[Layer]] = {}
    for layer in layers.values():
        groups.setdefault(layer.group, []).append(layer)
    decoded: dict[int, Tensor] = {}
    for group in groups.values():
        pyramids = [layer.content for layer in group if isinstance(layer.content, ResidentPyramid)]
        if pyramids:
            first, residual = pyramids[0], group[0].residual
            steps = [pyramid.step for pyramid in pyramids]
            found = pixels_of_sparse([p.grids for p in pyramids], first.model, steps, residual, filtered)
            # A picture stands on grey 0.5.
            decoded |= zip(map(id, group), found if residual else found + 0.5, strict=True)
        else:
            decoded[id(group[0])] = _alone(group[0], device)
    return decoded


def _alone(layer: Layer, device: torch.device) -> Tensor:
    content, height, width = layer.content, layer.height, layer.width
    if isinstance(content, ImageFile):
        return file_pixels(content, height, width, device, checked=True)
    if not isinstance(content, NetworkGroup):
        raise TypeError(f"a layer of {type(content).__name__} is decoded in a group")
    if layer.residual:
        return network_residual(content, layer.scale, height, width)
    part = BackgroundPart(content.dequantize(), torch.zeros(1, dtype=torch.int64, device=device))
    return compose(Canvas.full(height, width, torch.tensor([[height, width]], device=device)), [part])[0]
