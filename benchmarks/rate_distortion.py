"""Bytes a frame that a quality costs: every profile of the encoder against JPEG, WebP and AVIF.

    python benchmarks/rate_distortion.py FRAMES.csv [--profiles siren,avif] [--every 6] [--processes 2]

FRAMES.csv has the columns frame,x0,y0,w,h; the rows of one frame are its boxes. Each frame is brought to each
target (background PSNR, object PSNR) by each profile, written to a packet file, read back and measured; each
peer is the cheapest of a sweep of qualities, as one file of the whole frame (full) and as regions (roi). The
protocol is in judge/protocol.py and docs/benchmarks.md. Everything measured is kept in --cache, so a stopped
run goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cli import make_folder, print_json, progress, run_command
from common.config import load_settings
from common.errors import UsageError
from fog_node.encoders.encoder_settings import PROFILES, EncoderSettings
from judge.cache import Cache
from judge.measure import Job, Plan, measure_all
from judge.peers import PEERS
from judge.protocol import TARGETS, ListedFrame, Target, parse_targets, read_frames
from judge.rd_plot import plot
from judge.report import Outcome, outcomes_of_peer, outcomes_of_profile, summarise, table, write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rate_distortion.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("frames", metavar="FRAMES.csv", type=Path)
    parser.add_argument(
        "--profiles", default=",".join(PROFILES), help="comma-separated; '' measures peers only"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; '' measures profiles only")
    parser.add_argument(
        "--targets",
        nargs="+",
        metavar="DB,DB",
        default=[str(target) for target in TARGETS],
        help="background and object PSNR (default: 28,33 30,35 32,37)",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="only each N-th frame: a quick look"
    )
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="encoder settings, as configs/encoder.yaml"
    )
    parser.add_argument("--time-budget", type=float, metavar="S", help="seconds a frame at most")
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="models that leave one source out: for a frame whose path begins with NAME, the file DIR/NAME.*",
    )
    parser.add_argument("--cache", type=Path, default=Path("out/benchmarks/cache"), metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of rate_distortion.json and .png")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="frames at the same time")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of each process")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    for option in ("every", "processes", "threads"):
        if getattr(arguments, option) < 1:
            raise UsageError(f"--{option} is {getattr(arguments, option)}; it must be at least 1")
    profiles = _names(arguments.profiles, PROFILES, "--profiles")
    peers = _names(arguments.peers, PEERS, "--peers")
    targets = parse_targets(arguments.targets)
    frames = read_frames(arguments.frames, arguments.every)
    plan = Plan(
        Cache(arguments.cache),
        _settings(arguments),
        {} if arguments.models is None else models_in(arguments.models),
        arguments.device,
        arguments.threads,
    )
    outcomes = measure_outcomes(
        plan, frames, profiles, peers, targets, processes=arguments.processes, quiet=arguments.json
    )
    report = summarise(outcomes, targets) | {
        "frames": [item.path for item in frames],
        "targets": [[target.background, target.object] for target in targets],
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "settings": plan.settings.model_dump(mode="json"),
    }
    if arguments.out is not None:
        folder = make_folder(arguments.out)
        write_json(folder / "rate_distortion.json", report | {"per_frame": [o.to_json() for o in outcomes]})
        plot(report, folder / "rate_distortion.png")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(table(report) + "\n")
    return 0


def measure_outcomes(
    plan: Plan,
    frames: Sequence[ListedFrame],
    profiles: Sequence[str],
    peers: Sequence[str],
    targets: Sequence[Target],
    *,
    processes: int = 1,
    quiet: bool = True,
) -> list[Outcome]:
    """Every frame by every profile and peer at every target, in a stable order."""
    jobs = [Job(frame, peer) for frame in frames for peer in peers]
    jobs += [Job(f, profile, target) for profile in profiles for target in targets for f in frames]
    done = dict[Job, dict[str, Any]]()
    shown = progress(measure_all(plan, jobs, processes), total=len(jobs), title="measuring", quiet=quiet)
    for job, value in shown:
        done[job] = value
    outcomes: list[Outcome] = []
    for job in jobs:
        if job.target is None:
            outcomes += outcomes_of_peer(job.frame.path, job.profile, done[job], targets)
        else:
            outcomes.append(outcomes_of_profile(job.frame.path, job.profile, done[job], job.target))
    return outcomes


def models_in(folder: Path) -> dict[str, Path]:
    """The model files of a folder by their stems; the stem of the source ``.`` is ``root``.

    Raises:
        UsageError: There is none, or two have one stem.
    """
    files = sorted(path for path in folder.glob("*.*") if path.is_file())
    models = {"." if path.stem == "root" else path.stem: path for path in files}
    if not models or len(models) != len(files):
        raise UsageError(f"{folder} must hold one model file a source, named after it, such as uav123.npz")
    return models


def _names(text: str, known: Sequence[str], option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"{option} names {name!r}; known: {', '.join(known)}")
    return names


def _settings(arguments: argparse.Namespace) -> EncoderSettings:
    settings = load_settings(arguments.config, EncoderSettings) if arguments.config else EncoderSettings()
    if arguments.time_budget is None:
        return settings
    if arguments.time_budget <= 0:
        raise UsageError(f"--time-budget is {arguments.time_budget}; it must be above 0")
    return settings.model_copy(update={"time_budget_s": arguments.time_budget})


if __name__ == "__main__":
    sys.exit(main())
