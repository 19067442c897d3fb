"""Does a detector learn from packets as well as from the original JPEG files?

    python benchmarks/accuracy.py SEQUENCES --out out/benchmarks

SEQUENCES is a folder with tracking sequences (OTB, UAV123, UAVDT, DTB70) below it. A detector is trained on
frames of every second sequence and fine-tuned on a few frames of the others, once from each source of pixels
(arm) and seed; the same seed sees the same frames in the same order and in the same views in every arm. It is
judged by mAP50-95 on original images of the new sequences, from other stretches of time than it was tuned on
(detection/split.py). Arms: `original`, the recorded files; `region-jpeg`, a coarse background and sharper
crops in as many bytes as the first profile takes for the frame (detection/region_jpeg.py); a profile of the
encoder; PROFILE-then-augment, the same packets decoded at their coded size and then augmented by Ultralytics'
classes (decode_then_augment.py). All arms have the same coded width; bytes of originals are those of the
files as recorded. What is done is kept in --work: a stopped run goes on where it was. Remove the folder after
a change of the program.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cli import make_folder, print_json, run_command
from common.errors import UsageError
from common.learning.settings import TrainingSettings
from common.learning.yolo_environment import prepare_yolo
from detection.accuracy_plot import plot
from detection.intervals import Draws, draws_of, estimate
from detection.split import Counts, find_sequences, split_frames
from detection.study import BEFORE, ORIGINAL, REGION_JPEG, THEN_AUGMENT, Study
from fog_node.encoders.encoder_settings import PROFILES, EncoderSettings
from judge.report import write_json

ARMS = (ORIGINAL, REGION_JPEG, "pyramid", "pyramid" + THEN_AUGMENT)
MOST_IMAGES = 300
"""With more, or on a GPU, a study is no longer called preliminary."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accuracy.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sequences", metavar="SEQUENCES", type=Path)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"comma-separated (default: {','.join(ARMS)})")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument("--imgsz", type=int, default=160, help="side of the images, pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--before-frames", type=int, default=24, help="of a sequence, for training before")
    parser.add_argument("--frames", type=int, default=16, help="of a new sequence, for fine-tuning")
    parser.add_argument("--validation-frames", type=int, default=20, help="of a new sequence, for judging")
    parser.add_argument("--before-epochs", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=15, help="of fine-tuning")
    parser.add_argument("--model", default="yolov8n.yaml", help="start of the training before")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("out/accuracy"), help="folder of what is done")
    parser.add_argument("--out", type=Path, help="folder for accuracy.json and accuracy.png")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    arms = [name.strip() for name in arguments.arms.split(",") if name.strip()]
    profiles = [name.removesuffix(THEN_AUGMENT) for name in arms if name not in (ORIGINAL, REGION_JPEG)]
    for name in profiles:
        if name not in PROFILES:
            raise UsageError(f"--arms names {name!r}; known: {', '.join((*ARMS, *PROFILES))}")
    if ORIGINAL not in arms or not profiles:
        raise UsageError(f"--arms must name {ORIGINAL} and at least one profile to compare with it")
    if arguments.seeds < 1:
        raise UsageError(f"--seeds is {arguments.seeds}; it must be at least 1")
    prepare_yolo(arguments.threads)
    counts = Counts(arguments.before_frames, arguments.frames, arguments.validation_frames)
    split = split_frames(find_sequences(arguments.sequences), counts)
    before, tuning = _settings(arguments)
    encoder = EncoderSettings()
    report = _shown(arguments.json)
    study = Study(split, before, tuning, encoder, profiles[0], arguments.work, report)
    runs: dict[str, list[Any]] = {arm: [] for arm in (BEFORE, *arms)}
    for seed in range(arguments.seeds):  # seed by seed: whatever is done when it is stopped is paired
        for arm, done in runs.items():
            done.append(study.images_of(arm, seed))
    report("drawing the bootstrap\n")
    draws = {arm: draws_of(done, split.blocks, arguments.resamples) for arm, done in runs.items()}
    figures = _figures(study, draws, profiles) | {
        "seeds": arguments.seeds,
        "imgsz": arguments.imgsz,
        "images": {
            "before": len(split.before),
            "fine_tuning": len(split.new),
            "validation": len(split.validation),
            "validation_boxes": study.validation.boxes,
            "stretches": len(set(split.blocks)),
        },
        "sequences": {"before": split.sequences[0], "new": split.sequences[1]},
        "settings": {"before": before.model_dump(mode="json"), "tuning": tuning.model_dump(mode="json")},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    if arguments.out is not None:
        folder = make_folder(arguments.out)
        write_json(folder / "accuracy.json", figures)
        plot(figures, folder / "accuracy.png")
    if arguments.json:
        print_json(figures)
    else:
        sys.stdout.write(_text(figures))
    return 0


def _settings(arguments: argparse.Namespace) -> tuple[TrainingSettings, TrainingSettings]:
    common = {
        "imgsz": arguments.imgsz,
        "batch": arguments.batch,
        "device": arguments.device,
        "threads": arguments.threads,
        "hardness_steps": 0,  # nothing is evicted here
    }
    before = TrainingSettings.model_validate(
        # From random weights: the higher rate with which docs/learning.md found that small trainings learn.
        common | {"model": arguments.model, "epochs": arguments.before_epochs, "learning_rate": 2e-3}
    )
    return before, TrainingSettings.model_validate(common | {"epochs": arguments.epochs})


def _figures(study: Study, draws: dict[str, Draws], profiles: Sequence[str]) -> dict[str, Any]:
    arms = {}
    for arm, drawn in draws.items():
        sizes = None if arm == BEFORE else study.source(arm).bytes
        arms[arm] = {
            "map50_95": estimate(drawn).to_json(),
            "seeds": drawn.seeds.tolist(),
            "bytes_per_frame": None if sizes is None else sum(sizes) / len(sizes),
        }
    pairs = [(arm, ORIGINAL) for arm in draws if arm not in (BEFORE, ORIGINAL)]
    if REGION_JPEG in draws:
        pairs.append((profiles[0], REGION_JPEG))
    pairs += [(p, p + THEN_AUGMENT) for p in profiles if p in draws and p + THEN_AUGMENT in draws]
    differences = {
        f"{arm} - {peer}": estimate(draws[arm], draws[peer]).to_json() for arm, peer in dict.fromkeys(pairs)
    }
    return {"arms": arms, "differences": differences}


def _text(figures: dict[str, Any]) -> str:
    images = figures["images"]
    trained = images["before"] + images["fine_tuning"] + images["validation"]
    lines = [
        f"{images['fine_tuning']} frames for fine-tuning, {images['validation']} for judging in "
        f"{images['stretches']} stretches, {figures['seeds']} seeds, {figures['imgsz']} pixels"
        + (": preliminary" if trained <= MOST_IMAGES else ""),
        "points of mAP50-95; 95 % over seeds, and over seeds and stretches",
        f"{'':44s}{'bytes':>9s}{'mAP':>7s}  {'seeds':^15s}  {'and stretches':^15s}",
    ]
    for name, arm in figures["arms"].items():
        size = "" if arm["bytes_per_frame"] is None else f"{arm['bytes_per_frame']:,.0f}"
        lines.append(f"{name:44s}{size:>9s}{_points(arm['map50_95'])}")
    lines += [f"{name:53s}{_points(found, '+')}" for name, found in figures["differences"].items()]
    return "\n".join(lines) + "\n"


def _points(found: dict[str, Any], sign: str = "") -> str:
    ends = [(found["seeds_low"], found["seeds_high"]), (found["low"], found["high"])]
    shown = ["-" if a is None else f"[{100 * a:{sign}.1f}, {100 * b:{sign}.1f}]" for a, b in ends]
    return f"{100 * found['mean']:{sign}7.1f}  {shown[0]:^15s}  {shown[1]:^15s}"


def _shown(quiet: bool) -> Any:
    """A line on a terminal that says what is going on."""
    if quiet or not sys.stderr.isatty():
        return lambda words: None
    return lambda words: sys.stderr.write(f"\r\x1b[K{words}")


if __name__ == "__main__":
    sys.exit(main())
