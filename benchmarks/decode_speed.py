"""Decoding speed: networks grouped by size against one at a time, and all profiles against Pillow.

Usage: python benchmarks/decode_speed.py [PACKETS ...] [--frames 16] [--rounds 7] [--device auto] [--json]

PACKETS are folders of .rinr files, each of one profile. Without any, packets of the default sizes with random
weights are made (one 42x5 background of 640x360 pixels and one 20x3 object each), and crops of a photograph
that ships inside ultralytics are encoded with the other profiles at the default targets.

Networks: the ways take turns; medians and ratios are printed, and whether all give the same pixels. Profiles:
what happens once on arrival (integers decoded, networks packed), what a frame takes in memory, and frames a
second from there into training batches of --imgsz pixels; beside them, in the same turns, the same pictures
as whole-frame JPEG and AVIF files read by Pillow into the same batches.
"""

import argparse
import io
import json
import operator
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common.bitstream import Network, Packet, decode_packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets, is_vector, resize, resolve_device
from common.inr.groups import GroupKey, NetworkGroup, group_key
from common.inr.vector import network_contents
from common.learning.batches import decode_batch
from common.learning.letterbox import FILL, letterbox_content
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings

RASTER_PROFILES = ("pyramid", "jpeg", "webp", "avif")
PEERS = {"JPEG": 30, "AVIF": 35}
"""Pillow's formats and a quality at which a frame has some 30 dB."""
BATCH = 8


def made_packets(count: int) -> list[Packet]:
    """Packets of the default sizes with random weights."""
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


def encoded_packets(profile: str, count: int) -> list[Packet]:
    """Packets of moving crops of a photograph."""
    from fog_node.encoder import EncodedFrame, FrameEncoder
    from fog_node.encoder_settings import EncoderSettings
    from simulations.loopback_scenario import load_loopback_scenario
    from simulations.moving_crops import make_clip

    (clip, *_) = load_loopback_scenario().clips
    settings = EncoderSettings.model_validate({"profile": profile})
    encoder = FrameEncoder(settings, "auto")
    frames = [replace(frame, identity=None) for frame in make_clip(clip, count, settings.width, 90, 0.3)]
    return [
        decode_packet(r.packet)
        for frame in frames
        for r in encoder.encode([frame])
        if isinstance(r, EncodedFrame)
    ]


class Resident:
    """Packets in a resident store: how long they took to get there, and training batches of them."""

    def __init__(self, packets: list[Packet], keyframes: KeyframeFiles | None, device: torch.device) -> None:
        self.store = ResidentStore(device, 1 << 34, TrainingSettings(classes=_classes(packets)))
        begin = time.perf_counter()
        added = self.store.add([replace(p, labelled=True, validation=False) for p in packets], keyframes)
        _wait(device)
        self.arrival_seconds = (time.perf_counter() - begin) / len(packets)
        if added.trainable < len(packets):
            raise SystemExit(f"only {added.trainable} of {len(packets)} packets can be decoded")

    def batches(self, imgsz: int) -> None:
        """Every frame once."""
        numbers = torch.arange(len(self.store))
        for at in range(0, len(numbers), BATCH):
            decode_batch(self.store, numbers[at : at + BATCH], imgsz)


class Files:
    """Pictures as whole-frame files in host memory, read by Pillow into training batches."""

    def __init__(self, pictures: list[np.ndarray], codec: str, device: torch.device) -> None:
        self.device = device
        self.files = []
        for picture in pictures:
            target = io.BytesIO()
            Image.fromarray(picture).save(target, codec, quality=PEERS[codec])
            self.files.append(target.getvalue())

    def batches(self, imgsz: int) -> None:
        """Every frame once."""
        for at in range(0, len(self.files), BATCH):
            images = []
            for file in self.files[at : at + BATCH]:
                pixels = np.array(Image.open(io.BytesIO(file)).convert("RGB"))
                image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1).float() / 255
                top, left, height, width = letterbox_content(torch.tensor([image.shape[1:]]), imgsz)[
                    0
                ].tolist()
                square = torch.full((3, imgsz, imgsz), FILL, dtype=torch.uint8, device=self.device)
                shown = to_bytes(resize(image, (height, width)))
                square[:, top : top + height, left : left + width] = shown
                images.append(square)
            torch.stack(images)


def profile_speeds(
    groups: dict[str, tuple[list[Packet], KeyframeFiles | None]],
    device: torch.device,
    imgsz: int,
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Figures by profile, and by Pillow's format on the pictures of the first profile."""
    residents = {name: Resident(packets, keyframes, device) for name, (packets, keyframes) in groups.items()}
    packets, keyframes = next(iter(groups.values()))
    pictures = [
        to_bytes(compose_packets([p], keyframes=keyframes))[0].permute(1, 2, 0).contiguous().numpy()
        for p in packets
    ]
    files = {codec: Files(pictures, codec, device) for codec in PEERS}
    ways: dict[str, tuple[Callable[[int], None], int]] = {
        **{name: (resident.batches, len(resident.store)) for name, resident in residents.items()},
        **{f"Pillow {codec}": (peer.batches, len(peer.files)) for codec, peer in files.items()},
    }
    for way, _ in ways.values():
        way(imgsz)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, _) in ways.items():
            begin = time.perf_counter()
            way(imgsz)
            _wait(device)
            seconds[name].append(time.perf_counter() - begin)
    report = {
        name: {"frames_per_second": count / statistics.median(seconds[name])}
        for name, (_, count) in ways.items()
    }
    for name, resident in residents.items():
        count = len(resident.store)
        report[name]["arrival_ms"] = 1000 * resident.arrival_seconds
        report[name]["resident_bytes"] = resident.store.nbytes / count
    for codec, peer in files.items():
        report[f"Pillow {codec}"]["resident_bytes"] = sum(map(len, peer.files)) / len(peer.files)
    return report


def network_speeds(packets: list[Packet], device: torch.device, rounds: int) -> dict[str, Any]:
    """Frames a second of packets of networks, decoded in groups and alone, and the ratios."""
    ways = {"grouped": grouped, "one_packet_at_a_time": one_by_one, "one_network_at_a_time": plain}
    pixels = {name: way(packets, device) for name, way in ways.items()}  # also warms up
    same = all(map(torch.equal, pixels["grouped"], pixels["one_packet_at_a_time"]))
    off = [
        (a.int() - b.int()).abs()
        for a, b in zip(pixels["grouped"], pixels["one_network_at_a_time"], strict=True)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way(packets, device)
            _wait(device)
            seconds[name].append(time.perf_counter() - begin)
    rate = {name: len(packets) / statistics.median(times) for name, times in seconds.items()}
    keys: set[GroupKey] = {group_key(network_contents(packet)[0]) for packet in packets}
    return {
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


def _classes(packets: list[Packet]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(box.name for packet in packets for box in packet.boxes)) or ("object",)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packets", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--imgsz", type=int, default=640, help="side of the training images, pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    groups: dict[str, tuple[list[Packet], KeyframeFiles | None]] = {}
    for folder in arguments.packets:
        files = sorted(folder.glob("*.rinr"))[: arguments.frames]
        packets = [decode_packet(path.read_bytes()) for path in files]
        groups[f"{folder.name} ({packets[0].profile})"] = packets, KeyframeFiles(folder)
    if not groups:
        groups["siren"] = made_packets(arguments.frames), None
        groups |= {p: (encoded_packets(p, arguments.frames), None) for p in RASTER_PROFILES}
    report: dict[str, Any] = {}
    for packets, _ in groups.values():
        if not report and all(map(is_vector, packets)):
            report = network_speeds(packets, device, arguments.rounds)
    # The peers decode the pictures of the first; random weights make none that a codec is meant for.
    order = sorted(groups, key=lambda name: all(map(is_vector, groups[name][0])))
    profiles = profile_speeds({n: groups[n] for n in order}, device, arguments.imgsz, arguments.rounds)
    report |= {"imgsz": arguments.imgsz, "profiles": profiles}
    if arguments.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        if name != "profiles":
            print(f"{name:42s} {value:.2f}" if isinstance(value, float) else f"{name:42s} {value}")
    print(f"\n{'training batches':30s} {'frames/s':>9s} {'bytes a frame':>14s} {'on arrival, ms':>15s}")
    for name, row in profiles.items():
        arrival = f"{row['arrival_ms']:15.1f}" if "arrival_ms" in row else ""
        print(f"{name:30s} {row['frames_per_second']:9.1f} {row['resident_bytes']:14,.0f} {arrival}")


if __name__ == "__main__":
    main()
