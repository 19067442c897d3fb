"""Augmentation in coordinate space against decoding at the coded size and augmenting the pixels.

Usage: python benchmarks/augmentation.py [PACKETS ...] [--frames 24] [--rounds 7] [--imgsz 320] [--out DIR]

PACKETS are folders of .rinr files, each of one profile. Without any, packets of networks of the default sizes
with random weights are made, and crops of a photograph that ships inside ultralytics are encoded with the
profile `pyramid`. The two ways take turns on the same views, a batch of 8 a round, mosaics of all frames;
medians of the milliseconds a training image and of the ratios are printed: CPU time on a CPU, so that what
else runs there counts little, else wall-clock time. --out writes augmentation.json,
augmentation.png and augmented.png, a contact sheet of augmented images with their boxes.
"""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from common.bitstream import Packet, decode_packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.inr.decode import resolve_device
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import TrainingBatch, decode_views
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.views import NO_AUGMENTATION, View, draw_views
from decode_then_augment import DecodeThenAugment
from decoding.packets import encoded_packets, made_packets

BATCH = 8
KINDS = {
    "none": NO_AUGMENTATION,
    "default": AugmentationSettings(),
    "rotation": AugmentationSettings(degrees=30, shear=5),
    "mosaic": AugmentationSettings(mosaic=1.0),
}
"""What is compared: settings by name."""
TILE, ACROSS = 150, 5


def resident(packets: list[Packet], keyframes: KeyframeFiles | None, device: torch.device) -> ResidentStore:
    """A store of packets, all of which train."""
    names = tuple(dict.fromkeys(box.name for packet in packets for box in packet.boxes)) or ("object",)
    store = ResidentStore(device, 1 << 34, TrainingSettings(classes=names))
    added = store.add([replace(p, labelled=True, validation=False) for p in packets], keyframes)
    if added.trainable < len(packets):
        raise SystemExit(f"only {added.trainable} of {len(packets)} packets can be decoded")
    return store


def views_of(store: ResidentStore, augmentation: AugmentationSettings, imgsz: int, seed: int) -> list[View]:
    """Views of a batch of frames; mosaics take theirs from all."""
    pool = store.numbers.numpy()
    frames = np.random.default_rng(seed).permutation(pool)[:BATCH].tolist()
    return draw_views(augmentation, imgsz, (seed, 0, 2), frames, pool)


def compared(store: ResidentStore, imgsz: int, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds a batch of both ways and their ratio, by kind of augmentation."""
    clock = time.process_time if store.device.type == "cpu" else time.perf_counter
    report = {}
    for kind, augmentation in KINDS.items():
        peer = DecodeThenAugment(TrainingSettings(augmentation=augmentation))
        ways = {"coordinates": decode_views, "decode_then_augment": peer}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(-1, rounds):  # the first warms up
            views = views_of(store, augmentation, imgsz, turn + 1)
            for name, way in ways.items():
                begin = clock()
                way(store, views, imgsz)["img"].cpu()
                if turn >= 0:
                    seconds[name].append((clock() - begin) / len(views))
        report[kind] = {
            **{f"{name}_ms_a_frame": 1000 * statistics.median(times) for name, times in seconds.items()},
            "ratio": statistics.median(
                map(operator.truediv, seconds["decode_then_augment"], seconds["coordinates"])
            ),
        }
    return report


def contact_sheet(store: ResidentStore, imgsz: int = 320) -> Image.Image:
    """Rows of augmented images with their boxes: as they are, defaults, rotation, mosaic."""
    sheet = Image.new("RGB", (ACROSS * TILE, len(KINDS) * TILE))
    for row, augmentation in enumerate(KINDS.values()):
        views = views_of(store, augmentation, imgsz, 1)[:ACROSS]
        for column, image in enumerate(with_boxes(decode_views(store, views, imgsz))):
            sheet.paste(image.resize((TILE, TILE), Image.Resampling.BOX), (column * TILE, row * TILE))
    return sheet


def with_boxes(batch: TrainingBatch) -> list[Image.Image]:
    """The images of a batch with their boxes drawn."""
    images = []
    for place, pixels in enumerate(batch["img"].permute(0, 2, 3, 1).cpu().numpy()):
        image = Image.fromarray(pixels)
        pen = ImageDraw.Draw(image)
        for x, y, w, h in (batch["bboxes"][batch["batch_idx"] == place] * image.width).tolist():
            pen.rectangle((x - w / 2, y - h / 2, x + w / 2, y + h / 2), outline=(255, 230, 0), width=3)
        images.append(image)
    return images


def plot(report: dict[str, Any], path: Path) -> None:
    """Milliseconds a frame of both ways, by profile and kind."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    profiles = report["profiles"]
    figure, axes = pyplot.subplots(1, len(profiles), figsize=(4.5 * len(profiles), 3.6), squeeze=False)
    for axis, (name, rows) in zip(axes[0], profiles.items(), strict=True):
        place = np.arange(len(rows))
        for shift, way in ((-0.2, "coordinates"), (0.2, "decode_then_augment")):
            values = [row[f"{way}_ms_a_frame"] for row in rows.values()]
            axis.bar(place + shift, values, 0.4, label=way.replace("_", " "))
        labels = [f"{kind}\n{row['ratio']:.2f}x" for kind, row in rows.items()]
        axis.set_xticks(place, labels)
        axis.set_title(name)
        axis.set_ylabel(f"ms a frame, {report['clock']}")
        axis.legend()
    figure.suptitle(f"augmented training images of {report['imgsz']} pixels, {report['device']}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Measure, print, and write the plot and the contact sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packets", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--imgsz", type=int, default=320, help="side of the training images, pixels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for augmentation.json, .png and the contact sheet")
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
        groups["pyramid"] = encoded_packets("pyramid", arguments.frames), None
    stores = {name: resident(*given, device) for name, given in groups.items()}
    report: dict[str, Any] = {
        "imgsz": arguments.imgsz,
        "frames": arguments.frames,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "clock": "CPU time" if device.type == "cpu" else "wall-clock time",
        "profiles": {},
    }
    for name, store in stores.items():
        if sys.stderr.isatty() and not arguments.json:
            sys.stderr.write(f"{name}..\n")
        report["profiles"][name] = compared(store, arguments.imgsz, arguments.rounds)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "augmentation.json").write_text(json.dumps(report, indent=1))
        plot(report, arguments.out / "augmentation.png")
        sheet = contact_sheet(list(stores.values())[-1])
        sheet.quantize(96).save(arguments.out / "augmented.png", optimize=True)
    if arguments.json:
        print(json.dumps(report))
        return
    print(f"{'profile':24s} {'augmentation':12s} {'coordinates':>14s} {'then augment':>14s} {'ratio':>7s}")
    for name, rows in report["profiles"].items():
        for kind, row in rows.items():
            ways = (row["coordinates_ms_a_frame"], row["decode_then_augment_ms_a_frame"])
            print(f"{name:24s} {kind:12s} {ways[0]:11.1f} ms {ways[1]:11.1f} ms {row['ratio']:7.2f}")


if __name__ == "__main__":
    main()
