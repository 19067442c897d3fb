"""``edge-node train --task classify``: train a classifier of images on packets, as Rapid-INR does."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import make_folder, print_json
from common.errors import LearningError
from common.frame import Frame
from edge_node.training_input import (
    fill_store,
    note,
    progress_bar,
    read_packets,
    read_validation,
    training_settings,
    warn_of_overlap,
    write_json,
)

if TYPE_CHECKING:
    from common.bitstream import Packet
    from common.learning.classifier_validation import ClassifierEvaluation
    from common.learning.settings import TrainingSettings
    from common.learning.trainer import TrainingResult

__all__ = ["ClassifierReport", "classify", "classify_packets"]


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """What a training came to.

    Attributes:
        before, after: The validation set before and after training.
        training: Steps, times and the loss curve.
        images: Images trained on.
        overlap: Validation images that were also trained on, by content hash.
    """

    before: ClassifierEvaluation
    after: ClassifierEvaluation
    training: TrainingResult
    images: int
    overlap: int

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the command."""
        return {
            "top1": self.after.top1,
            "top5": self.after.top5,
            "baseline_top1": self.before.top1,
            "baseline_top5": self.before.top5,
            "images": self.images,
            "epochs": self.training.epochs,
            "seconds": self.training.seconds,
            "seconds_per_epoch": self.training.seconds / max(1, self.training.epochs),
        }


def classify(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from common.learning.trainer import discard_checkpoint
    from common.learning.weights import write_durably
    from edge_node.packet_files import find_packets, keyframes_beside

    find_packets(arguments.path)
    out = make_folder(arguments.out)
    packets = read_packets(arguments.path, quiet=arguments.json)
    settings = training_settings(arguments, packets)
    frames = read_validation(arguments, settings)
    work_dir = out / "checkpoint"
    report, weights = classify_packets(
        packets,
        frames,
        settings,
        work_dir,
        quiet=arguments.json,
        keyframes=keyframes_beside(arguments.path),
    )
    write_durably(out / "weights.safetensors", weights)
    answer = report.to_json()
    details = {
        "steps": report.training.steps,
        "validation_images": report.after.images,
        "validation_overlap": report.overlap,
        "losses": report.training.curve[:, 0].tolist(),
        "settings": settings.model_dump(mode="json"),
    }
    write_json(out / "metrics.json", answer | details)
    discard_checkpoint(work_dir)
    shutil.rmtree(work_dir, ignore_errors=True)
    if arguments.json:
        print_json(answer)
    else:
        training = report.training
        sys.stdout.write(
            f"trained on {report.images} images: {training.epochs} epochs, {training.steps} steps, "
            f"{training.seconds:.1f} s ({training.seconds / max(1, training.steps):.3f} s a step)\n"
            f"top-1  {report.before.top1:.3f} -> {report.after.top1:.3f}   on {report.after.images} images\n"
            f"top-5  {report.before.top5:.3f} -> {report.after.top5:.3f}\n"
            f"written to {out}: weights.safetensors, metrics.json\n"
        )
    return 0


def classify_packets(
    packets: Sequence[Packet],
    frames: Sequence[Frame],
    settings: TrainingSettings,
    work_dir: Path,
    *,
    quiet: bool,
    keyframes: Mapping[bytes, Packet] | None = None,
) -> tuple[ClassifierReport, bytes]:
    """Train a classifier on packets and evaluate it on original images before and after.

    Args:
        packets: Training images; those marked validation, and those whose boxes are not all of one class, are
            left out.
        frames: Validation originals; those whose boxes are not all of one class are left out.
        settings: Model, classes and schedule.
        work_dir: Folder for the checkpoint; a training that was killed goes on from it.
        quiet: No progress bar.
        keyframes: Packets to which others refer, by content hash.

    Returns:
        The report, and the trained weights as safetensors bytes.

    Raises:
        LearningError: Nothing to train or evaluate on, too little memory, or the training diverged.
    """
    from common.learning.classifier import load_classifier, start_classifier
    from common.learning.classifier_training import train_classifier
    from common.learning.classifier_validation import evaluate_classifier
    from common.learning.detector import resolve_device
    from common.learning.hooks import TrainerHooks
    from common.learning.resident import ResidentStore
    from common.learning.validation import ValidationSet
    from common.learning.weights import decode_weights, encode_weights

    if len(settings.devices) > 1:
        raise LearningError("a classifier trains on one device; give one to --device")
    device = resolve_device(settings.device)
    start = start_classifier(settings)
    store = ResidentStore(device, settings.memory_bytes, settings, "refuse", work_dir)
    usable = _of_one_class(packets, "packets")
    resident = fill_store(store, usable, keyframes, quiet=quiet)
    originals = _of_one_class(frames, "validation images")
    validation = ValidationSet(originals, settings)
    overlap = warn_of_overlap(resident, originals, "share of right answers")
    if len(store) == 0 or len(validation) == 0:
        what = "train" if len(store) == 0 else "evaluate"
        raise LearningError(
            f"there is no image to {what} on: none has a class; give one box over the whole image, as the "
            "format class-folders does"
        )
    before = evaluate_classifier(load_classifier(start), validation, settings, device)
    for sentence in validation.left_out:
        note(f"left out: {sentence}")
    with progress_bar(quiet) as advance:
        result = train_classifier(store, settings, start, work_dir, TrainerHooks(on_step=advance))
    data = encode_weights(result.weights, half=settings.half_weights)
    after = evaluate_classifier(load_classifier(decode_weights(data)), validation, settings, device)
    return ClassifierReport(before, after, result, len(store), overlap), data


def _of_one_class(items: Sequence[Any], what: str) -> list[Any]:
    """Packets or frames whose boxes are all of one class."""
    found = [item for item in items if len({box.name for box in item.boxes}) == 1]
    several = sum(len({box.name for box in item.boxes}) > 1 for item in items)
    if several:
        note(f"left out {several} of {len(items)} {what} with boxes of several classes")
    return found
