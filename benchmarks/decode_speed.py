"""Decoding speed: packets grouped by size against the same networks one at a time, in one run.

Usage: python benchmarks/decode_speed.py [PACKETS] [--frames 16] [--rounds 7] [--device auto] [--json]

PACKETS is a folder of .rinr files; without it, packets of the default sizes with random weights are made:
one 42x5 background of 640x360 pixels and one 20x3 object each. The ways take turns; medians and ratios are
printed, and whether all give the same pixels.
"""

import argparse
import json
import operator
import statistics
import time
from pathlib import Path

import torch

from common.bitstream import Network, Packet, decode_packet
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets, resolve_device
from common.inr.groups import GroupKey, NetworkGroup, group_key
from common.inr.vector import network_contents


def made_packets(count: int) -> list[Packet]:
    """Packets of the default sizes with random weights."""
    import numpy as np

    from common.bitstream import ObjectPatch, label_box
    from common.frame import Box
    from common.inr.quantize import BitWidths, quantize, unpack
    from common.inr.siren import Architecture, SirenStack

    generator = torch.Generator().manual_seed(0)
    backgrounds = unpack(quantize(SirenStack.initialise(Architecture(42, 5), count, generator), BitWidths()))
    objects = unpack(
        quantize(SirenStack.initialise(Architecture(20, 3), count, generator), BitWidths(16, 16, 16))
    )
    rng = np.random.default_rng(0)
    packets = []
    for background, network in zip(backgrounds, objects, strict=True):
        x, y = rng.uniform(0, 560), rng.uniform(0, 280)
        box = label_box(Box(x, y, x + 60, y + 60), 640, 360)
        assert box is not None
        item = ObjectPatch(0, 0.5, network)
        packets.append(Packet("siren", 640, 360, True, False, (box,), bytes(32), background, (item,)))
    return packets


def grouped(packets: list[Packet], device: torch.device) -> list[torch.Tensor]:
    """All packets of one coded size as one batch."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, packet in enumerate(packets):
        by_size.setdefault((packet.height, packet.width), []).append(index)
    out: list[torch.Tensor | None] = [None] * len(packets)
    for indices in by_size.values():
        pixels = to_bytes(compose_packets([packets[i] for i in indices], device=device))
        for index, image in zip(indices, pixels, strict=True):
            out[index] = image
    return [image for image in out if image is not None]


def one_by_one(packets: list[Packet], device: torch.device) -> list[torch.Tensor]:
    """Each packet alone, so each network alone."""
    return [to_bytes(compose_packets([packet], device=device))[0] for packet in packets]


def plain(packets: list[Packet], device: torch.device) -> list[torch.Tensor]:
    """Each network alone over all of its pixels at once: how one would write it first."""
    images = []
    for packet in packets:
        background, patches = network_contents(packet)
        image = evaluate(background, packet.height, packet.width, device) * 0.5 + 0.5
        for item, network in patches:
            region = packet.boxes[item.box].region(packet.width, packet.height)
            if region is not None:
                x0, y0, x1, y1 = region
                residual = evaluate(network, y1 - y0, x1 - x0, device) * item.residual_scale
                image[:, y0:y1, x0:x1] += residual
        images.append(to_bytes(image))
    return images


def evaluate(network: Network, height: int, width: int, device: torch.device) -> torch.Tensor:
    """One network at the centres of height x width pixels: (3, height, width)."""
    y = (torch.arange(height, device=device) + 0.5) * 2 / height - 1
    x = (torch.arange(width, device=device) + 0.5) * 2 / width - 1
    xy = torch.stack([x.repeat(height), y.repeat_interleave(width)])
    with torch.no_grad():
        out = NetworkGroup.pack([network], device).dequantize().forward(xy)
    return out[0].reshape(3, height, width)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packets", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    if arguments.packets:
        files = sorted(arguments.packets.glob("*.rinr"))[: arguments.frames]
        packets = [decode_packet(path.read_bytes()) for path in files]
    else:
        packets = made_packets(arguments.frames)
    ways = {"grouped": grouped, "one_packet_at_a_time": one_by_one, "one_network_at_a_time": plain}
    pixels = {name: way(packets, device) for name, way in ways.items()}  # also warms up
    same = all(map(torch.equal, pixels["grouped"], pixels["one_packet_at_a_time"]))
    off = [
        (a.int() - b.int()).abs()
        for a, b in zip(pixels["grouped"], pixels["one_network_at_a_time"], strict=True)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(packets, device)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - begin)
    rate = {name: len(packets) / statistics.median(times) for name, times in seconds.items()}
    keys: set[GroupKey] = {group_key(network_contents(packet)[0]) for packet in packets}
    report = {
        "frames": len(packets),
        "background_sizes": sorted(str(key.architecture) for key in keys),
        "device": str(device),
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
    if arguments.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:42s} {value:.2f}" if isinstance(value, float) else f"{name:42s} {value}")


if __name__ == "__main__":
    main()
