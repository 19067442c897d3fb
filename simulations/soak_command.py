"""``simulate soak``: a calm deployment under steady load; do memory, descriptors and threads stay?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, make_folder, print_json
from common.errors import DeploymentError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["add_parser"]

UNITS = {"rss_bytes": 1e6, "own_bytes": 1e6, "descriptors": 1.0, "threads": 1.0}


def add_parser(subparsers: Any) -> None:
    """Add ``soak``."""
    parser = subparsers.add_parser(
        "soak",
        help="real daemons under steady load for long: do memory, descriptors and threads stay?",
        description="Run a fog and edges as real processes under steady load, sample what each holds, and "
        "lay a line through it. Nothing may surely grow, and every frame must have arrived. Writes soak.json "
        "and soak.png into DIR.",
    )
    parser.add_argument("--hours", metavar="H", type=float, default=1.0, help="of load (default: 1)")
    parser.add_argument("--edges", metavar="N", type=int, default=8, help="edge nodes (default: 8)")
    parser.add_argument(
        "--rate",
        metavar="PER_S",
        type=float,
        default=1.0,
        help="frames an edge records a second (default: 1)",
    )
    parser.add_argument(
        "--every", metavar="S", type=float, default=10.0, help="seconds between two samples (default: 10)"
    )
    parser.add_argument(
        "--encode",
        metavar="PROFILE",
        nargs="?",
        const="pyramid",
        help="really encode, by this profile (default: pyramid), in place of storing frames as they are",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="new or empty folder")
    add_json(parser)
    parser.set_defaults(command=_command)


def _command(arguments: argparse.Namespace) -> int:
    from simulations.processes import termination_as_interrupt
    from simulations.soak.plot import plot_soak
    from simulations.soak.run import Request, run_soak

    for name, least in (("hours", 0.0), ("rate", 0.0), ("every", 0.0), ("edges", 1)):
        value = getattr(arguments, name)
        if value < least or value == 0:
            raise UsageError(f"--{name} must be greater than {max(0, least - 1)}, not {value}")
    out = make_folder(arguments.out).absolute()
    if any(out.iterdir()):
        raise UsageError(f"the folder {out} is not empty; name a new one by --out")
    request = Request(
        seconds=arguments.hours * 3600,
        edges=arguments.edges,
        per_s=arguments.rate,
        sample_s=arguments.every,
        profile=arguments.encode,
    )
    with termination_as_interrupt(), _bar(request.seconds, quiet=arguments.json) as shown:
        soak = run_soak(request, out / "nodes", shown)
    result = soak.to_json()
    (out / "soak.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    plot_soak(soak, out / "soak.png")
    if arguments.json:
        print_json(result)
    else:
        sys.stdout.write(_table(result))
    problems = [*soak.problems, *(f"{name} grows" for name in result["growing"])]
    if soak.verdict is not None and not soak.verdict.good:
        problems += soak.verdict.sentences
    if problems:
        raise DeploymentError(f"the soak found: {'; '.join(problems[:5])}; see {out}")
    return 0


@contextmanager
def _bar(seconds: float, *, quiet: bool) -> Iterator[Callable[[float, int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda now, position: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("under load", total=seconds)
        yield lambda now, position: progress.update(
            task, completed=now, description=f"under load, {position} records"
        )


def _table(result: Mapping[str, Any]) -> str:
    rows = [f"{'process':18}{'figure':13}{'mean':>10}{'first':>10}{'last':>10}{'an hour':>12}{'95 %':>12}"]
    for name, process in result["processes"].items():
        for figure, unit in UNITS.items():
            slope = process[figure]
            if slope is None:
                continue
            values = [slope[key] / unit for key in ("mean", "first", "last", "per_hour", "bound_per_hour")]
            title = f"{figure.removesuffix('_bytes')} MB" if unit > 1 else figure
            rows.append(
                f"{name:18}{title:13}{values[0]:>10.2f}{values[1]:>10.2f}{values[2]:>10.2f}"
                f"{values[3]:>+12.3f}{'± ' + format(values[4], '.3f'):>12}"
            )
    verdict = result["verdict"]
    if verdict is not None:
        rows.append(
            f"\n{result['seconds']:.0f} s, {verdict['acknowledged']} of {verdict['frames']} frames "
            f"acknowledged, lost {verdict['lost']}, twice {verdict['twice']}, invented {verdict['invented']}"
        )
    rows.append(f"growing: {', '.join(result['growing']) or 'nothing'}")
    return "\n".join(rows) + "\n"
