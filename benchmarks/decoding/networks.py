"""Packets of networks to pixels at their coded size, in several ways that take turns."""

from __future__ import annotations

import io
import operator
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.bitstream import Network, Packet
from common.bitstream.packet import Region
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.inr.fused import has_triton
from common.inr.groups import GroupKey, NetworkGroup, group_key
from common.inr.siren import SirenStack
from common.inr.vector import box_region, network_contents
from decoding.waits import wait

__all__ = ["OURS", "REFERENCES", "network_speeds"]

Way = Callable[[list[Packet], torch.device], list[Tensor]]
SINE_BOUND = {"H200": 59_000}
"""Frames a second (640x360, 42x5 background and 20x3 object) of a GPU that does nothing but reduced sines."""
JPEG_QUALITY = 30


def grouped(packets: list[Packet], device: torch.device) -> list[Tensor]:
    """Ours: all packets of one coded size as one batch, networks of one size together."""
    images: list[Tensor | None] = [None] * len(packets)
    for indices in _by_size(packets):
        pixels = to_bytes(compose_packets([packets[i] for i in indices], device=device))
        for index, image in zip(indices, pixels, strict=True):
            images[index] = image
    return [image for image in images if image is not None]


def one_by_one(packets: list[Packet], device: torch.device) -> list[Tensor]:
    """Ours, each packet alone, so each network alone."""
    return [to_bytes(compose_packets([packet], device=device))[0] for packet in packets]


def plain(packets: list[Packet], device: torch.device) -> list[Tensor]:
    """Each network alone over all of its pixels at once: how one would write it first."""
    images = []
    for packet in packets:
        background, patches = network_contents(packet)
        image = _alone(background, packet.height, packet.width, device) * 0.5 + 0.5
        for item, network in patches:
            x0, y0, x1, y1 = box_region(packet, item.box)
            image[:, y0:y1, x0:x1] += _alone(network, y1 - y0, x1 - x0, device) * item.residual_scale
        images.append(to_bytes(image))
    return images


def stacked(packets: list[Packet], device: torch.device) -> list[Tensor]:
    """As the papers' code does it: networks of one size and region stacked, one broadcast product a layer.

    All pixels at once. Smaller boxes of the packets, which may overlap, are added in their order.
    """
    images: list[Tensor | None] = [None] * len(packets)
    groups: dict[tuple[GroupKey, int, int], list[tuple[int, Region, float, Network]]] = {}
    for index, packet in enumerate(packets):
        background, patches = network_contents(packet)
        whole = (0, 0, packet.width, packet.height)
        own = [(whole, 0.5, background)]
        own += [(box_region(packet, item.box), item.residual_scale, net) for item, net in patches]
        for region, scale, network in own:
            key = group_key(network), region[3] - region[1], region[2] - region[0]
            groups.setdefault(key, []).append((index, region, scale, network))
    for index, packet in enumerate(packets):
        images[index] = torch.full((3, packet.height, packet.width), 0.5, device=device)
    for (_, height, width), members in groups.items():
        stack = NetworkGroup.pack([network for *_, network in members], device).dequantize()
        values = _broadcast(stack, _centres(height, width, device).T)
        for place, (index, (x0, y0, x1, y1), scale, _) in enumerate(members):
            residual = values[place].T.reshape(3, height, width) * scale
            image = images[index]
            if image is not None:
                image[:, y0:y1, x0:x1] += residual
    return [to_bytes(image) for image in images if image is not None]


def network_speeds(packets: list[Packet], device: torch.device, rounds: int) -> dict[str, Any]:
    """Frames a second of packets of networks by way, medians of the ratios, and whether pixels agree.

    The ways take turns, so that what else the machine does hits all of them.
    """
    ways: dict[str, Way] = {"grouped": grouped, "one_packet_at_a_time": one_by_one, **REFERENCES}
    pixels = {name: way(packets, device) for name, way in ways.items()}  # also warms up
    same = all(map(torch.equal, pixels["grouped"], pixels["one_packet_at_a_time"]))
    off = [
        (a.int() - b.int()).abs()
        for a, b in zip(pixels["grouped"], pixels["one_network_at_a_time"], strict=True)
    ]
    if device.type == "cuda":
        ways["nvjpeg"] = _nvjpeg(pixels["grouped"])
    del pixels
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(packets, device)
            wait(device)
            seconds[name].append(time.perf_counter() - begin)
    rate = {name: len(packets) / statistics.median(times) for name, times in seconds.items()}
    keys: set[GroupKey] = {group_key(network_contents(packet)[0]) for packet in packets}
    report: dict[str, Any] = {
        "frames": len(packets),
        "background_sizes": sorted(str(key.architecture) for key in keys),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "path": "fused kernel" if device.type == "cuda" and has_triton() else "stacks",
        "threads": torch.get_num_threads(),
        **{f"{name}_frames_per_second": value for name, value in rate.items()},
        **{
            f"grouped_over_{name}": statistics.median(map(operator.truediv, times, seconds["grouped"]))
            for name, times in seconds.items()
            if name != "grouped"
        },
        "same_pixels_as_alone": same,
        "largest_difference_from_plain_grey": max(int(d.max()) for d in off),
    }
    for name, bound in SINE_BOUND.items():
        if name in report["device"]:
            report["share_of_sine_bound"] = rate["grouped"] / bound
    return report


REFERENCES: dict[str, Way] = {"one_network_at_a_time": plain, "stacked_matmul": stacked}
OURS = ("grouped", "one_packet_at_a_time")


def _by_size(packets: list[Packet]) -> list[list[int]]:
    sizes: dict[tuple[int, int], list[int]] = {}
    for index, packet in enumerate(packets):
        sizes.setdefault((packet.height, packet.width), []).append(index)
    return list(sizes.values())


def _centres(height: int, width: int, device: torch.device) -> Tensor:
    """Network coordinates (2, height * width) of the centres of pixels."""
    y = (torch.arange(height, device=device) + 0.5) * 2 / height - 1
    x = (torch.arange(width, device=device) + 0.5) * 2 / width - 1
    return torch.stack([x.repeat(height), y.repeat_interleave(width)])


def _alone(network: Network, height: int, width: int, device: torch.device) -> Tensor:
    """One network at the centres of height x width pixels: (3, height, width)."""
    with torch.no_grad():
        out = NetworkGroup.pack([network], device).dequantize().forward(_centres(height, width, device))
    return out[0].reshape(3, height, width)


def _broadcast(stack: SirenStack, x: Tensor) -> Tensor:
    """Outputs (N, P, 3) of N networks at coordinates (P, 2), all at once."""
    with torch.no_grad():
        for weight, bias in zip(stack.weights[:-1], stack.biases[:-1], strict=True):
            x = torch.sin(stack.w0 * (torch.matmul(x, weight.transpose(1, 2)) + bias.transpose(1, 2)))
        return torch.matmul(x, stack.weights[-1].transpose(1, 2)) + stack.biases[-1].transpose(1, 2)


def _nvjpeg(images: list[Tensor]) -> Way:
    """The same pictures as JPEG files, decoded by nvJPEG; an empty way when torchvision lacks it."""
    from torchvision.io import decode_jpeg

    files = []
    for image in images:
        target = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(target, "JPEG", quality=JPEG_QUALITY)
        files.append(torch.from_numpy(np.frombuffer(target.getvalue(), np.uint8).copy()))

    def decode(packets: list[Packet], device: torch.device) -> list[Tensor]:
        return list(decode_jpeg(files, device=device))

    return decode
