"""What training costs the uploads of the same device: seconds until the fog acknowledges a frame.

    python benchmarks/training_yields.py [--rounds 3] [--rate 10] [--seconds 20] [--out DIR] [--json]

A fog daemon and an edge daemon run as processes on this machine, with CURVE and every frame on disk before it
is acknowledged. The edge trains a YOLOv8n on packets of another device, which it got through the log, and
from its third step on records and uploads `--rate` frames a second. The ways take turns, each round with new
processes: `none` does not train, `default` trains with the default niceness and pauses (`nice`, `yield_s`),
`off` with neither, `nice` and `pauses` with only one of them. Latency runs from a frame being sent to the
fog's word that it is on disk, in the edge's process. Figures are medians over rounds of each round's median
and 95th percentile; a ratio is to `none` of the same round. The fog's encoders are idle.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import make_folder, print_json, progress, run_command
from common.errors import UsageError
from common.learning.settings import TrainingSettings
from delivery.trained_edge import Measured, measure_uploads_beside
from judge.report import write_json

DEFAULTS = TrainingSettings()
WAYS: Mapping[str, Mapping[str, float] | None] = {
    "none": None,
    "default": {"nice": DEFAULTS.nice, "yield_s": DEFAULTS.yield_s},
    "off": {"nice": 0, "yield_s": 0.0},
    "nice": {"nice": DEFAULTS.nice, "yield_s": 0.0},
    "pauses": {"nice": 0, "yield_s": DEFAULTS.yield_s},
}
"""Settings of the training by the name of a way; None: there is no training."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="training_yields.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", default="none,default,off", help=f"comma-separated, of {', '.join(WAYS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10.0, help="frames recorded and uploaded a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of uploads in each way and round")
    parser.add_argument("--size", type=int, default=60_000, help="bytes of an image")
    parser.add_argument("--profile", default="siren", help="of the packets trained on; siren: random weights")
    parser.add_argument("--packets", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=96, help="side of the training images, pixels")
    parser.add_argument("--out", type=Path, help="folder for training_yields.json")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return run_command(parser, argv)


def _run(arguments: argparse.Namespace) -> int:
    ways = arguments.ways.split(",")
    for way in ways:
        if way not in WAYS:
            raise UsageError(f"--ways names {way!r}; known: {', '.join(WAYS)}")
    if len(set(ways)) < len(ways) or "none" not in ways:
        raise UsageError("--ways names a way twice or leaves out 'none', which the others are compared with")
    if arguments.rounds < 1 or arguments.packets < 1 or arguments.rate <= 0:
        raise UsageError("--rounds and --packets must be at least 1, and --rate above 0")
    frames = round(arguments.rate * arguments.seconds)
    if frames < 2:
        raise UsageError("--rate and --seconds make less than two frames; give more seconds")
    # Imports torch, which the other stages do not need.
    from decoding.packets import encoded_packets, made_packets

    count = arguments.packets
    packets = (
        made_packets(count) if arguments.profile == "siren" else encoded_packets(arguments.profile, count)
    )
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    turns = [(number, way) for number in range(arguments.rounds) for way in _order(ways, number)]
    with tempfile.TemporaryDirectory(prefix="training-yields-") as folder:
        for number, way in progress(turns, total=len(turns), title="ways", quiet=arguments.json):
            chosen = WAYS[way]
            training = None if chosen is None else {"imgsz": arguments.imgsz, **chosen}
            place = Path(folder) / f"{number}-{way}"
            found[way].append(
                measure_uploads_beside(
                    place, packets, training, frames=frames, rate=arguments.rate, size=arguments.size
                )
            )
    report = {
        "rows": [_row(way, found[way], found["none"]) for way in ways],
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "frames": frames,
        **{k: getattr(arguments, k) for k in ("rounds", "rate", "size", "profile", "packets", "imgsz")},
    }
    if arguments.out is not None:
        write_json(make_folder(arguments.out) / "training_yields.json", report)
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(_text(report))
    return 0


def _order(ways: Sequence[str], number: int) -> Sequence[str]:
    """Every other round the other way round, lest one way has the machine while it is quieter."""
    return ways if number % 2 == 0 else ways[::-1]


def _row(way: str, measured: Sequence[Measured], without: Sequence[Measured]) -> dict[str, Any]:
    pairs = list(zip(measured, without, strict=True))
    return {
        "way": way,
        "median_s": statistics.median(one.median_s for one in measured),
        "p95_s": statistics.median(one.p95_s for one in measured),
        "median_ratio": statistics.median(one.median_s / none.median_s for one, none in pairs),
        "p95_ratio": statistics.median(one.p95_s / none.p95_s for one, none in pairs),
        "uploads_per_s": statistics.median(one.uploads_per_s for one in measured),
        "steps_per_s": statistics.median(one.steps_per_s for one in measured),
        "rounds": [{"median_s": one.median_s, "p95_s": one.p95_s} for one in measured],
    }


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['frames']} frames of {report['size']} bytes at {report['rate']:g}/s a round, "
        f"{report['rounds']} rounds; YOLOv8n at {report['imgsz']} px on {report['packets']} packets "
        f"({report['profile']}); {report['machine']}",
        f"{'training':10s}{'median ms':>10s}{'95 % ms':>9s}{'ratios':>14s}{'uploads/s':>11s}{'steps/s':>9s}",
    ]
    for row in report["rows"]:
        ratios = f"{row['median_ratio']:.2f}, {row['p95_ratio']:.2f}"
        lines.append(
            f"{row['way']:10s}{1000 * row['median_s']:10.1f}{1000 * row['p95_s']:9.1f}{ratios:>14s}"
            f"{row['uploads_per_s']:11.1f}{row['steps_per_s']:9.2f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
