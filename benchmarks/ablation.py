"""What each of the papers' ideas and each method of the encoder is worth on real frames.

    python benchmarks/ablation.py FRAMES.csv [--every 6] [--steps 2000] [--processes 2] [--out DIR]

First table: the papers' ways at fixed network sizes and steps (BS, BE, DE, RE, QRE), with and without
pruning. Second table: profile siren to one target with one method changed at a time, in bytes as written and
as raw integers, which is what the entropy coder is worth. docs/benchmarks.md says how to read both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.bitstream import decode_packet
from common.cli import make_folder, print_json, progress, run_command
from common.errors import UsageError
from common.inr.decode import resolve_device
from common.inr.siren import Architecture
from fog_node.encoders.encoder_settings import EncoderSettings
from judge.ablation_plot import plot
from judge.cache import Cache, key_of, source_digest
from judge.measure import CODEC_MODULES, FAMILIES, Job, Plan, measure, plan_key
from judge.papers import WAYS, PaperSizes, mean_quality, measure_frame, raw_bytes
from judge.pool import as_done
from judge.protocol import WIDTH, ListedFrame, Target, parse_targets, pixels, read_frames
from judge.report import write_json

PRUNINGS = ("none", "dynamic")
METHODS: dict[str, dict[str, Any]] = {
    "as the encoder is set": {},
    "plain 16-bit integers": {"quantization": "none"},
    "8-bit integers (objects 16)": {"quantization": "uniform"},
    "layer-wise (Rapid-INR)": {"quantization": "layer_wise"},
    "layer-wise, iterative pruning": {"quantization": "layer_wise", "pruning": "iterative"},
    "layer-wise, dynamic pruning": {"quantization": "layer_wise", "pruning": "dynamic"},
}
"""Settings of both ladders that are changed, one method at a time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ablation.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", metavar="FRAMES.csv", type=Path)
    parser.add_argument("--every", type=int, default=6, metavar="N", help="only each N-th frame (default: 6)")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps a network, first table")
    parser.add_argument("--background", default="42x5", help="size of BE, DE, RE, QRE (default: 42x5)")
    parser.add_argument("--baseline", default="58x5", help="size of BS (default: 58x5, 45/24 of 42x5)")
    parser.add_argument("--target", default="28,33", metavar="DB,DB", help="of the second table")
    parser.add_argument("--time-budget", type=float, default=120, metavar="S", help="seconds a frame at most")
    parser.add_argument("--methods", choices=("both", "papers", "encoder"), default="both")
    parser.add_argument("--cache", type=Path, default=Path("out/benchmarks/cache"), metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of ablation.json and .png")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="frames at the same time")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of each process")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    for option in ("every", "steps", "processes", "threads"):
        if getattr(arguments, option) < 1:
            raise UsageError(f"--{option} is {getattr(arguments, option)}; it must be at least 1")
    (target,) = parse_targets([arguments.target])
    frames = read_frames(arguments.frames, arguments.every)
    settings = EncoderSettings(profile="siren", time_budget_s=arguments.time_budget)
    plan = Plan(Cache(arguments.cache), settings, {}, arguments.device, arguments.threads)
    groups: dict[str, Callable[[ListedFrame], dict[str, Any]]] = {}
    if arguments.methods != "encoder":
        for pruning in PRUNINGS:
            sizes = PaperSizes(
                architecture(arguments.baseline), architecture(arguments.background), arguments.steps, pruning
            )
            groups[f"papers, pruning {pruning}"] = partial(measure_papers, plan, sizes)
    if arguments.methods != "papers":
        for name, changes in METHODS.items():
            groups[name] = partial(measure_method, with_changes(plan, changes), target)
    found = run_groups(groups, frames, arguments)
    report = {
        "frames": [item.path for item in frames],
        "target": [target.background, target.object],
        "steps": arguments.steps,
        "papers": _papers_rows(found),
        "encoder": _encoder_rows(found),
    }
    if arguments.out is not None:
        folder = make_folder(arguments.out)
        write_json(folder / "ablation.json", report | {"per_frame": found})
        plot(report, folder / "ablation.png")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(table(report) + "\n")
    return 0


def architecture(text: str) -> Architecture:
    """A network size written as WIDTHxDEPTH.

    Raises:
        UsageError: It is none.
    """
    try:
        width, depth = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise UsageError(f"{text!r} is no network size; write width and depth as 42x5") from error
    return Architecture(width, depth)


def with_changes(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """``plan`` with settings of both ladders changed."""
    ladders = {name: getattr(plan.settings, name).model_dump() | changes for name in ("background", "object")}
    settings = EncoderSettings.model_validate(plan.settings.model_dump() | ladders)
    return Plan(plan.cache, settings, plan.models, plan.device, plan.threads)


def measure_papers(plan: Plan, sizes: PaperSizes, item: ListedFrame) -> dict[str, Any]:
    """The papers' ways on one frame, from the cache when it holds them."""
    from fog_node.encoders.encoder import coded_labels

    what = {
        "papers": sizes.to_json(),
        "ladders": [plan.settings.background.model_dump(mode="json"), plan.settings.object.model_dump()],
        "sources": source_digest((*CODEC_MODULES, "fog_node.encoders.ladder"), FAMILIES["siren"]),
        "device": plan.device,
    }
    key = key_of(item.frame, what)
    value = plan.cache.get(key)
    if value is None:
        image, _ = pixels(item.frame)
        boxes = coded_labels(item.frame, WIDTH / item.frame.width, WIDTH, image.shape[0])
        value = measure_frame(image, boxes, sizes, plan.settings, resolve_device(plan.device))
        plan.cache.put(key, value)
    return value


def measure_method(plan: Plan, target: Target, item: ListedFrame) -> dict[str, Any]:
    """Profile siren on one frame, and what its integers would take as they are."""
    job = Job(item, "siren", target)
    value = dict(measure(plan, job))
    if "failure" not in value:
        path = plan.cache.path(plan_key(plan, job), ".rinr")
        value["raw_bytes"] = raw_bytes(decode_packet(path.read_bytes()))
    return value


def run_groups(
    groups: Mapping[str, Callable[[ListedFrame], dict[str, Any]]],
    frames: Sequence[ListedFrame],
    arguments: argparse.Namespace,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Each group on each frame: group -> frame -> measurement, in order."""
    calls = {(name, frame): partial(group, frame) for name, group in groups.items() for frame in frames}
    found = as_done(calls, arguments.processes, arguments.threads)
    done = dict(progress(found, total=len(calls), title="measuring", quiet=arguments.json))
    return {name: {f.path: done[name, f] for f in frames} for name in groups}


def _papers_rows(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for pruning in PRUNINGS:
        frames = found.get(f"papers, pruning {pruning}")
        for way in WAYS if frames else ():
            values = [value[way] for value in (frames or {}).values()]
            rows.append({"way": way, "pruning": pruning, **mean_quality(values)})
    return rows


def _encoder_rows(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for name in METHODS:
        values = list(found.get(name, {}).values())
        good = [value for value in values if "failure" not in value]
        if good:
            rows.append(
                {
                    "method": name,
                    "frames": len(values),
                    "on_target": sum(value["on_target"] for value in good),
                    "seconds": sum(value["seconds"] for value in good) / len(good),
                    **mean_quality(good),
                }
            )
    return rows


def table(report: Mapping[str, Any]) -> str:
    """Both tables for a person."""
    lines = [f"{len(report['frames'])} frames; mean bytes as written and as raw integers, mean PSNR in dB"]
    if report["papers"]:
        lines.append(f"\n{report['steps']} steps a network")
        lines.append(f"{'way':5s}{'pruning':>9s}{'bytes':>10s}{'raw':>10s}{'background':>12s}{'objects':>9s}")
    for row in report["papers"]:
        lines.append(
            f"{row['way']:5s}{row['pruning']:>9s}{row['bytes']:10,.0f}{row['raw_bytes']:10,.0f}"
            f"{_db(row['background_psnr_db']):>12s}{_db(row['object_psnr_db']):>9s}"
        )
    if report["encoder"]:
        background, inside = report["target"]
        lines.append(f"\nprofile siren to ({background:g}, {inside:g}) dB")
        lines.append(
            f"{'method':32s}{'bytes':>10s}{'raw':>10s}{'background':>12s}{'objects':>9s}"
            f"{'on target':>11s}{'s a frame':>11s}"
        )
    for row in report["encoder"]:
        reached = f"{row['on_target']}/{row['frames']}"
        lines.append(
            f"{row['method']:32s}{row['bytes']:10,.0f}{row['raw_bytes']:10,.0f}"
            f"{_db(row['background_psnr_db']):>12s}{_db(row['object_psnr_db']):>9s}"
            f"{reached:>11s}{row['seconds']:11.1f}"
        )
    return "\n".join(lines)


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
