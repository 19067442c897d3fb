"""Packets made of networks to pixels: networks of a batch grouped by size, each group evaluated at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch import Tensor

from common.bitstream.packet import Network, ObjectPatch, Packet, Region
from common.errors import PacketFormatError
from common.inr.compose import BackgroundPart, Canvas, ObjectPart, compose
from common.inr.groups import NetworkGroup, group_key
from common.inr.sampled import compose_samples
from common.inr.sampling import Sampling
from common.inr.siren import SirenStack

__all__ = [
    "PARAMETERS_PER_PIXEL",
    "box_region",
    "check_network_work",
    "compose_networks",
    "network_contents",
    "network_residual",
]

PARAMETERS_PER_PIXEL = 1 << 20
"""Parameters that the networks of a packet may have at a pixel of its frame, on average.

The largest background that an encoder can be set to, 255 x 16, has 980,733."""


def compose_networks(
    packets: Sequence[Packet],
    size: tuple[int, int],
    *,
    device: torch.device | str = "cpu",
    objects: bool = True,
    chunk: int | None = None,
) -> Tensor:
    """Decode the networks of packets as one batch; contents of other kinds are left out.

    Args:
        packets: At least one.
        size: Height and width of the output, pixels.
        device: Where to decode.
        objects: Whether residuals are added.
        chunk: Tiles evaluated at a time, bounding memory; the pixels do not depend on it.

    Returns:
        (B, 3, height, width) float32 RGB, not clamped.
    """
    coded = torch.tensor([[p.height, p.width] for p in packets], device=device)
    found = [(i, p.background) for i, p in enumerate(packets) if isinstance(p.background, Network)]
    backgrounds = [
        BackgroundPart(_stack(group, device), torch.tensor([i for i, _ in group], device=device))
        for group in _grouped(found)
    ]
    parts = _object_parts(packets, device) if objects else []
    content = torch.tensor([[0, 0, *size]], device=device).expand(len(packets), -1)
    return compose_samples(Sampling.letterbox(*size, coded, content), backgrounds, parts, chunk)


def network_residual(group: NetworkGroup, scale: float, height: int, width: int) -> Tensor:
    """What an object's network adds to the ``height`` x ``width`` coded pixels of its box.

    Args:
        group: The network alone, on the device that computes.
        scale: The object's residual scale.
        height: Of the region, pixels.
        width: Of the region, pixels.

    Returns:
        (3, height, width) float32.
    """
    device = group.scales.device
    size = torch.tensor([[height, width]], device=device)
    first = torch.zeros(1, dtype=torch.int64, device=device)
    region = torch.tensor([[0, 0, width, height]], device=device)
    part = ObjectPart(group.dequantize(), first, region, torch.tensor([scale], device=device), first)
    base = torch.zeros(1, 3, height, width, device=device)
    return compose(Canvas.full(height, width, size), [], [part], base=base)[0]


def box_region(packet: Packet, index: int) -> Region:
    """The coded pixels of box ``index``; raises ValueError when it lies outside the frame."""
    region = packet.boxes[index].region(packet.width, packet.height)
    if region is None:  # a decoded packet's boxes lie inside its frame
        raise ValueError(f"box {index} lies outside its frame")
    return region


def check_network_work(packet: Packet, *, objects: bool = True) -> None:
    """Refuse a packet whose networks would take too long to evaluate, at whatever output size.

    Args:
        packet: Of any kind; contents of other kinds are left out.
        objects: Whether its objects will be evaluated.

    Raises:
        PacketFormatError: The sum of pixels x parameters of its networks is above
            :data:`PARAMETERS_PER_PIXEL` x the pixels of its frame.
    """
    frame = packet.width * packet.height
    work = packet.background.parameters * frame if isinstance(packet.background, Network) else 0
    for patch in packet.objects if objects else ():
        if isinstance(patch.content, Network):
            x0, y0, x1, y1 = box_region(packet, patch.box)
            work += patch.content.parameters * (x1 - x0) * (y1 - y0)
    if work > PARAMETERS_PER_PIXEL * frame:
        raise PacketFormatError(
            f"the networks of a packet of {packet.width}x{packet.height} pixels have {work // frame:,} "
            f"parameters a pixel, above the limit of {PARAMETERS_PER_PIXEL:,}; the sender's packet is wrong"
        )


def network_contents(packet: Packet) -> tuple[Network, list[tuple[ObjectPatch, Network]]]:
    """Background and objects of a packet made of networks only.

    Raises:
        PacketFormatError: It has contents of another kind.
    """
    objects = [(patch, patch.content) for patch in packet.objects if isinstance(patch.content, Network)]
    if not isinstance(packet.background, Network) or len(objects) != len(packet.objects):
        raise PacketFormatError(f"a packet of profile {packet.profile!r} holds more than networks")
    return packet.background, objects


def _grouped(networks: Iterable[tuple[int, Network]]) -> list[list[tuple[int, Network]]]:
    groups: dict[Hashable, list[tuple[int, Network]]] = defaultdict(list)
    for index, network in networks:
        groups[group_key(network)].append((index, network))
    return list(groups.values())


def _stack(group: Sequence[tuple[int, Network]], device: torch.device | str) -> SirenStack:
    return NetworkGroup.pack([network for _, network in group], device).dequantize()


def _object_parts(packets: Sequence[Packet], device: torch.device | str) -> list[ObjectPart]:
    by_key: dict[Hashable, list[tuple[int, ObjectPatch, Network]]] = defaultdict(list)
    for index, packet in enumerate(packets):
        for patch in packet.objects:
            if isinstance(patch.content, Network):
                by_key[group_key(patch.content)].append((index, patch, patch.content))
    parts = []
    for group in by_key.values():
        regions = [box_region(packets[index], patch.box) for index, patch, _ in group]
        parts.append(
            ObjectPart(
                _stack([(index, network) for index, _, network in group], device),
                torch.tensor([index for index, *_ in group], device=device),
                torch.tensor(regions, device=device),
                torch.tensor([patch.residual_scale for _, patch, _ in group], device=device),
                torch.tensor([patch.box for _, patch, _ in group], device=device),
            )
        )
    return parts
