"""Do planner and simulator tell the truth? Real daemons over limited links, beside what both foretold.

    python benchmarks/planner_validation.py [SRC] [--links auto|namespaces|proxy] [--rates B/S ...]

A fog and its edges run as processes with their keys, once for each rate; every edge uploads its frames and
gets the packets of all others. Beforehand the frames are encoded offline and a short calibration on links
without a limit measures what messages add and how quickly the fog encodes; from that alone the communication
model and the event simulation foretell bytes and seconds. Nothing is fitted afterwards. Exit code 1 when a
prediction is off by more than 2 % of bytes or 15 % of the time.

Links are cables between network namespaces (root, Linux) or, elsewhere, the impairment proxy. With strategy
`edge` packets are shared and training is left out; with `fog` a stand-in for the fog's trainer takes a fixed
time and every edge gets a detector. Serverless JPEG has no daemon to compare with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.cli import add_json, make_folder, print_json, progress, run_command, yield_while_waiting
from common.errors import UsageError
from common.frame import Frame
from planner_proof.calibrate import Calibration, calibrate, packet_sizes
from planner_proof.case import Case, frames_of, names_of
from planner_proof.daemons import Edge, deploy
from planner_proof.links import CableLinks, Links, ProxyLinks
from planner_proof.predict import Prediction, planned, simulated
from planner_proof.report import Row, plot, print_table
from simulations.chaos.stand_in_trainer import WEIGHTS_VARIABLE
from simulations.namespaces import why_not
from simulations.processes import Nodes, termination_as_interrupt

RATES = (250e3, 500e3, 2e6)
QUICK = Case(edges=2, frames=12, width=640, quality=85)
QUICK_RATE = 200e3


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write; returns the exit code."""
    default = Case()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", type=Path, nargs="?", help="frames (default: moving crops)")
    parser.add_argument("--links", choices=("auto", "namespaces", "proxy"), default="auto")
    parser.add_argument("--rates", metavar="B/S", type=float, nargs="+", help="(250e3 500e3 2e6)")
    parser.add_argument("--edges", type=int, default=default.edges, help=f"({default.edges})")
    parser.add_argument("--frames", type=int, default=default.frames, help=f"an edge ({default.frames})")
    parser.add_argument("--profile", choices=("jpeg", "webp", "avif", "pyramid"), default=default.profile)
    parser.add_argument("--strategy", choices=("edge", "fog"), default=default.strategy, help="(edge)")
    parser.add_argument("--quick", action="store_true", help="2 edges, 12 small frames, one rate: seconds")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out/planner_validation"))
    add_json(parser)
    parser.set_defaults(command=_command)
    return run_command(parser, argv)


def _command(arguments: argparse.Namespace) -> int:
    if arguments.quick:
        case, rates = replace(QUICK, strategy=arguments.strategy), arguments.rates or (QUICK_RATE,)
    else:
        case = Case(
            edges=arguments.edges,
            frames=arguments.frames,
            profile=arguments.profile,
            source=arguments.source,
            strategy=arguments.strategy,
        )
        rates = arguments.rates or RATES
    if case.edges < 2 or case.frames <= case.batch_frames or min(rates) < 10e3:
        raise UsageError(f"at least 2 edges, {case.batch_frames + 1} frames and 10e3 B/s are needed")
    out = make_folder(arguments.out)
    kind = _kind(arguments.links)
    with termination_as_interrupt():
        known, rows = validate(case, rates, kind, out, quiet=arguments.json, quick=arguments.quick)
    heading = (
        f"{case.edges} edges x {case.frames} frames, profile {case.profile}, "
        f"training at the {case.strategy}, links: {kind}"
    )
    plot(rows, out / "planner_validation.png", heading)
    result = {
        "case": {
            "edges": case.edges,
            "frames": case.frames,
            "profile": case.profile,
            "strategy": case.strategy,
            "links": kind,
        },
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "calibration": known.to_json(),
        "rates": [row.to_json() for row in rows],
        "holds": all(row.holds() for row in rows),
    }
    (out / "planner_validation.json").write_text(_json(result), encoding="utf-8")
    if arguments.json:
        print_json(result)
    else:
        print_table(rows, heading)
    return 0 if result["holds"] else 1


def validate(
    case: Case, rates: Sequence[float], kind: str, out: Path, *, quiet: bool = False, quick: bool = False
) -> tuple[Calibration, list[Row]]:
    """Calibrate, foretell and measure; scenarios are written to ``out``."""
    frames = frames_of(case)
    first = names_of(case)[0]
    with tempfile.TemporaryDirectory() as folder:
        sizes = packet_sizes(case, frames)
        idle = {"idle_s": 5.0} if quick else {}
        shared = replace(case, strategy="edge")  # Packets that arrive tell more of messages than detectors.
        known = calibrate(Path(folder, "calibration"), shared, frames[first], sizes[first], **idle)
        rows = []
        for rate in progress(rates, total=len(rates), title="deploying", quiet=quiet):
            links: Links = (CableLinks if kind == "namespaces" else ProxyLinks)(names_of(case), rate)
            try:
                said = (case, frames, sizes, known, rate, links.goodput)
                scenario = out / f"scenario_{rate:.0f}.yaml"
                planner, simulator = planned(*said), simulated(scenario, *said)
                rows.append(
                    _measure(Path(folder, f"{rate:.0f}"), case, frames, links, planner, simulator, rate)
                )
            finally:
                links.close()
    return known, rows


def _measure(
    folder: Path,
    case: Case,
    frames: Mapping[str, Sequence[Frame]],
    links: Links,
    planner: Prediction,
    simulator: Prediction,
    rate: float,
) -> Row:
    """Run the daemons over these links."""
    edges = [Edge(name, own, [other for other in frames if other != name]) for name, own in frames.items()]
    timeout = 60 + 5 * max(planner.seconds, simulator.seconds)
    with Nodes({WEIGHTS_VARIABLE: str(case.detector_bytes)}) as nodes:
        seen = deploy(folder, case, links, edges, nodes, timeout_s=timeout).delivered()
    carried = list(seen.carried.values())
    raw = [c.raw_up + c.raw_down for c in carried if c.raw_up is not None and c.raw_down is not None]
    peers = seen.fog["peers"].values()
    return Row(
        rate,
        planner,
        simulator,
        Prediction(sum(c.up for c in carried), sum(c.down for c in carried), seen.seconds),
        sum(raw) if raw else None,
        sum(peer["bytes_up"] + peer["bytes_down"] for peer in peers),
        float(seen.fog["encoded"]["encode_seconds_per_frame"]),
    )


def _kind(wish: str) -> str:
    if wish == "proxy":
        return wish
    reason = why_not()
    if reason is None:
        return "namespaces"
    if wish == "namespaces":
        raise UsageError(f"{reason}; use --links proxy")
    sys.stderr.write(f"links go through the impairment proxy, because {reason}\n")
    return "proxy"


def _json(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


if __name__ == "__main__":
    yield_while_waiting()
    raise SystemExit(main())
