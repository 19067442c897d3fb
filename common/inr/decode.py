"""Packets to pixels: networks of a batch grouped by size, each group evaluated at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from common.bitstream.packet import Network, ObjectNetwork, Packet
from common.errors import ResidualInrError
from common.inr.compose import BackgroundPart, Canvas, ObjectPart, compose
from common.inr.groups import NetworkGroup, group_key
from common.inr.siren import SirenStack

__all__ = ["DeviceError", "compose_packets", "resolve_device"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class DeviceError(ResidualInrError):
    """The named device is not on this machine."""

    exit_code = 2


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``: "auto" is CUDA when there is one, else the CPU.

    Raises:
        DeviceError: It is not there, or the name is unknown.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"device {name!r} is not here: {count} CUDA devices were found; use cpu or auto")
    return device


def compose_packets(
    packets: Sequence[Packet],
    size: tuple[int, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    objects: bool = True,
    chunk: int | None = None,
) -> Tensor:
    """Decode packets as one batch.

    Args:
        packets: At least one; all of one coded size unless ``size`` is given.
        size: Height and width of the output, pixels; by default the coded size.
        device: Where to decode.
        objects: Whether residuals are added; False gives the backgrounds only.
        chunk: Tiles evaluated at a time, bounding memory; the pixels do not depend on it.

    Returns:
        (B, 3, height, width) float32 RGB, not clamped; :func:`common.inr.compose.to_bytes` makes it 8-bit.

    Raises:
        ValueError: The coded sizes differ and no ``size`` is given.
    """
    if size is None:
        if len({(p.height, p.width) for p in packets}) != 1:
            raise ValueError("packets of several coded sizes need one output size")
        size = packets[0].height, packets[0].width
    coded = torch.tensor([[p.height, p.width] for p in packets], device=device)
    backgrounds = [
        BackgroundPart(_stack(group, device), torch.tensor([i for i, _ in group], device=device))
        for group in _grouped((i, p.background) for i, p in enumerate(packets))
    ]
    parts = []
    if objects:
        found = ((i, packet, o) for i, packet in enumerate(packets) for o in packet.objects)
        by_key: dict[Hashable, list[tuple[int, Packet, ObjectNetwork]]] = defaultdict(list)
        for entry in found:
            by_key[group_key(entry[2].network)].append(entry)
        parts = [_object_part(group, device) for group in by_key.values()]
    return compose(Canvas.full(*size, coded), backgrounds, parts, chunk)


def _grouped(networks: Iterable[tuple[int, Network]]) -> list[list[tuple[int, Network]]]:
    groups: dict[Hashable, list[tuple[int, Network]]] = defaultdict(list)
    for index, network in networks:
        groups[group_key(network)].append((index, network))
    return list(groups.values())


def _stack(group: Sequence[tuple[int, Network]], device: torch.device | str) -> SirenStack:
    return NetworkGroup.pack([network for _, network in group], device).dequantize()


def _object_part(
    group: Sequence[tuple[int, Packet, ObjectNetwork]], device: torch.device | str
) -> ObjectPart:
    regions = []
    for _, packet, item in group:
        region = packet.boxes[item.box].region(packet.width, packet.height)
        if region is None:  # a decoded packet's boxes lie inside its frame
            raise ValueError(f"box {item.box} lies outside its frame")
        regions.append(region)
    return ObjectPart(
        NetworkGroup.pack([item.network for *_, item in group], device).dequantize(),
        torch.tensor([index for index, *_ in group], device=device),
        torch.tensor(regions, device=device),
        torch.tensor([item.residual_scale for *_, item in group], device=device),
        torch.tensor([item.box for *_, item in group], device=device),
    )
