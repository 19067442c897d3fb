"""Packets made of coded grids, image files or references to pixels, at their coded size.

Each image is composed alone, so its pixels do not depend on what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from common.bitstream.image_files import image_pixels
from common.bitstream.packet import Background, ImageFile, Motion, Network, Packet, Pyramid
from common.errors import KeyframeError
from common.inr.compose import owners
from common.inr.vector import box_region, compose_networks
from common.pyramid.decoder import pyramid_pixels

__all__ = ["between_nodes", "raster_background", "raster_image", "warp"]

_SAME_VIEW = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


def raster_image(
    packet: Packet,
    *,
    device: torch.device | str = "cpu",
    objects: bool = True,
    keyframes: Mapping[bytes, Packet] | None = None,
) -> Tensor:
    """The frame of a packet.

    Args:
        packet: Of any kind.
        device: Where to decode.
        objects: Whether objects are refined; False gives the background only.
        keyframes: Packets that others refer to, by content hash.

    Returns:
        (3, height, width) float32 RGB, not clamped.

    Raises:
        KeyframeError: The packet's keyframe is missing or does not fit.
        PacketFormatError: Coded contents are damaged.
    """
    image = raster_background(packet, device=device, keyframes=keyframes)
    if not objects or not packet.objects:
        return image
    regions = [box_region(packet, patch.box) for patch in packet.objects]
    owner = torch.from_numpy(owners(regions, packet.height, packet.width)).to(device)
    for index, (patch, (x0, y0, x1, y1)) in enumerate(zip(packet.objects, regions, strict=True)):
        area = image[:, y0:y1, x0:x1]
        mine = owner[y0:y1, x0:x1] == index
        if isinstance(patch.content, ImageFile):
            area.copy_(torch.where(mine, _file_pixels(patch.content, y1 - y0, x1 - x0, device), area))
        elif isinstance(patch.content, Pyramid):
            area += pyramid_pixels(patch.content, y1 - y0, x1 - x0, device, residual=True) * mine
    if any(isinstance(patch.content, Network) for patch in packet.objects):
        size = packet.height, packet.width
        return compose_networks([packet], size, device=device, base=image[None])[0]
    return image


def raster_background(
    packet: Packet,
    *,
    device: torch.device | str = "cpu",
    keyframes: Mapping[bytes, Packet] | None = None,
) -> Tensor:
    """The background of a packet, (3, height, width) float32 RGB; see :func:`raster_image`."""
    content: Background = packet.background
    if isinstance(content, Network):
        return compose_networks([packet], (packet.height, packet.width), device=device, objects=False)[0]
    if isinstance(content, Pyramid):
        # Centred like a residual: grey is 0.
        return pyramid_pixels(content, packet.height, packet.width, device, residual=False) + 0.5
    if isinstance(content, ImageFile):
        return _file_pixels(content, packet.height, packet.width, device)
    keyframe = (keyframes or {}).get(content.packet)
    if keyframe is None:
        raise KeyframeError(
            f"the packet needs the keyframe {content.packet.hex()[:16]}, which is not here; fetch it first"
        )
    if keyframe.keyframe is not None:
        raise KeyframeError("the packet's keyframe is itself no keyframe")
    image = raster_background(keyframe, device=device)
    size = packet.height, packet.width
    if content.homography is not None or content.motion is not None:
        image = warp(image, content.homography, size, content.motion)
    elif image.shape[1:] != size:
        raise KeyframeError(
            f"the keyframe has {keyframe.width}x{keyframe.height} pixels, the packet {size[1]}x{size[0]}"
        )
    for update in content.updates:
        x0, y0, x1, y1 = update.region
        image[:, y0:y1, x0:x1] += pyramid_pixels(update.content, y1 - y0, x1 - x0, device, residual=True)
    return image


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


def _file_pixels(file: ImageFile, height: int, width: int, device: torch.device | str) -> Tensor:
    pixels = torch.from_numpy(image_pixels(file, height, width)).to(device)
    return pixels.permute(2, 0, 1).float() / 255
