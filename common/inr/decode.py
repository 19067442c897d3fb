"""Packets of any profile to pixels.

A packet whose background is a network is a vector: it is evaluated at any output size. Every other packet is
a raster: composed at its coded size and then resized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.bitstream.packet import Network, Packet
from common.inr.device import DeviceError, resolve_device
from common.inr.raster import SharedKeyframe, raster_image
from common.inr.vector import check_network_work, compose_networks

__all__ = ["DeviceError", "compose_packets", "is_vector", "resize", "resolve_device"]


def is_vector(packet: Packet) -> bool:
    """Whether the packet consists of networks only."""
    return isinstance(packet.background, Network)


def compose_packets(
    packets: Sequence[Packet],
    size: tuple[int, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    objects: bool = True,
    chunk: int | None = None,
    keyframes: Mapping[bytes, Packet] | None = None,
) -> Tensor:
    """Decode packets as one batch.

    Args:
        packets: At least one; all of one coded size unless ``size`` is given.
        size: Height and width of the output, pixels; by default the coded size.
        device: Where to decode.
        objects: Whether objects are refined; False gives the backgrounds only.
        chunk: Tiles evaluated at a time, bounding memory; the pixels do not depend on it.
        keyframes: Packets that others refer to, by content hash.

    Returns:
        (B, 3, height, width) float32 RGB, not clamped; :func:`common.inr.compose.to_bytes` makes it 8-bit.

    Raises:
        ValueError: The coded sizes differ and no ``size`` is given.
        KeyframeError: A packet's keyframe is missing or does not fit.
        PacketFormatError: Coded contents are damaged, or so many that decoding would take minutes.
    """
    if size is None:
        if len({(p.height, p.width) for p in packets}) != 1:
            raise ValueError("packets of several coded sizes need one output size")
        size = packets[0].height, packets[0].width
    vectors = [i for i, packet in enumerate(packets) if is_vector(packet)]
    for index in vectors:
        check_network_work(packets[index], objects=objects)
    if len(vectors) == len(packets):
        return compose_networks(packets, size, device=device, objects=objects, chunk=chunk)
    out = torch.empty(len(packets), 3, *size, device=device)
    if vectors:
        chosen = [packets[i] for i in vectors]
        out[vectors] = compose_networks(chosen, size, device=device, objects=objects, chunk=chunk)
    shared = SharedKeyframe()
    for index in sorted(set(range(len(packets))) - set(vectors)):
        image = raster_image(
            packets[index], device=device, objects=objects, keyframes=keyframes, shared=shared
        )
        out[index] = resize(image, size)
    return out


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """``image`` (3, H, W) at ``size`` (height, width): bilinear, averaging where it shrinks."""
    if image.shape[1:] == size:
        return image
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
