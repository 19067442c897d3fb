"""How many fog nodes for 10, 1,000 and 100,000 cameras, from measured figures (docs/scaling.md).

    python benchmarks/scaling.py [benchmarks/scaling.yaml] [--cameras 10,1000,100000] [--out DIR] [--json]
    python benchmarks/scaling.py --set frames_per_s=1 --set receivers=3 --set encode_speed=10

The YAML lists every figure with its unit, the command that measured it and the machine. --set changes one for
this run. Bytes come from the simulator's size tables. --out writes scaling.csv, scaling.json and scaling.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from common.cli import make_folder, print_json, run_command
from common.config import Settings, parse_settings
from common.errors import ConfigError, UsageError
from common.planning.sizing import FogCapacity, Footprint, Sizing, size
from simulations.events.sizes import SHIPPED_TABLES, load_table

DEFAULT = Path(__file__).with_name("scaling.yaml")
CURVE = tuple(round(10 ** (1 + step / 8)) for step in range(33))
"""Cameras of the plot: 10 to 100,000."""


class Figures(Settings):
    """A deployment, and what was measured."""

    cameras: tuple[int, ...] = Field(min_length=1, max_length=20, description="numbers of cameras")
    target: str = Field(description="background and object PSNR, dB: a row of the size tables")
    frames_per_s: float = Field(gt=0, le=1e4, description="frames a second of one camera, mean over a day")
    peak: float = Field(ge=1, le=1e4, description="busiest hour's frames a second relative to that mean")
    receivers: float = Field(ge=0, le=1e6, description="edges that receive each frame's packet")
    kept_originals: float = Field(ge=0, le=1, description="share of the frames whose JPEG the fog keeps")
    encoders: int = Field(ge=1, le=10_000, description="encoders of one fog that work at the same time")
    encode_speed: float = Field(gt=0, le=1e6, description="their speed relative to the measured ones")
    load: float = Field(gt=0, le=1, description="share of each rate that is used at most")
    uplink_bytes_per_s: float = Field(gt=0, le=1e12, description="of one fog's connection")
    downlink_bytes_per_s: float = Field(gt=0, le=1e12, description="of one fog's connection")
    disk_bytes: float = Field(gt=0, le=1e18, description="of one fog")
    retention_days: float = Field(gt=0, le=1e5, description="days that the log is kept")
    encode_s: dict[str, float] = Field(min_length=1, description="seconds a frame on one encoder, by profile")
    io_s_per_upload: float = Field(ge=0, le=10, description="CPU seconds of the daemon for an upload")
    io_s_per_record: float = Field(ge=0, le=10, description="CPU seconds of the daemon for a record sent")
    commits_per_s: float = Field(gt=0, le=1e7, description="uploads a second that the disk commits")
    finishes_per_s: float = Field(gt=0, le=1e7, description="packets a second that the disk commits")
    stored_bytes: float = Field(ge=0, le=1e6, description="bytes on disk of a frame beside packet and image")
    upload_overhead_bytes: float = Field(ge=0, le=1e6, description="bytes of an upload beside its image")
    packet_overhead_bytes: float = Field(ge=0, le=1e6, description="bytes of a record beside its packet")


def answers(figures: Figures, cameras: Sequence[int]) -> dict[str, list[Sizing]]:
    """The answer for each number of cameras, by profile."""
    found: dict[str, list[Sizing]] = {}
    for profile, encode_s in figures.encode_s.items():
        row = load_table(profile, SHIPPED_TABLES).row(figures.target)
        jpeg, packet = statistics.fmean(row.jpeg_bytes), statistics.fmean(row.packet_bytes)
        footprint = Footprint(
            frames_per_s=figures.frames_per_s,
            peak=figures.peak,
            jpeg_bytes=jpeg + figures.upload_overhead_bytes,
            packet_bytes=packet + figures.packet_overhead_bytes,
            receivers=figures.receivers,
            stored_bytes=packet + figures.stored_bytes + figures.kept_originals * jpeg,
        )
        fog = FogCapacity(
            encoders=figures.encoders,
            encode_s=encode_s / figures.encode_speed,
            io_s_per_upload=figures.io_s_per_upload,
            io_s_per_record=figures.io_s_per_record,
            disk_s=1 / figures.commits_per_s + 1 / figures.finishes_per_s,
            retention_days=figures.retention_days,
            uplink_bytes_per_s=figures.uplink_bytes_per_s,
            downlink_bytes_per_s=figures.downlink_bytes_per_s,
            disk_bytes=figures.disk_bytes,
            load=figures.load,
        )
        found[profile] = [size(count, footprint, fog) for count in cameras]
    return found


def load_figures(path: Path, changes: Sequence[str]) -> Figures:
    """The YAML with single figures put in.

    Raises:
        ConfigError: A figure is unknown or out of range.
        UsageError: A change is not KEY=VALUE.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold keys and values")
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign:
            raise UsageError(f"--set takes KEY=VALUE such as frames_per_s=1, not {change!r}")
        place: dict[str, Any] = data
        *sections, last = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set names {key!r}, but {section!r} is no section of {path.name}")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {change!r} has a value that is not valid YAML") from None
    return parse_settings(yaml.safe_dump(data), Figures, name=path.name)


def rows(found: Mapping[str, Sequence[Sizing]]) -> list[dict[str, Any]]:
    """One row a profile and number of cameras."""
    return [
        {
            "cameras": answer.cameras,
            "profile": profile,
            "fogs": answer.fogs,
            "binds": answer.binds,
            "encoders_busy": round(answer.encoders_busy, 2),
            "busiest_fog_cameras": round(answer.busiest, 1),
            "busiest_fog_uplink_mb_per_s": round(answer.uplink_bytes_per_s / 1e6, 3),
            "busiest_fog_downlink_mb_per_s": round(answer.downlink_bytes_per_s / 1e6, 3),
            "busiest_fog_disk_gb_per_day": round(answer.disk_bytes_per_day / 1e9, 2),
            "busiest_fog_disk_gb": round(answer.disk_bytes / 1e9, 1),
        }
        for profile, each in found.items()
        for answer in each
    ]


def table(found: Mapping[str, Sequence[Sizing]]) -> str:
    """The same as a Markdown table."""
    lines = [
        "| cameras | profile | fogs | what binds | encoders busy | busiest fog: cameras | in, MB/s "
        "| out, MB/s | disk, GB/day |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows(found), key=lambda row: row["cameras"]):
        lines.append(
            f"| {row['cameras']:,} | {row['profile']} | {row['fogs']:,} | {row['binds']} "
            f"| {row['encoders_busy']:,.1f} | {row['busiest_fog_cameras']:,.0f} "
            f"| {row['busiest_fog_uplink_mb_per_s']:,.2f} | {row['busiest_fog_downlink_mb_per_s']:,.2f} "
            f"| {row['busiest_fog_disk_gb_per_day']:,.1f} |"
        )
    return "\n".join(lines) + "\n"


def plot(figures: Figures, path: Path) -> None:
    """Fogs against cameras, by profile; dashed: with encoders ten times as quick."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    quicker = figures.model_copy(update={"encode_speed": 10 * figures.encode_speed})
    for style, each in (("-", figures), ("--", quicker)):
        for number, (profile, found) in enumerate(answers(each, CURVE).items()):
            label = profile if style == "-" else None
            counts = [answer.fogs for answer in found]
            axes.loglog(CURVE, counts, style, color=f"C{number}", label=label)
    axes.set_xlabel("cameras")
    axes.set_ylabel("fog nodes")
    axes.set_title(
        f"{figures.encoders} encoders a fog, {figures.frames_per_s:g} frames/s a camera, "
        f"{figures.receivers:g} receivers; dashed: encoders 10x as quick",
        fontsize="small",
    )
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="scaling.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, nargs="?", default=DEFAULT, metavar="FIGURES.yaml")
    parser.add_argument("--cameras", metavar="N,N", help="numbers of cameras, in place of the YAML's")
    parser.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change a figure"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of scaling.csv, .json and .png")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return run_command(parser, argv)


def _run(arguments: argparse.Namespace) -> int:
    changes = list(arguments.changes)
    if arguments.cameras:
        changes.append(f"cameras=[{arguments.cameras}]")
    figures = load_figures(arguments.figures, changes)
    found = answers(figures, figures.cameras)
    result = {
        "figures": figures.model_dump(mode="json"),
        "answers": {profile: [answer.to_json() for answer in each] for profile, each in found.items()},
    }
    if arguments.out is not None:
        make_folder(arguments.out)
        with (arguments.out / "scaling.csv").open("w", newline="", encoding="utf-8") as file:
            lines = rows(found)
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
        (arguments.out / "scaling.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
        plot(figures, arguments.out / "scaling.png")
    if arguments.json:
        print_json(result)
        return 0
    sys.stdout.write(table(found))
    for profile, each in found.items():
        sys.stdout.write("".join(f"{profile}: {answer.sentence}\n" for answer in each))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
