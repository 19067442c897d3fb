"""``simulate sweep``: a scenario with some of its values varied."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common.cli import add_json, make_folder, print_json

__all__ = ["add_parser", "sweep_scenario"]


def add_parser(subparsers: Any) -> None:
    """Add ``sweep``."""
    parser = subparsers.add_parser(
        "sweep", help="simulate a scenario, or cost its strategies, while values vary"
    )
    parser.add_argument(
        "scenario", metavar="SCENARIO.yaml", help="a scenario file, or papers.yaml as shipped"
    )
    parser.add_argument(
        "--over",
        metavar="key=a,b,c",
        action="extend",
        nargs="+",
        required=True,
        help="values for a key of the scenario (rates.uplink_bytes_per_s for one inside rates, "
        "groups.*.count for one of all groups); several keys give all combinations",
    )
    parser.add_argument("--out", metavar="DIR", required=True, type=Path, help="folder for figures and plots")
    add_json(parser)
    parser.set_defaults(command=_command)


def sweep_scenario(path: str, over: list[str], out: Path) -> dict[str, Any]:
    """Evaluate every combination and write sweep.csv, sweep.json and, for a single key, sweep.png.

    Returns:
        The JSON object of the command.

    Raises:
        ConfigError: The scenario cannot be used, or a swept key or value is wrong.
        UsageError: ``over`` is malformed or too large.
    """
    from common.cost_model import plan
    from simulations.cost_plots import plot_sweep
    from simulations.cost_scenario import load_cost_scenario, parse_over, swept
    from simulations.cost_table import plan_row, write_csv, write_json

    axes = parse_over(over)
    points = [(keys, plan(s.deployment())) for keys, s in swept(load_cost_scenario(path), axes)]
    rows = [plan_row(keys, answer) for keys, answer in points]
    make_folder(out)
    write_csv(out / "sweep.csv", rows)
    result = {
        "over": dict(axes),
        "points": [{"keys": keys, "plan": answer.to_json()} for keys, answer in points],
    }
    write_json(out / "sweep.json", result)
    if len(axes) == 1:
        key = axes[0][0]
        plot_sweep(key, [(keys[key], answer) for keys, answer in points], out / "sweep.png")
    return result


def _command(arguments: argparse.Namespace) -> int:
    from simulations.cost_scenario import parse_over
    from simulations.events.files import is_event_scenario
    from simulations.events.sweep import sweep_events

    if is_event_scenario(arguments.scenario):
        axes = parse_over(arguments.over)
        found = sweep_events(arguments.scenario, axes, arguments.out, arguments.json)
        if arguments.json:
            print_json(found)
            return 0
        for point in found["points"]:
            values = ", ".join(f"{key}={value}" for key, value in point["keys"].items())
            summary = point["summary"]
            sys.stdout.write(f"{values}: {summary['bytes'] / 1e6:,.3f} MB, {summary['completed_s']:,.1f} s\n")
        sys.stdout.write(f"Figures are in {arguments.out}.\n")
        return 0
    result = sweep_scenario(arguments.scenario, arguments.over, arguments.out)
    if arguments.json:
        print_json(result)
        return 0
    for point in result["points"]:
        values = ", ".join(f"{key}={value}" for key, value in point["keys"].items())
        sys.stdout.write(f"{values}: {point['plan']['sentence']}.\n")
    sys.stdout.write(f"Figures are in {arguments.out}.\n")
    return 0
