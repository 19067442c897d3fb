"""One epoch of a detector from resident packets, against Ultralytics' own loader on the same JPEG files.

    python benchmarks/training_speed.py --sizes 320,640 --out out/benchmarks

Frames are moving crops of a photograph that ships inside ultralytics, 640 x 360 pixels: for the peer as JPEG
files of quality 90 (2 loader workers by default, nothing cached), for us as packets in the resident store.
Profile `siren` is networks of the default sizes with random weights, since their values do not change the
time; other profiles encode the frames. Detector, optimizer, batch and augmentation settings are the same, and
both compute in fp32. The two take turns; of every training the first epoch is not counted. A ratio is the
peer's seconds an epoch by ours, with the 95 % interval of Student's t over rounds. Shares: of ours, decoding
as it is, what augmentation adds to it, and the network with all else; of the peer, how long the network
waited, and the processor seconds that its workers need beside it. Decoding and workers are measured alone,
as processor time on a CPU: on a busy machine shares do not add up to one. There, look at the ratio of all
processor seconds of an epoch (threads and workers included), which other programs change least.
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
from pathlib import Path
from typing import Any

import torch

from common.bitstream import Packet
from common.cli import make_folder, print_json, progress, run_command
from common.errors import UsageError
from common.frame import Frame
from common.learning.batches import decode_views
from common.learning.detector import load_detector, resolve_device, start_weights
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.views import NO_AUGMENTATION, draw_views
from common.learning.yolo_environment import prepare_yolo
from decoding.packets import crop_frames, encoded_packets, made_packets
from decoding.waits import wait
from detection.intervals import t_interval
from detection.speed_plot import plot
from detection.stopwatch import Epoch, Stopwatch
from fog_node.encoders.encoder_settings import PROFILES
from judge.report import write_json

TARGET = 2.9
"""Ratio that is aimed at on a CUDA device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="training_speed.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--profiles", default="pyramid,siren,jpeg", help="comma-separated")
    parser.add_argument("--sizes", default="320,640", help="sides of the training images, comma-separated")
    parser.add_argument("--frames", type=int, help="default: 24 on a CPU, 512 on a GPU")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="counted of each training")
    parser.add_argument(
        "--decode-ahead",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode the next batch beside the step (on a CPU)",
    )
    parser.add_argument("--workers", type=int, default=2, help="loader workers of the peer")
    parser.add_argument("--model", default="yolov8n.yaml")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training process")
    parser.add_argument("--out", type=Path, help="folder for training_speed.json and .png")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    profiles = arguments.profiles.split(",")
    sizes = [int(size) for size in arguments.sizes.split(",") if size.isdigit()]
    for name in profiles:
        if name not in PROFILES:
            raise UsageError(f"--profiles names {name!r}; known: {', '.join(PROFILES)}")
    if not sizes or min(arguments.rounds, arguments.epochs, arguments.threads) < 1:
        raise UsageError("--sizes, --rounds, --epochs and --threads must be numbers of at least 1")
    prepare_yolo(arguments.threads)
    device = resolve_device(arguments.device)
    count = arguments.frames or (24 if device.type == "cpu" else 512)
    frames = crop_frames(count)
    packets = {
        name: made_packets(count) if name == "siren" else encoded_packets(name, count) for name in profiles
    }
    cases = [(name, size) for size in sizes for name in profiles]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in progress(cases, total=len(cases), title="training", quiet=arguments.json):
            case = Case(
                frames, packets[name], _settings(arguments, frames, packets[name], size), Path(folder)
            )
            rows.append({"profile": name, "imgsz": size} | case.compare(arguments))
    report = {
        "rows": rows,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "frames": count,
        **{
            k: getattr(arguments, k)
            for k in ("batch", "rounds", "epochs", "workers", "threads", "model", "decode_ahead")
        },
        "target": TARGET if device.type == "cuda" else None,
    }
    if arguments.out is not None:
        out = make_folder(arguments.out)
        write_json(out / "training_speed.json", report)
        plot(report, out / "training_speed.png")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(_text(report))
    return 0


def _settings(
    arguments: argparse.Namespace, frames: Sequence[Frame], packets: Sequence[Packet], size: int
) -> TrainingSettings:
    boxes = [box for item in (*frames, *packets) for box in item.boxes]
    return TrainingSettings(
        model=arguments.model,
        classes=tuple(dict.fromkeys(box.name for box in boxes)) or ("object",),
        imgsz=size,
        batch=arguments.batch,
        epochs=1 + arguments.epochs,
        device=arguments.device,
        threads=arguments.threads,
        decode_ahead=arguments.decode_ahead,
        memory_bytes=1 << 34,
        checkpoint_seconds=86_400,
    )


class Case:
    """The two ways to train on the same frames.

    Args:
        frames: For the peer.
        packets: For us, as many.
        settings: Of both.
        folder: For files.
    """

    def __init__(
        self, frames: Sequence[Frame], packets: Sequence[Packet], settings: TrainingSettings, folder: Path
    ) -> None:
        from detection.ultralytics_peer import write_yolo_folder

        self.settings = settings
        self.device = resolve_device(settings.device)
        self.store = ResidentStore(self.device, settings.memory_bytes, settings)
        self.store.add(packets)
        self.start = start_weights(settings)
        self.data = write_yolo_folder(folder / "files", frames, settings)
        self.folder = folder

    def compare(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """Seconds, ratio and shares of both."""
        ours: list[Epoch] = []
        peer: list[Epoch] = []
        ratios = []
        reading = augmenting = 0.0
        for turn in range(arguments.rounds):
            ways = [self._ours, lambda: self._peer(arguments.workers)]
            first, second = (way() for way in (ways if turn % 2 == 0 else ways[::-1]))
            (mine, _), (files, trainer) = (first, second) if turn % 2 == 0 else (second, first)
            if turn == 0:
                from detection.ultralytics_peer import loader_seconds

                reading, augmenting = loader_seconds(trainer)
            ours, peer = ours + mine, peer + files
            ratios.append(_mean(files).total / _mean(mine).total)
        plain, varied = (self._decoding(a) for a in (NO_AUGMENTATION, self.settings.augmentation))
        mine, files = _mean(ours), _mean(peer)
        low, high = t_interval([math.log(ratio) for ratio in ratios])
        return {
            "ratio": math.exp(sum(map(math.log, ratios)) / len(ratios)),
            "processor_ratio": (files.processor + reading + augmenting) / mine.processor,
            "low": None if low is None else math.exp(low),
            "high": None if high is None else math.exp(high),
            "ours": {
                "epoch_s": mine.total,
                "waiting_s": mine.waiting,
                "network_s": mine.network,
                "processor_s": mine.processor,
                "decoding_s": plain,
                "augmentation_s": varied - plain,
            },
            "peer": {
                "epoch_s": files.total,
                "waiting_s": files.waiting,
                "network_s": files.network,
                "processor_s": files.processor + reading + augmenting,
                "workers_reading_s": reading,
                "workers_augmentation_s": augmenting,
            },
        }

    def _ours(self) -> tuple[list[Epoch], Any]:
        from common.learning.resident_trainer import ResidentTrainer

        with tempfile.TemporaryDirectory() as folder:
            trainer = ResidentTrainer(
                self._detector(), self.store, self.settings, Path(folder), "speed", TrainerHooks(), None
            )
            return self._timed(trainer), trainer

    def _peer(self, workers: int) -> tuple[list[Epoch], Any]:
        from common.learning.resident_trainer import ResidentTrainer
        from detection.ultralytics_peer import PeerTrainer

        with tempfile.TemporaryDirectory() as folder:
            pattern = ResidentTrainer(
                self._detector(), self.store, self.settings, Path(folder), "speed", TrainerHooks(), None
            )
            trainer = PeerTrainer(pattern, self._detector(), self.settings, self.data, Path(folder), workers)
            return self._timed(trainer), trainer

    def _timed(self, trainer: Any) -> list[Epoch]:
        watch = Stopwatch(trainer, self.device)
        torch.set_num_threads(self.settings.threads)
        trainer.train()
        return watch.epochs[1:]

    def _detector(self) -> Any:
        detector = load_detector(self.start)
        for module in detector.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = self.settings.batchnorm_momentum
        return detector

    def _decoding(self, augmentation: Any) -> float:
        """Seconds that an epoch's decoding takes by itself; processor time on a CPU."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        size, numbers = self.settings.imgsz, self.store.numbers
        parts = [part.tolist() for part in numbers.split(self.settings.batch)]
        views = [draw_views(augmentation, size, (0, 0, 2), part, numbers.numpy()) for part in parts]
        decode_views(self.store, views[0], size)
        wait(self.device)
        begin = clock()
        for batch in views:
            decode_views(self.store, batch, size)
        wait(self.device)
        return clock() - begin


def _mean(epochs: Sequence[Epoch]) -> Epoch:
    return Epoch(
        sum(epoch.total for epoch in epochs) / len(epochs),
        sum(epoch.waiting for epoch in epochs) / len(epochs),
        sum(epoch.processor for epoch in epochs) / len(epochs),
    )


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['frames']} frames, batch {report['batch']}, {report['device']}, "
        f"{report['threads']} threads, {report['workers']} loader workers, {report['rounds']} rounds",
        f"{'':20s}{'ratio':>7s}  {'95 %':^12s}{'by CPU s':>9s}  {'s an epoch':>15s}  ours: share of"
        f"{'peer:':>22s}",
        f"{'':50s}  {'ours':>7s}{'peer':>8s}{'decode':>9s}{'augment':>9s}{'network':>9s}"
        f"{'waits':>9s}{'workers':>9s}",
    ]
    for row in report["rows"]:
        ours, peer = row["ours"], row["peer"]
        interval = "-" if row["low"] is None else f"[{row['low']:.2f}, {row['high']:.2f}]"
        workers = peer["workers_reading_s"] + peer["workers_augmentation_s"]
        shares = [ours[name] / ours["epoch_s"] for name in ("decoding_s", "augmentation_s", "network_s")]
        shares += [peer["waiting_s"] / peer["epoch_s"], workers / peer["epoch_s"]]
        lines.append(
            f"{row['profile']:14s}{row['imgsz']:6d}{row['ratio']:7.2f}  {interval:^12s}"
            f"{row['processor_ratio']:9.2f}  {ours['epoch_s']:7.2f}{peer['epoch_s']:8.2f}"
            + "".join(f"{share:9.0%}" for share in shares)
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
