"""``simulate chaos``: real daemons under faults drawn by seed, and whether the promise was kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.cli import add_json, make_folder, print_json, progress
from common.errors import DeploymentError, UsageError

__all__ = ["add_parser"]

CABLES_BYTES_PER_S = 2e6
"""The links that this system is made for."""


DRAIN_S, ENCODING_DRAIN_S = 90.0, 400.0
"""Seconds in which all must have been delivered after the faults."""


def add_parser(subparsers: Any) -> None:
    """Add ``chaos``."""
    parser = subparsers.add_parser(
        "chaos",
        help="real daemons under faults drawn by seed: is an acknowledged frame lost, doubled or invented?",
        description="Run a fog and edges as real processes, kill, pause, cut, fill and damage them as the "
        "seed says, let them drain, and compare every store with what was acknowledged. Results stand in "
        "DIR/results.jsonl; runs that are there are not run again. Stores and logs of failed runs are kept.",
    )
    parser.add_argument("--runs", metavar="N", type=int, default=20, help="runs (default: 20)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the first (default: 0)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for results")
    parser.add_argument(
        "--encode",
        metavar="PROFILE",
        nargs="?",
        const="pyramid",
        help="really encode, by this profile (default: pyramid), in place of storing frames as they are",
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="really train, a few steps at 64 pixels from random weights; only with --encode",
    )
    parser.add_argument(
        "--namespaces",
        metavar="BYTES_PER_S",
        nargs="?",
        type=float,
        const=CABLES_BYTES_PER_S,
        help="each node in a network namespace of its own, on a link of this rate (default: 2e6); needs root",
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--timeline", action="store_true", help="keep a picture of every run, not of failed ones"
    )
    add_json(parser)
    parser.set_defaults(command=_command)


def _command(arguments: argparse.Namespace) -> int:
    from simulations.chaos.campaign import Request, ability, done_before, run_all, tally
    from simulations.processes import termination_as_interrupt

    for name in ("runs", "jobs"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(arguments, name)}")
    if arguments.seed < 0:
        raise UsageError(f"--seed must be at least 0, not {arguments.seed}")
    _check_profile(arguments.encode)
    if arguments.train and arguments.encode is None:
        raise UsageError("--train needs --encode: trainers decode packets, and the plain runs have none")
    request = Request(
        seeds=range(arguments.seed, arguments.seed + arguments.runs),
        out=make_folder(arguments.out).absolute(),
        profile=arguments.encode,
        cables_bytes_per_s=arguments.namespaces,
        jobs=arguments.jobs,
        timeline=arguments.timeline,
        train=arguments.train,
        drain_s=DRAIN_S if arguments.encode is None else ENCODING_DRAIN_S,
    )
    able = ability(request)
    for reason in able.reasons:
        sys.stderr.write(f"{reason}\n")
    known = done_before(request)
    lines = list(known.values())
    left = len(request.seeds) - len(lines)
    with termination_as_interrupt():
        results = run_all(request, known, able)
        for line in progress(results, total=left, title="runs", quiet=arguments.json):
            lines.append(line)
            if not line["good"]:
                sys.stderr.write(f"seed {line['seed']} failed: {_why(line)}\n")
    result = {"run": request.kind, "without": list(able.reasons), **tally(lines)}
    if arguments.json:
        print_json(result)
    else:
        sys.stdout.write(_table(result))
    if result["failed"]:
        seeds = ", ".join(map(str, result["failed_seeds"][:10]))
        raise DeploymentError(
            f"{result['failed']} of {result['runs']} runs failed (seeds {seeds}); see {request.out}"
        )
    return 0


def _check_profile(profile: str | None) -> None:
    from fog_node.encoders.encoder_settings import PROFILES

    if profile is not None and profile not in PROFILES:
        raise UsageError(f"--encode must be one of {', '.join(PROFILES)}, not {profile!r}")


def _why(line: Mapping[str, Any]) -> str:
    verdict = line["verdict"]
    sentences = [*line["problems"], *([] if verdict is None else verdict["sentences"])]
    return "; ".join(sentences[:3]) or "no reason was given"


def _table(result: Mapping[str, Any]) -> str:
    variants = ", ".join(f"{name} {count}" for name, count in result["variants"].items())
    rows = [
        f"{'fault':24}{'struck':>8}{'runs':>8}{'failed runs':>13}",
        *(
            f"{kind:24}{counts['struck']:>8}{counts['runs']:>8}{counts['failed_runs']:>13}"
            for kind, counts in result["faults"].items()
        ),
        "",
        f"runs {result['runs']} ({result['run']}), failed {result['failed']}, "
        f"{result['seconds_per_run']} s a run",
        f"frames recorded {result['frames']}, acknowledged {result['acknowledged']}",
        f"lost {result['lost']}, stored twice {result['twice']}, invented {result['invented']}, "
        f"wrong {result['wrong']}, with old labels {result['stale']}",
        f"missing somewhere and told of, after damage {result['told']}; beyond the promise, after a "
        f"backup was restored {result['excused']}; dropped by retention and told of {result['dropped']}",
        f"runs with {variants or 'no variants'}; "
        f"a log refused frames in {result['refused']}; labels corrected {result['relabelled']}; "
        f"rounds of training {result['rounds']}",
    ]
    return "\n".join(rows) + "\n"
