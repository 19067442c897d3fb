"""What a training from files starts with: packets, validation images, settings, a filled store."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import progress
from common.errors import DatasetError, LearningError, UsageError
from common.frame import Frame

if TYPE_CHECKING:
    from common.bitstream import Packet
    from common.learning.resident import ResidentStore
    from common.learning.settings import TrainingSettings

__all__ = [
    "DEFAULT_MODELS",
    "fill_store",
    "note",
    "progress_bar",
    "read_packets",
    "read_validation",
    "training_settings",
    "usable_cpus",
    "warn_of_overlap",
    "write_json",
]

DEFAULT_MODELS = {"detect": "yolov8n.yaml", "classify": "resnet18"}
"""What is trained when no model is named, by task."""
TAKEN_AT_A_TIME = 16
"""Packets between two looks of the progress bar."""


def fill_store(
    store: ResidentStore,
    packets: Sequence[Packet],
    keyframes: Mapping[bytes, Packet] | None,
    *,
    quiet: bool,
) -> set[bytes]:
    """Take packets over; those that cannot be decoded are left out and named.

    Args:
        store: Where to.
        packets: Unlabelled and validation ones are left out.
        keyframes: Packets to which others refer, by content hash.
        quiet: No progress bar.

    Returns:
        The hashes of the recorded images of those that are now in the store.

    Raises:
        LearningError: Not all fit.
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
    if damaged:
        note(
            f"left out {len(damaged)} of {len(packets)} packets that cannot be decoded, the first "
            f"because {damaged[0]}"
        )
    if refused:
        raise LearningError(
            f"{refused} of {len(packets)} packets do not fit into {store.budget_bytes:,} bytes; "
            "raise --memory"
        )
    return resident


def warn_of_overlap(resident: set[bytes], frames: Sequence[Frame], figure: str) -> int:
    """Say that images to evaluate on are also trained on, by content hash; returns how many."""
    overlap = resident & {frame.digest for frame in frames}
    if overlap:
        note(
            f"{len(overlap)} of the {len(frames)} validation images are also trained on, "
            f"so the {figure} is too high; use other frames for --val"
        )
    return len(overlap)


def training_settings(arguments: argparse.Namespace, packets: Sequence[Packet]) -> TrainingSettings:
    """Settings from the options, checked as those of a configuration file."""
    from pydantic import ValidationError

    from common.learning.settings import TrainingSettings

    values = {
        "model": arguments.model or DEFAULT_MODELS[arguments.task],
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
        "memory_bytes": _bytes(arguments.memory),
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
        place = [str(part) for part in first["loc"]]
        if not place:
            sentence = first["msg"].removeprefix("Value error, ")
            name = "device" if sentence.startswith("device") else "classes"
            raise UsageError(f"bad value for --{name}: {sentence}") from error
        name = " ".join([option.get(place[0], place[0]), *place[1:]])
        raise UsageError(f"bad value for --{name}: {first['msg']} (got {first['input']!r})") from error


def _bytes(gigabytes: float) -> int:
    """``--memory`` in bytes."""
    if not math.isfinite(gigabytes):
        raise UsageError(f"bad value for --memory: give a number of gigabytes (got {gigabytes})")
    return round(gigabytes * 1e9)


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
    if str(arguments.model).endswith(".safetensors"):
        from common.learning.weights import read_weights

        return list(read_weights(arguments.model).classes)
    from common.frame import DEFAULT_CLASS

    names = dict.fromkeys(box.name for packet in packets for box in packet.boxes)
    return list(names) or [DEFAULT_CLASS]


def read_packets(path: Path, *, quiet: bool) -> list[Packet]:
    """Every packet of a folder, or one.

    Raises:
        DatasetError: There is none.
        PacketError: One of them is damaged.
    """
    from edge_node.packet_files import find_packets, read_packet

    files = find_packets(path)
    return [read_packet(f) for f in progress(files, total=len(files), title="reading packets", quiet=quiet)]


def read_validation(arguments: argparse.Namespace, settings: TrainingSettings) -> list[Frame]:
    """Labelled frames of SRC, at most ``--max-val``, spread evenly.

    Raises:
        DatasetError: There is none.
    """
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
def progress_bar(quiet: bool) -> Iterator[Any]:
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


def note(sentence: str) -> None:
    """One sentence for a person, on stderr."""
    sys.stderr.write(f"edge-node: {sentence}\n")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file durably.

    Raises:
        LearningError: It cannot be written.
    """
    import json

    from common.learning.weights import write_durably

    write_durably(path, json.dumps(value, indent=2, allow_nan=False).encode())


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
