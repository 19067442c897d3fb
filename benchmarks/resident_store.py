"""What frames take in the resident store, and what it costs to keep them beside the device.

    python benchmarks/resident_store.py PACKETS --json out/resident_store.json

PACKETS is a folder of packets, as ``fog-node encode`` writes them. Bytes are those of the store's own budget:
data in the allocator's blocks, indices, and the objects in host memory that hold them. The second part
decodes epochs with all frames on the device, and with nearly all in host memory and on disk; between two
batches it sleeps for ``--step`` seconds in place of the network's part of a training step.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from common.bitstream import decode_packet
from common.bitstream.packet import Packet
from common.learning.batches import decode_batch
from common.learning.detector import resolve_device
from common.learning.prefetch import Prefetch
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.views import plain_view

TIERS = {"device": (1 << 34, 0, 0), "host": (1 << 17, 1 << 34, 0), "disk": (1 << 17, 0, 1 << 34)}
"""Of each tier: bytes of the device, of host memory and of disk; 128 KiB have room for a few frames only."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packets", type=Path, help="folder of .rinr files")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--step", type=float, default=0.05, help="seconds between two batches")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    files = sorted(arguments.packets.glob("*.rinr"))
    if not files:
        sys.exit(f"{arguments.packets} has no packet; make some with fog-node encode SRC --out DIR")
    packets = [decode_packet(file.read_bytes()) for file in files]
    coded = sum(file.stat().st_size for file in files)
    figures = memory(packets, coded)
    with tempfile.TemporaryDirectory() as folder:
        for tier in TIERS:
            figures[tier] = epoch(packets, tier, arguments, Path(folder))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1))
    sys.stdout.write(_text(figures))


def memory(packets: list[Packet], coded: int) -> dict[str, Any]:
    """Bytes of the frames on the device and beside it, in the store's own count."""
    classes = tuple(dict.fromkeys(box.name for packet in packets for box in packet.boxes)) or ("object",)
    store = ResidentStore("cpu", 1 << 34, TrainingSettings(classes=classes))
    shares = []
    for packet in packets:
        before = store.nbytes
        store.add([packet])
        shares.append((store.nbytes - before) / (3 * packet.width * packet.height))
    rgb = sum(3 * packet.width * packet.height for packet in packets)
    return {
        "frames": len(store),
        "coded_bytes_per_frame": coded / len(packets),
        "bytes_per_frame": store.nbytes / len(store),
        "share_of_rgb": store.nbytes / rgb,
        "largest_share_of_rgb": max(shares),
        "share_of_rgb_as_packets": coded / rgb,
    }


def epoch(packets: list[Packet], tier: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Decode every frame once, nearly all of them from this tier."""
    device, host, disk = TIERS[tier]
    classes = tuple(dict.fromkeys(box.name for packet in packets for box in packet.boxes)) or ("object",)
    settings = TrainingSettings(classes=classes, host_bytes=host, disk_bytes=disk)
    store = ResidentStore(resolve_device(arguments.device), device, settings, folder=folder)
    store.add(packets)
    prefetch = Prefetch(store)
    views = [[plain_view(n) for n in part.tolist()] for part in store.numbers.split(arguments.batch)]
    decoding, begin = 0.0, time.perf_counter()
    for batch in prefetch.batches(views):
        start = time.perf_counter()
        decode_batch(store, torch.tensor([view.frames[0] for view in batch]), arguments.imgsz)
        decoding += time.perf_counter() - start
        time.sleep(arguments.step)
    total = time.perf_counter() - begin
    return {
        "fetched": prefetch.fetched,
        "decode_s_per_frame": decoding / len(packets),
        "waited_s_per_batch": prefetch.waited / len(views),
        "beside_s_per_batch": (total - decoding) / len(views) - arguments.step,
    }


def _text(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['frames']} frames of {figures['coded_bytes_per_frame']:,.0f} bytes as packets "
        f"({figures['share_of_rgb_as_packets']:.2%} of RGB)",
        f"resident  {figures['bytes_per_frame']:,.0f} bytes a frame, {figures['share_of_rgb']:.2%} of RGB, "
        f"{figures['largest_share_of_rgb']:.2%} at most",
    ]
    for tier in TIERS:
        found = figures[tier]
        lines.append(
            f"{tier:<9} {found['fetched']:.0f} frames read back, waited "
            f"{1e3 * found['waited_s_per_batch']:.2f} ms a batch, "
            f"{1e3 * found['beside_s_per_batch']:.2f} ms beside decoding, "
            f"decoding {1e3 * found['decode_s_per_frame']:.1f} ms a frame"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
