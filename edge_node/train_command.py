"""``edge-node train``: train a detector on packets and say how much better it got."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, make_folder, print_json, progress
from common.errors import DatasetError, LearningError, UsageError
from common.frame import Frame

if TYPE_CHECKING:
    from common.bitstream import Packet
    from common.learning.resident import ResidentStore
    from common.learning.settings import TrainingSettings
    from common.learning.trainer import TrainingResult
    from common.learning.validation import Evaluation

__all__ = ["Report", "add_parser", "train_on_packets"]

INTERMEDIATE_EVALUATIONS = 4
"""Points of mAP measured during a longer training, besides its start and end; each is a validation pass."""
TAKEN_AT_A_TIME = 16
"""Packets between two looks of the progress bar."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a training came to.

    Attributes:
        before, after: The validation set before and after training.
        training: Steps, times and the loss curve.
        images: Frames trained on.
        points: (step, mAP50, mAP50-95) in order, the start and the end included.
        overlap: Validation images that were also trained on, by content hash.
    """

    before: Evaluation
    after: Evaluation
    training: TrainingResult
    images: int
    points: tuple[tuple[int, float, float], ...]
    overlap: int

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the command."""
        training = self.training
        return {
            "map50": self.after.map50,
            "map50_95": self.after.map50_95,
            "baseline_map50": self.before.map50,
            "baseline_map50_95": self.before.map50_95,
            "images": self.images,
            "epochs": training.epochs,
            "seconds": training.seconds,
            "seconds_per_epoch": training.seconds / max(1, training.epochs),
        }


def add_parser(subparsers: Any) -> None:
    """Add ``train``."""
    parser = subparsers.add_parser("train", help="train a detector on packets")
    parser.add_argument("path", metavar="PATH", type=Path, help="one .rinr packet or a folder of them")
    parser.add_argument("--val", metavar="SRC", required=True, help="labelled original images to evaluate on")
    parser.add_argument("--format", metavar="NAME", help="layout of SRC; found by looking when left out")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("trained"), help="folder for the results"
    )
    parser.add_argument("--model", default="yolov8n.yaml", help="Ultralytics model name, or local weights")
    parser.add_argument(
        "--classes", metavar="A,B", help="ordered class names; default: those of the weights or packets"
    )
    parser.add_argument(
        "--imgsz", metavar="N", type=int, default=640, help="side of the training images, pixels"
    )
    parser.add_argument("--epochs", metavar="N", type=int, default=50, help="passes over the frames")
    parser.add_argument("--batch", metavar="N", type=int, default=8, help="frames a training step")
    parser.add_argument("--learning-rate", metavar="X", type=float, default=1e-3, help="of the first step")
    parser.add_argument(
        "--supersample", metavar="K", type=int, default=1, help="average K x K decoded pixels"
    )
    parser.add_argument(
        "--augment",
        metavar="NAME=X",
        nargs="+",
        default=[],
        help="augmentation under Ultralytics' names, e.g. mosaic=1 degrees=10; see docs/learning.md",
    )
    parser.add_argument(
        "--max-val", metavar="N", type=int, default=500, help="validation images, spread evenly over SRC"
    )
    parser.add_argument(
        "--memory", metavar="GB", type=float, default=4.0, help="device memory for the packets"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", metavar="N", type=int, default=_usable_cpus(), help="CPU threads")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of frame order, augmentation and first weights"
    )
    add_json(parser)
    parser.set_defaults(command=_command)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_on_packets(
    packets: Sequence[Packet],
    frames: Sequence[Frame],
    settings: TrainingSettings,
    work_dir: Path,
    *,
    quiet: bool,
    keyframes: Mapping[bytes, Packet] | None = None,
) -> tuple[Report, bytes]:
    """Train on packets and evaluate on frames before and after.

    Args:
        packets: Training frames; unlabelled and validation ones are left out.
        frames: Labelled validation originals.
        settings: Model, classes and schedule.
        work_dir: Folder for the checkpoint; a training that was killed goes on from it.
        quiet: No progress bar.
        keyframes: Packets to which others refer, by content hash.

    Returns:
        The report, and the trained weights as safetensors bytes.

    Raises:
        LearningError: Nothing to train or evaluate on, too little memory, or the training diverged.
    """
    from common.learning.detector import load_detector, resolve_device, start_weights
    from common.learning.hooks import TrainerHooks
    from common.learning.resident import ResidentStore
    from common.learning.trainer import train
    from common.learning.validation import ValidationSet, evaluate
    from common.learning.weights import decode_weights, encode_weights

    device = resolve_device(settings.device)
    validation = ValidationSet(frames, settings)
    store = ResidentStore(device, settings.memory_bytes, settings, "refuse", work_dir)
    refused, damaged, resident = _fill(store, packets, keyframes, quiet=quiet)
    if damaged:
        sys.stderr.write(
            f"edge-node: left out {len(damaged)} of {len(packets)} packets that cannot be decoded, the first "
            f"because {damaged[0]}\n"
        )
    if refused:
        raise LearningError(
            f"{refused} of {len(packets)} packets do not fit into {settings.memory_bytes:,} bytes; "
            "raise --memory"
        )
    overlap = resident & {f.digest for f in frames}
    if overlap:
        sys.stderr.write(
            f"edge-node: {len(overlap)} of the {len(validation)} validation images are also trained on, "
            "so the mAP is too high; use other frames for --val\n"
        )
    start = start_weights(settings, _note)
    before = evaluate([load_detector(start)], validation, settings, device)[0] if len(validation) else None
    for sentence in validation.left_out:
        _note(f"left out: {sentence}")
    if before is None or len(validation) == 0:
        raise LearningError("no validation image can be used; give others to --val")
    points = [(0, before.map50, before.map50_95)]
    last_step = 0
    every = max(1, settings.epochs // (INTERMEDIATE_EVALUATIONS + 1))

    with _progress_bar(quiet) as advance:

        def on_step(step: int, steps: int, loss: float) -> None:
            nonlocal last_step
            last_step = step
            advance(step, steps, loss)

        def on_epoch(epoch: int, detector: Any) -> None:
            if epoch % every == 0 and epoch + every <= settings.epochs:
                (now,) = evaluate([detector], validation, settings, device)
                points.append((epoch * -(-len(store) // settings.batch), now.map50, now.map50_95))

        result = train(store, settings, start, work_dir, TrainerHooks(on_step=on_step, on_epoch=on_epoch))
    data = encode_weights(result.weights, half=settings.half_weights)
    # Evaluate what is written: the weights as they are in the file.
    (after,) = evaluate([load_detector(decode_weights(data))], validation, settings, device)
    points.append((result.steps, after.map50, after.map50_95))
    return Report(before, after, result, len(store), tuple(points), len(overlap)), data


def _note(sentence: str) -> None:
    sys.stderr.write(f"edge-node: {sentence}\n")


def _command(arguments: argparse.Namespace) -> int:
    from common.learning.trainer import discard_checkpoint
    from common.learning.weights import write_durably
    from edge_node.packet_files import keyframes_beside
    from edge_node.training_plot import plot_training

    out = make_folder(arguments.out)
    packets = _read_packets(arguments.path, quiet=arguments.json)
    settings = _settings(arguments, packets)
    frames = _read_validation(arguments, settings)
    work_dir = out / "checkpoint"
    keyframes = keyframes_beside(arguments.path)
    report, weights = train_on_packets(
        packets, frames, settings, work_dir, quiet=arguments.json, keyframes=keyframes
    )
    write_durably(out / "weights.safetensors", weights)
    answer = report.to_json()
    details = {
        "steps": report.training.steps,
        "validation_images": len(report.after.images),
        "validation_boxes": report.after.boxes,
        "validation_overlap": report.overlap,
        "points": report.points,
        "settings": settings.model_dump(mode="json"),
    }
    _write_json(out / "metrics.json", answer | details)
    plot_training(report.training.curve.tolist(), report.training.losses, report.points, out / "training.png")
    discard_checkpoint(work_dir)
    shutil.rmtree(work_dir, ignore_errors=True)
    if arguments.json:
        print_json(answer)
    else:
        _print_report(report, out)
    return 0


def _fill(
    store: ResidentStore,
    packets: Sequence[Packet],
    keyframes: Mapping[bytes, Packet] | None,
    *,
    quiet: bool,
) -> tuple[int, list[str], set[bytes]]:
    """Take packets over.

    Returns:
        How many do not fit, a sentence for each that cannot be decoded, and, where all fit, the hashes of the
        recorded images of those that are now in the store.
    """
    refused, damaged = 0, []
    resident: set[bytes] = set()
    starts = range(0, len(packets), TAKEN_AT_A_TIME)
    for at in progress(starts, total=len(starts), title="decoding integers", quiet=quiet):
        offered = packets[at : at + TAKEN_AT_A_TIME]
        added = store.add(offered, keyframes)
        refused += added.refused
        damaged += [sentence for _, sentence in added.damaged]
        left_out = {place for place, _ in added.damaged}
        resident |= {
            packet.source_digest
            for place, packet in enumerate(offered)
            if packet.labelled and not packet.validation and place not in left_out
        }
    return refused, damaged, resident


def _settings(arguments: argparse.Namespace, packets: Sequence[Packet]) -> TrainingSettings:
    """Settings from the options, checked as those of a configuration file."""
    from pydantic import ValidationError

    from common.learning.settings import TrainingSettings

    values = {
        "model": arguments.model,
        "classes": _classes(arguments, packets),
        "imgsz": arguments.imgsz,
        "epochs": arguments.epochs,
        "batch": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "supersample": arguments.supersample,
        "augmentation": _augmentation(arguments.augment),
        "device": arguments.device,
        "threads": arguments.threads,
        "seed": arguments.seed,
        "memory_bytes": round(arguments.memory * 1e9),
        "validation_images": arguments.max_val,
    }
    try:
        return TrainingSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = {
            "validation_images": "max-val",
            "memory_bytes": "memory",
            "learning_rate": "learning-rate",
            "augmentation": "augment",
        }
        place = [str(part) for part in first["loc"]] or ["classes"]
        name = " ".join([option.get(place[0], place[0]), *place[1:]])
        raise UsageError(f"bad value for --{name}: {first['msg']} (got {first['input']!r})") from error


def _augmentation(given: Sequence[str]) -> dict[str, str]:
    """Names and values of ``--augment``."""
    from common.learning.augmentation_settings import AugmentationSettings

    values = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or name not in AugmentationSettings.model_fields:
            names = ", ".join(AugmentationSettings.model_fields)
            raise UsageError(f"bad value for --augment: {item!r}; give NAME=X with one of the names {names}")
        values[name] = value
    return values


def _classes(arguments: argparse.Namespace, packets: Sequence[Packet]) -> list[str]:
    """Class list: as given, else of the weights to start from, else of the packets in order of appearance."""
    if arguments.classes:
        return [name.strip() for name in arguments.classes.split(",")]
    if arguments.model.endswith(".safetensors"):
        from common.learning.weights import read_weights

        return list(read_weights(arguments.model).classes)
    from common.frame import DEFAULT_CLASS

    names = dict.fromkeys(box.name for packet in packets for box in packet.boxes)
    return list(names) or [DEFAULT_CLASS]


def _read_packets(path: Path, *, quiet: bool) -> list[Packet]:
    from edge_node.packet_files import find_packets, read_packet

    files = find_packets(path)
    return [read_packet(f) for f in progress(files, total=len(files), title="reading packets", quiet=quiet)]


def _read_validation(arguments: argparse.Namespace, settings: TrainingSettings) -> list[Frame]:
    """Labelled frames of SRC, at most ``--max-val``, spread evenly."""
    from common.datasets import open_source

    source = open_source(arguments.val, arguments.format, settings.classes, split="val")
    length = source.length or 0
    every = max(1, -(-length // settings.validation_images))
    frames = []
    for index, frame in enumerate(
        progress(source, total=source.length, title="reading images", quiet=arguments.json)
    ):
        if index % every == 0 and frame.labelled:
            frames.append(frame)
        if len(frames) == settings.validation_images:
            break
    if not frames:
        raise DatasetError(
            f"{arguments.val} has no labelled frame to evaluate on; give images with boxes to --val"
        )
    return frames


@contextmanager
def _progress_bar(quiet: bool) -> Iterator[Any]:
    """A function (step, steps, loss) that draws a bar on a terminal, else does nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda step, steps, loss: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=None)
        yield lambda step, steps, loss: bar.update(
            task, completed=step, total=steps, description=f"training, loss {loss:.2f}"
        )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    import json

    from common.learning.weights import write_durably

    write_durably(path, json.dumps(value, indent=2, allow_nan=False).encode())


def _print_report(report: Report, out: Path) -> None:
    before, after, training = report.before, report.after, report.training
    sys.stdout.write(
        f"trained on {report.images} frames: {training.epochs} epochs, {training.steps} steps, "
        f"{training.seconds:.1f} s ({training.seconds / max(1, training.steps):.3f} s a step)\n"
        f"mAP50     {before.map50:.3f} -> {after.map50:.3f}   "
        f"on {len(after.images)} images, {after.boxes} boxes\n"
        f"mAP50-95  {before.map50_95:.3f} -> {after.map50_95:.3f}\n"
        f"written to {out}: weights.safetensors, metrics.json, training.png\n"
    )
