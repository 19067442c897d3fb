"""Size tables for the simulator, from packets that were really made.

    python benchmarks/codec_tables.py distortion rate_distortion.json FRAMES.csv [--out simulations/tables]
    python benchmarks/codec_tables.py run STORE --profile NAME --target 28,33 [--out simulations/tables]

``distortion`` takes what benchmarks/rate_distortion.py wrote and the list that it was given, and writes one
table a profile with one row a target. ``run`` takes a fog's store (or the --out folder of simulate loopback)
whose fog had one profile and one target. A table keeps each frame's bytes as recorded, bytes as a packet and
seconds of encoding, so that the simulator draws from the measured distribution.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.cli import make_folder, run_command
from common.errors import UsageError
from judge.protocol import read_frames
from simulations.events.replay import read_replay
from simulations.events.sizes import SHIPPED_TABLES, SizeRow, SizeTable

MIN_SHARE = 0.9
"""Share of a profile's frames that must be on target: without its hard frames a profile looks cheap."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="codec_tables.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    distortion = commands.add_parser("distortion", help="from rate_distortion.json")
    distortion.add_argument("report", type=Path, metavar="rate_distortion.json")
    distortion.add_argument("frames", type=Path, metavar="FRAMES.csv")
    distortion.set_defaults(command=_distortion)
    run = commands.add_parser("run", help="from a fog's store")
    run.add_argument("store", type=Path, metavar="STORE")
    run.add_argument("--profile", required=True, metavar="NAME")
    run.add_argument("--target", required=True, metavar="DB,DB", help="background and object PSNR")
    run.add_argument("--machine", help="where it was encoded (default: this machine)")
    run.set_defaults(command=_run)
    for command in (distortion, run):
        command.add_argument("--out", type=Path, default=SHIPPED_TABLES, metavar="DIR")
        command.add_argument("--source", help="words on the frames, for the table")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return run_command(parser, argv)


def tables_of(report: Mapping[str, Any], jpeg_bytes: Mapping[str, int], source: str) -> list[SizeTable]:
    """One table a profile that has at least one target which nine tenths of its frames reach.

    Args:
        report: What rate_distortion.py wrote.
        jpeg_bytes: Bytes of each frame as recorded, by its path in the list.
        source: Words on the frames.
    """
    found: dict[str, dict[tuple[float, float], list[Mapping[str, Any]]]] = {}
    for outcome in report["per_frame"]:
        if not outcome["way"].startswith("peer-"):
            target = (float(outcome["target"][0]), float(outcome["target"][1]))
            found.setdefault(outcome["way"], {}).setdefault(target, []).append(outcome)
    tables = []
    for profile, targets in found.items():
        rows, reached = [], []
        for target, outcomes in sorted(targets.items()):
            good = [o for o in outcomes if o["on_target"] and o["bytes"] is not None]
            if len(good) < MIN_SHARE * len(outcomes):
                continue
            reached.append(f"{len(good)} of {len(outcomes)}")
            rows.append(
                SizeRow(
                    target=target,
                    jpeg_bytes=tuple(jpeg_bytes[o["frame"]] for o in good),
                    packet_bytes=tuple(o["bytes"] for o in good),
                    encode_s=tuple(round(o["seconds"], 3) for o in good),
                )
            )
        if rows:
            words = f"{source}; frames on target: {', '.join(reached)}; benchmarks/rate_distortion.py"
            tables.append(
                SizeTable(profile=profile, source=words, machine=report["machine"], rows=tuple(rows))
            )
    return tables


def _distortion(arguments: argparse.Namespace) -> int:
    try:
        report = json.loads(arguments.report.read_text(encoding="utf-8"))
        wanted = set(report["frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"cannot read {arguments.report} as a report of rate_distortion.py: {error}"
        ) from error
    sizes = {
        item.path: len(item.frame.image) for item in read_frames(arguments.frames, 1) if item.path in wanted
    }
    if missing := wanted - sizes.keys():
        raise UsageError(
            f"the list {arguments.frames} lacks the frame {min(missing)} of the report; give the same list"
        )
    source = arguments.source or f"{len(sizes)} frames of {arguments.frames.name}, coded 640 pixels wide"
    tables = tables_of(report, sizes, source)
    if not tables:
        raise UsageError(f"no profile in {arguments.report} brings nine tenths of its frames on target")
    return _write(tables, arguments.out)


def _run(arguments: argparse.Namespace) -> int:
    background, sign, objects = arguments.target.partition(",")
    try:
        target = (float(background), float(objects))
    except ValueError:
        sign = ""
        target = (0.0, 0.0)
    if not sign:
        raise UsageError(f"--target takes two PSNR such as 28,33, not {arguments.target!r}")
    replay = read_replay(arguments.store)
    frames = [frame for device in replay.devices for frame in device]
    row = SizeRow(
        target=target,
        jpeg_bytes=tuple(frame.jpeg_bytes for frame in frames),
        packet_bytes=tuple(frame.packet_bytes for frame in frames),
        encode_s=tuple(round(frame.encode_s, 3) for frame in frames),
    )
    source = arguments.source or f"{len(frames)} frames of {len(replay.devices)} devices, from a fog's log"
    machine = arguments.machine or f"{platform.processor() or platform.machine()}"
    return _write(
        [SizeTable(profile=arguments.profile, source=source, machine=machine, rows=(row,))], arguments.out
    )


def _write(tables: Sequence[SizeTable], out: Path) -> int:
    make_folder(out)
    for table in tables:
        path = out / f"{table.profile}.json"
        path.write_text(json.dumps(table.model_dump(mode="json")).replace('"rows"', '\n"rows"') + "\n")
        alphas = ", ".join(f"{row.target[0]:g},{row.target[1]:g}: {row.alpha:.4f}" for row in table.rows)
        sys.stdout.write(f"{path}: alpha at {alphas}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
