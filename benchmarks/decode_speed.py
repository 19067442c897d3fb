"""Decoding speed: networks grouped by size against the ways of others, and all profiles against Pillow.

Usage: python benchmarks/decode_speed.py [PACKETS ...] [--frames 16] [--rounds 7] [--quick] [--out DIR]

PACKETS are folders of .rinr files, each of one profile. Without any, packets of the default sizes with random
weights are made (one 42x5 background of 640x360 pixels and one 20x3 object each), and crops of a photograph
that ships inside ultralytics are encoded with the other profiles at the default targets.

Networks: ours against one network at a time and against the papers' stacked broadcast product, all pixels at
once; the ways take turns; medians and ratios are printed, and whether all give the same pixels. On a CUDA
device ours is the fused kernel, with its share of what sines alone allow, and nvJPEG decodes the same
pictures. Profiles: what happens once on arrival (integers decoded, networks packed), what a frame takes in
memory, and frames a second from there into training batches of --imgsz pixels; beside them, in the same
turns, the same pictures as whole-frame JPEG and AVIF files read by Pillow into the same batches. --out writes
decode_speed.json and decode_speed.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from common.bitstream import Packet, decode_packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.inr.decode import is_vector, resolve_device
from decoding.networks import network_speeds
from decoding.packets import encoded_packets, made_packets
from decoding.plot import plot_speeds
from decoding.training_batches import profile_speeds

RASTER_PROFILES = ("pyramid", "jpeg", "webp", "avif")


def say(words: str, quiet: bool) -> None:
    """What is going on, for someone who waits at a terminal."""
    if sys.stderr.isatty() and not quiet:
        print(words, file=sys.stderr)


def gather(arguments: argparse.Namespace) -> dict[str, tuple[list[Packet], KeyframeFiles | None]]:
    """The packets to decode, by name."""
    groups: dict[str, tuple[list[Packet], KeyframeFiles | None]] = {}
    for folder in arguments.packets:
        files = sorted(folder.glob("*.rinr"))[: arguments.frames]
        packets = [decode_packet(path.read_bytes()) for path in files]
        groups[f"{folder.name} ({packets[0].profile})"] = packets, KeyframeFiles(folder)
    if groups:
        return groups
    if arguments.quick:
        return {"siren": (made_packets(arguments.frames, 160, 96), None)}
    groups["siren"] = made_packets(arguments.frames), None
    for profile in RASTER_PROFILES:
        say(f"encoding {arguments.frames} frames with the profile {profile}", arguments.json)
        groups[profile] = encoded_packets(profile, arguments.frames), None
    return groups


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packets", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="small made networks only: seconds, no figures to cite"
    )
    parser.add_argument("--imgsz", type=int, default=640, help="side of the training images, pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, help="folder of decode_speed.json and decode_speed.png")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    groups = gather(arguments)
    report: dict[str, Any] = {}
    say("decoding", arguments.json)
    for packets, _ in groups.values():
        if not report and all(map(is_vector, packets)):
            report = network_speeds(packets, device, arguments.rounds)
    # The peers decode the pictures of the first; random weights make none that a codec is meant for.
    order = sorted(groups, key=lambda name: all(map(is_vector, groups[name][0])))
    profiles = profile_speeds({n: groups[n] for n in order}, device, arguments.imgsz, arguments.rounds)
    report |= {"imgsz": arguments.imgsz, "profiles": profiles}
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "decode_speed.json").write_text(json.dumps(report, indent=1) + "\n")
        plot_speeds(report, arguments.out / "decode_speed.png")
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
