"""Packets made of coded grids, image files or references to pixels, at their coded size.

Each image is composed alone, so its pixels do not depend on what else is in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.bitstream.image_files import checked_pixels, image_pixels
from common.bitstream.packet import (
    Background,
    ImageFile,
    Motion,
    Network,
    ObjectPatch,
    Packet,
    Pyramid,
    Reference,
    Region,
)
from common.errors import KeyframeError, PacketFormatError
from common.inr.compose import owners
from common.inr.groups import NetworkGroup
from common.inr.vector import box_region, check_network_work, compose_networks, network_residual
from common.pyramid.decoder import pyramid_pixels
from common.pyramid.wavelet import grid_sizes

__all__ = [
    "SharedKeyframe",
    "WorkBudget",
    "between_nodes",
    "check_work",
    "file_pixels",
    "find_keyframe",
    "from_keyframe",
    "lay_patches",
    "raster_background",
    "raster_image",
    "warp",
]

MAX_LAYERS = 2
"""How often the regions of a packet may cover its frame on average, beside the background."""
SMALL_FRAME = 1 << 20
"""Pixels that they may have together in any case."""
MAX_COARSE_PIXELS = 1 << 18
"""Pixels of the coarsest pictures of all regions: these are decoded one by one."""
MAX_KEYFRAMES = 4
"""How many of its own frame's pixels a packet's keyframe may have, beside SMALL_FRAME."""
_SAME_VIEW = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class SharedKeyframe:
    """The background of the keyframe that was decoded last, for the next packets that refer to it.

    Attributes:
        digest: Content hash of the keyframe's packet.
        pixels: (3, H, W) float32, not to be changed; None before the first.
    """

    digest: bytes = b""
    pixels: Tensor | None = None

    def background(self, digest: bytes, keyframe: Packet, device: torch.device | str) -> Tensor:
        """The background of ``keyframe``, whose content hash is ``digest``, decoded unless it lies here."""
        if self.pixels is None or self.digest != digest:
            self.pixels = None  # before the next is made: one at a time
            self.pixels = raster_background(keyframe, device=device)
            self.digest = digest
        return self.pixels


def raster_image(
    packet: Packet,
    *,
    device: torch.device | str = "cpu",
    objects: bool = True,
    keyframes: Mapping[bytes, Packet] | None = None,
    shared: SharedKeyframe | None = None,
) -> Tensor:
    """The frame of a packet.

    Args:
        packet: Of any kind.
        device: Where to decode.
        objects: Whether objects are refined; False gives the background only.
        keyframes: Packets that others refer to, by content hash.
        shared: Of a run of packets decoded on ``device`` with the same ``keyframes``.

    Returns:
        (3, height, width) float32 RGB, not clamped.

    Raises:
        KeyframeError: The packet's keyframe is missing or does not fit.
        PacketFormatError: Coded contents are damaged, or so many that decoding would take minutes.
    """
    check_work(packet)
    image = raster_background(packet, device=device, keyframes=keyframes, shared=shared)
    patches = packet.objects if objects else ()
    regions = [box_region(packet, patch.box) for patch in patches]

    def pixels(index: int) -> Tensor:
        x0, y0, x1, y1 = regions[index]
        return _patch_pixels(patches[index], y1 - y0, x1 - x0, device)

    return lay_patches(image, regions, [isinstance(p.content, ImageFile) for p in patches], pixels)


def raster_background(
    packet: Packet,
    *,
    device: torch.device | str = "cpu",
    keyframes: Mapping[bytes, Packet] | None = None,
    shared: SharedKeyframe | None = None,
) -> Tensor:
    """The background of a packet, (3, height, width) float32 RGB; see :func:`raster_image`."""
    content: Background = packet.background
    if isinstance(content, Network):
        return compose_networks([packet], (packet.height, packet.width), device=device, objects=False)[0]
    if isinstance(content, Pyramid):
        # Centred like a residual: grey is 0.
        return pyramid_pixels(content, packet.height, packet.width, device, residual=False) + 0.5
    if isinstance(content, ImageFile):
        return file_pixels(content, packet.height, packet.width, device)
    keyframe = find_keyframe(content, keyframes or {}, (packet.height, packet.width))
    shown = (shared or SharedKeyframe()).background(content.packet, keyframe, device)
    image = from_keyframe(shown, content, (packet.height, packet.width))
    for update in content.updates:
        x0, y0, x1, y1 = update.region
        image[:, y0:y1, x0:x1] += pyramid_pixels(update.content, y1 - y0, x1 - x0, device, residual=True)
    return image


def find_keyframe(reference: Reference, keyframes: Mapping[bytes, Packet], size: tuple[int, int]) -> Packet:
    """The packet that ``reference`` names.

    Args:
        reference: Of the frame.
        keyframes: Packets by content hash.
        size: Height and width of the frame, pixels.

    Raises:
        KeyframeError: It is not among ``keyframes``, is itself no keyframe, or has so many pixels more than
            the frame that it cannot be the frame's.
        PacketFormatError: Its background would take minutes to decode.
    """
    keyframe = keyframes.get(reference.packet)
    if keyframe is None:
        raise KeyframeError(
            f"the packet needs the keyframe {reference.packet.hex()[:16]}, which is not here; fetch it first"
        )
    if keyframe.keyframe is not None:
        raise KeyframeError("the packet's keyframe is itself no keyframe")
    if keyframe.height * keyframe.width > MAX_KEYFRAMES * math.prod(size) + SMALL_FRAME:
        raise KeyframeError(
            f"the keyframe has {keyframe.width}x{keyframe.height} pixels, which does not fit a packet of "
            f"{size[1]}x{size[0]}; the sender's packet is wrong"
        )
    check_network_work(keyframe, objects=False)
    return keyframe


def from_keyframe(keyframe: Tensor, reference: Reference, size: tuple[int, int]) -> Tensor:
    """The background that a reference describes, but for its updates: (3, height, width), a new tensor.

    Args:
        keyframe: (3, H, W), the keyframe's background.
        reference: How to look at it.
        size: Height and width of the frame.

    Raises:
        KeyframeError: The keyframe has another size and the reference does not say how to look at it.
    """
    if reference.homography is not None or reference.motion is not None:
        return warp(keyframe, reference.homography, size, reference.motion)
    if keyframe.shape[1:] != size:
        height, width = keyframe.shape[1:]
        raise KeyframeError(
            f"the keyframe has {width}x{height} pixels, the packet {size[1]}x{size[0]}; "
            "the sender's packet is wrong"
        )
    return keyframe.clone()


def lay_patches(
    image: Tensor, regions: Sequence[Region], replaces: Sequence[bool], pixels: Callable[[int], Tensor]
) -> Tensor:
    """Refine ``image`` (3, H, W) in place and return it.

    Args:
        image: The background.
        regions: Of the patches.
        replaces: Whether each takes the place of the pixels that it owns; else it is added to them.
        pixels: (3, h, w) of one patch, by its place.
    """
    if not regions:
        return image
    owner = torch.from_numpy(owners(regions, *image.shape[1:])).to(image.device)
    for index, (x0, y0, x1, y1) in enumerate(regions):
        area = image[:, y0:y1, x0:x1]
        mine = owner[y0:y1, x0:x1] == index
        if replaces[index]:
            area.copy_(torch.where(mine, pixels(index), area))
        else:
            area += pixels(index) * mine
    return image


class WorkBudget:
    """How much the regions of one packet may cover its frame.

    Args:
        width: Of the frame, pixels.
        height: Of the frame, pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._pixels = MAX_LAYERS * width * height + SMALL_FRAME
        self._coarse = MAX_COARSE_PIXELS

    def take(self, region: Region) -> bool:
        """Count one more region; whether a packet may hold all that were counted so far."""
        x0, y0, x1, y1 = region
        self._pixels -= (y1 - y0) * (x1 - x0)
        self._coarse -= math.prod(grid_sizes(y1 - y0, x1 - x0)[-1])
        return self._pixels >= 0 and self._coarse >= 0


def check_work(packet: Packet) -> None:
    """Refuse a packet whose contents overlap so often that decoding it would take minutes.

    Raises:
        PacketFormatError: Its regions have together too many pixels, or too many that are decoded one by one,
            or its networks too many parameters (:func:`common.inr.vector.check_network_work`).
    """
    check_network_work(packet)
    regions = [box_region(packet, patch.box) for patch in packet.objects]
    if isinstance(packet.background, Reference):
        regions += [update.region for update in packet.background.updates]
    budget = WorkBudget(packet.width, packet.height)
    if not all(budget.take(region) for region in regions):
        raise PacketFormatError(
            f"the {len(regions)} regions of a packet of {packet.width}x{packet.height} pixels cover it too "
            "often to be decoded"
        )


def warp(
    image: Tensor, homography: tuple[float, ...] | None, size: tuple[int, int], motion: Motion | None = None
) -> Tensor:
    """``image`` (3, H, W) seen through a homography: (3, height, width), bilinear, edges repeated.

    Args:
        image: The keyframe's picture.
        homography: Takes pixel coordinates (x, y) of the new picture to those of ``image``; see
            :class:`common.bitstream.packet.Reference`. None: the same view.
        size: Height and width of the new picture.
        motion: Added to those coordinates.
    """
    a, b, c, d, e, f, g, h = homography or _SAME_VIEW
    # In float64: a rounding of the position is a rounding of the pixel.
    y = torch.arange(size[0], dtype=torch.float64)[:, None]
    x = torch.arange(size[1], dtype=torch.float64)
    depth = (g * x + h * y + 1).clamp_min(1e-6)
    height, width = image.shape[1:]
    u, v = (a * x + b * y + c) / depth, (d * x + e * y + f) / depth
    if motion is not None:
        vectors = torch.from_numpy(motion.vectors).permute(2, 0, 1).double() / 4
        right, down = between_nodes(vectors, motion.spacing, size)
        u, v = u + right, v + down
    u, v = (u + 0.5) * 2 / width - 1, (v + 0.5) * 2 / height - 1
    grid = torch.stack([u, v], 2).float().to(image.device)
    return F.grid_sample(
        image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def between_nodes(vectors: Tensor, spacing: int, size: tuple[int, int]) -> Tensor:
    """What a motion field's nodes say at every pixel.

    Args:
        vectors: (2, rows, columns), any float type; differentiable.
        spacing: Pixels between nodes; see :class:`common.bitstream.packet.Motion`.
        size: Height and width of the frame.

    Returns:
        (2, height, width), of the same type.
    """
    for axis, length in ((1, size[0]), (2, size[1])):
        last = vectors.shape[axis] - 1
        at = ((torch.arange(length, dtype=vectors.dtype) + 0.5) / spacing - 0.5).clamp(0, last)
        first = at.floor().long().clamp_max(max(0, last - 1))
        share = (at - first).reshape(-1, 1) if axis == 1 else at - first
        second = (first + 1).clamp_max(last)
        vectors = vectors.index_select(axis, first) * (1 - share) + vectors.index_select(axis, second) * share
    return vectors


def file_pixels(
    file: ImageFile, height: int, width: int, device: torch.device | str, *, checked: bool = False
) -> Tensor:
    """(3, height, width) float32 RGB in [0, 1] of a region's image file.

    Args:
        file: Of the region.
        height: Of the region, pixels.
        width: Of the region, pixels.
        device: Where the pixels are wanted.
        checked: Whether this very file was read before.
    """
    read = checked_pixels if checked else image_pixels
    pixels = torch.from_numpy(read(file, height, width)).to(device)
    return pixels.permute(2, 0, 1).float() / 255


def _patch_pixels(patch: ObjectPatch, height: int, width: int, device: torch.device | str) -> Tensor:
    content = patch.content
    if isinstance(content, ImageFile):
        return file_pixels(content, height, width, device)
    if isinstance(content, Pyramid):
        return pyramid_pixels(content, height, width, device, residual=True)
    return network_residual(NetworkGroup.pack([content], device), patch.residual_scale, height, width)
