"""One epoch of a ResNet-18 from resident packets, against torchvision's own reading of the same JPEG files.

    python benchmarks/classify_speed.py --out out/benchmarks

Images are moving crops of a photograph that ships inside ultralytics, 640 x 360 pixels, with one of two
labels: for the peer as JPEG files of quality 90 in class folders, read by torchvision's ImageFolder through
PyTorch's DataLoader, for us as packets in the resident store, one network or picture an image, no objects.
Profile `siren` is networks of the default size with random weights, since their values do not change the
time; others encode the frames. Network, optimizer, batch and the kinds and ranges of augmentation are the
same, and both compute in fp32. The two take turns; of every training the first epoch is not counted. A ratio
is the peer's seconds an epoch by ours, with the 95 % interval of Student's t over rounds.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from common.bitstream import Packet
from common.cli import make_folder, print_json, progress, run_command
from common.errors import UsageError
from common.frame import Box, Frame
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.classifier import load_classifier, normalized, start_classifier
from common.learning.classifier_training import optimizer_of, train_classifier
from common.learning.detector import resolve_device
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from decoding.packets import crop_frames, encoded_packets, made_packets
from decoding.waits import wait
from detection.intervals import t_interval
from fog_node.encoders.encoder_settings import PROFILES
from judge.report import write_json

CLASSES = ("even", "odd")
WIDTH, HEIGHT = 640, 360


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="classify_speed.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profiles", default="pyramid,siren,jpeg", help="comma-separated")
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--frames", type=int, help="default: 24 on a CPU, 1024 on a GPU")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="counted of each training")
    parser.add_argument("--workers", type=int, default=2, help="loader workers of the peer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training process")
    parser.add_argument("--out", type=Path, help="folder for classify_speed.json")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return run_command(parser, argv)


def _run(arguments: argparse.Namespace) -> int:
    profiles = arguments.profiles.split(",")
    for name in profiles:
        if name not in PROFILES:
            raise UsageError(f"--profiles names {name!r}; known: {', '.join(PROFILES)}")
    if min(arguments.rounds, arguments.epochs, arguments.threads) < 1 or arguments.workers < 0:
        raise UsageError("--rounds, --epochs and --threads must be at least 1, --workers at least 0")
    device = resolve_device(arguments.device)
    count = arguments.frames or (24 if device.type == "cpu" else 1024)
    settings = TrainingSettings(
        model="resnet18",
        classes=CLASSES,
        imgsz=arguments.imgsz,
        batch=arguments.batch,
        epochs=1 + arguments.epochs,
        device=arguments.device,
        threads=arguments.threads,
        memory_bytes=1 << 34,
        checkpoint_seconds=86_400,
    )
    frames = crop_frames(count)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = _class_folders(Path(folder) / "files", frames)
        for name in progress(profiles, total=len(profiles), title="training", quiet=arguments.json):
            packets = made_packets(count) if name == "siren" else encoded_packets(name, count)
            store = ResidentStore(device, settings.memory_bytes, settings)
            store.add([_labelled(packet, n) for n, packet in enumerate(packets)])
            rows.append({"profile": name} | _compare(store, files, settings, device, arguments))
    report = {
        "rows": rows,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "frames": count,
        **{k: getattr(arguments, k) for k in ("imgsz", "batch", "rounds", "epochs", "workers", "threads")},
    }
    if arguments.out is not None:
        write_json(make_folder(arguments.out) / "classify_speed.json", report)
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(_text(report))
    return 0


def _labelled(packet: Packet, number: int) -> Packet:
    """A packet whose one box is the label of the image."""
    whole = Box(0.0, 0.0, float(packet.width), float(packet.height), CLASSES[number % 2])
    return replace(packet, labelled=True, validation=False, boxes=(whole,), objects=())


def _class_folders(folder: Path, frames: Sequence[Frame]) -> Path:
    for number, frame in enumerate(frames):
        place = folder / CLASSES[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.jpg").write_bytes(frame.image)
    return folder


def _compare(
    store: ResidentStore,
    files: Path,
    settings: TrainingSettings,
    device: torch.device,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    ours: list[float] = []
    peer: list[float] = []
    waiting: list[float] = []
    ratios = []
    speed = 0.0
    for turn in range(arguments.rounds):
        for way in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
            if way == "ours":
                mine, speed = _ours(store, settings, device)
                ours += mine
            else:
                theirs, waits = _peer(files, settings, device, arguments.workers)
                peer, waiting = peer + theirs, waiting + waits
        ratios.append(sum(peer[-arguments.epochs :]) / sum(ours[-arguments.epochs :]))
    low, high = t_interval([math.log(ratio) for ratio in ratios])
    return {
        "ratio": math.exp(sum(map(math.log, ratios)) / len(ratios)),
        "low": None if low is None else math.exp(low),
        "high": None if high is None else math.exp(high),
        "ours_epoch_s": sum(ours) / len(ours),
        "ours_decoding_s": len(store) / speed,
        "peer_epoch_s": sum(peer) / len(peer),
        "peer_waiting_s": sum(waiting) / len(waiting),
        "resident_bytes": store.nbytes,
    }


def _ours(
    store: ResidentStore, settings: TrainingSettings, device: torch.device
) -> tuple[list[float], float]:
    """Seconds of each epoch but the first, and frames decoded a second."""
    marks: list[float] = []

    def on_epoch(epoch: int, model: object) -> None:
        wait(device)
        marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        start = start_classifier(settings)
        result = train_classifier(store, settings, start, Path(folder), TrainerHooks(on_epoch=on_epoch))
    seconds = [after - before for before, after in pairwise(marks)]
    return seconds, result.decode_frames_per_second or math.inf


def _peer(
    files: Path, settings: TrainingSettings, device: torch.device, workers: int
) -> tuple[list[float], list[float]]:
    """Seconds of each epoch but the first, and of these how many the network waited for a batch."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    loader = DataLoader(
        ImageFolder(str(files), _transforms(settings.imgsz, settings.augmentation)),
        settings.batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    model = load_classifier(start_classifier(settings)).to(device).train()
    optimizer = optimizer_of(model, settings)
    seconds, waits = [], []
    for _ in range(settings.epochs):
        begin = asked = time.perf_counter()
        waited = 0.0
        for images, classes in loader:
            waited += time.perf_counter() - asked
            loss = cross_entropy(
                model(normalized(images.to(device, non_blocking=True))), classes.to(device, non_blocking=True)
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            asked = time.perf_counter()
        wait(device)
        seconds.append(time.perf_counter() - begin)
        waits.append(waited)
    return seconds[1:], waits[1:]


def _transforms(imgsz: int, augmentation: AugmentationSettings) -> Any:
    """The same kinds of change in the same ranges, as torchvision does them, in a letterbox."""
    from torchvision.transforms import v2

    height = round(imgsz * HEIGHT / WIDTH)
    top = (imgsz - height) // 2
    shift = augmentation.translate
    return v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize((height, imgsz), antialias=True),
            v2.Pad((0, top, 0, imgsz - height - top), fill=114),
            v2.RandomAffine(
                augmentation.degrees,
                translate=(shift, shift),
                scale=(1 - augmentation.scale, 1 + augmentation.scale),
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=114,
            ),
            v2.RandomHorizontalFlip(augmentation.fliplr),
            v2.ColorJitter(augmentation.hsv_v, 0, augmentation.hsv_s, augmentation.hsv_h),
        ]
    )


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['frames']} images at {report['imgsz']} px, batch {report['batch']}, {report['device']}, "
        f"{report['threads']} threads, {report['workers']} loader workers, {report['rounds']} rounds",
        f"{'':10s}{'ratio':>7s}  {'95 %':^14s}{'ours s':>8s}{'decode':>8s}{'peer s':>8s}{'waits':>8s}",
    ]
    for row in report["rows"]:
        interval = "-" if row["low"] is None else f"[{row['low']:.2f}, {row['high']:.2f}]"
        lines.append(
            f"{row['profile']:10s}{row['ratio']:7.2f}  {interval:^14s}{row['ours_epoch_s']:8.2f}"
            f"{row['ours_decoding_s'] / row['ours_epoch_s']:8.0%}{row['peer_epoch_s']:8.2f}"
            f"{row['peer_waiting_s'] / row['peer_epoch_s']:8.0%}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
