"""``edge-node train``: train a detector on packets and say how much better it got."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, make_folder, print_json
from common.errors import LearningError
from common.frame import Frame
from edge_node.training_input import (
    DEFAULT_MODELS,
    fill_store,
    note,
    progress_bar,
    read_packets,
    read_validation,
    training_settings,
    usable_cpus,
    warn_of_overlap,
    write_json,
)

if TYPE_CHECKING:
    from common.bitstream import Packet
    from common.learning.settings import TrainingSettings
    from common.learning.trainer import TrainingResult
    from common.learning.validation import Evaluation

__all__ = ["Report", "add_parser", "train_on_packets"]

INTERMEDIATE_EVALUATIONS = 4
"""Points of mAP measured during a longer training, besides its start and end; each is a validation pass."""


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
    parser = subparsers.add_parser("train", help="train a detector, or a classifier, on packets")
    parser.add_argument("path", metavar="PATH", type=Path, help="one .rinr packet or a folder of them")
    parser.add_argument("--val", metavar="SRC", required=True, help="labelled original images to evaluate on")
    parser.add_argument("--format", metavar="NAME", help="layout of SRC; found by looking when left out")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("trained"), help="folder for the results"
    )
    parser.add_argument(
        "--task",
        choices=tuple(DEFAULT_MODELS),
        default="detect",
        help="find boxes (default), or tell whole images apart by the class of their boxes",
    )
    parser.add_argument(
        "--model", help="Ultralytics model name or local weights; resnet18 or local weights to classify"
    )
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
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N, or several GPUs as cuda:0,1"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=usable_cpus(), help="CPU threads")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of frame order, augmentation and first weights"
    )
    add_json(parser)
    parser.set_defaults(command=_command)


def train_on_packets(
    packets: Sequence[Packet],
    frames: Sequence[Frame],
    settings: TrainingSettings,
    work_dir: Path,
    *,
    quiet: bool,
    keyframes: Mapping[bytes, Packet] | None = None,
    files: Sequence[Path] = (),
) -> tuple[Report, bytes]:
    """Train on packets and evaluate on frames before and after.

    Args:
        packets: Training frames; unlabelled and validation ones are left out.
        frames: Labelled validation originals.
        settings: Model, classes and schedule.
        work_dir: Folder for the checkpoint; a training that was killed goes on from it.
        quiet: No progress bar.
        keyframes: Packets to which others refer, by content hash.
        files: Where the packets were read from: the processes of several devices read them again.

    Returns:
        The report, and the trained weights as safetensors bytes.

    Raises:
        LearningError: Nothing to train or evaluate on, too little memory, or the training diverged.
    """
    from common.learning.detector import load_detector, resolve_device, start_weights
    from common.learning.hooks import TrainerHooks
    from common.learning.parallel import train_parallel
    from common.learning.resident import ResidentStore
    from common.learning.trainer import train
    from common.learning.validation import ValidationSet, evaluate
    from common.learning.weights import decode_weights, encode_weights

    device = resolve_device(settings.devices[0])
    validation = ValidationSet(frames, settings)
    store = ResidentStore(device, settings.memory_bytes, settings, "refuse", work_dir)
    resident = fill_store(store, packets, keyframes, quiet=quiet)
    overlap = warn_of_overlap(resident, frames, "mAP")
    start = start_weights(settings, note)
    before = evaluate([load_detector(start)], validation, settings, device)[0] if len(validation) else None
    for sentence in validation.left_out:
        note(f"left out: {sentence}")
    if before is None or len(validation) == 0:
        raise LearningError("no validation image can be used; give others to --val")
    points = [(0, before.map50, before.map50_95)]
    last_step = 0
    every = max(1, settings.epochs // (INTERMEDIATE_EVALUATIONS + 1))

    with progress_bar(quiet) as advance:

        def on_step(step: int, steps: int, loss: float) -> None:
            nonlocal last_step
            last_step = step
            advance(step, steps, loss)

        def on_epoch(epoch: int, detector: Any) -> None:
            if epoch % every == 0 and epoch + every <= settings.epochs:
                (now,) = evaluate([detector], validation, settings, device)
                points.append((epoch * -(-len(store) // settings.batch), now.map50, now.map50_95))

        hooks = TrainerHooks(on_step=on_step, on_epoch=on_epoch)
        if len(settings.devices) > 1:
            result = train_parallel(settings, start, work_dir, hooks, packets=files)
        else:
            result = train(store, settings, start, work_dir, hooks)
    data = encode_weights(result.weights, half=settings.half_weights)
    # Evaluate what is written: the weights as they are in the file.
    (after,) = evaluate([load_detector(decode_weights(data))], validation, settings, device)
    points.append((result.steps, after.map50, after.map50_95))
    return Report(before, after, result, len(store), tuple(points), overlap), data


def _command(arguments: argparse.Namespace) -> int:
    if arguments.task == "classify":
        from edge_node.classify_training import classify

        return classify(arguments)
    return _detect(arguments)


def _detect(arguments: argparse.Namespace) -> int:
    from common.learning.trainer import discard_checkpoint
    from common.learning.weights import write_durably
    from edge_node.packet_files import find_packets, keyframes_beside
    from edge_node.training_plot import plot_training

    files = find_packets(arguments.path)
    out = make_folder(arguments.out)
    packets = read_packets(arguments.path, quiet=arguments.json)
    settings = training_settings(arguments, packets)
    frames = read_validation(arguments, settings)
    work_dir = out / "checkpoint"
    keyframes = keyframes_beside(arguments.path)
    report, weights = train_on_packets(
        packets, frames, settings, work_dir, quiet=arguments.json, keyframes=keyframes, files=files
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
    write_json(out / "metrics.json", answer | details)
    plot_training(report.training.curve.tolist(), report.training.losses, report.points, out / "training.png")
    discard_checkpoint(work_dir)
    shutil.rmtree(work_dir, ignore_errors=True)
    if arguments.json:
        print_json(answer)
    else:
        _print_report(report, out)
    return 0


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
