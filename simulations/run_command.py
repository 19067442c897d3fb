"""``simulate run``: one scenario through the cost model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common.cli import add_json, make_folder, print_json

__all__ = ["add_parser", "run_scenario"]


def add_parser(subparsers: Any) -> None:
    """Add ``run``."""
    parser = subparsers.add_parser("run", help="cost of each strategy in one scenario")
    parser.add_argument(
        "scenario", metavar="SCENARIO.yaml", help="a scenario file, or papers.yaml as shipped"
    )
    parser.add_argument("--out", metavar="DIR", required=True, type=Path, help="folder for figures and plots")
    add_json(parser)
    parser.set_defaults(command=_command)


def run_scenario(path: str, out: Path) -> dict[str, Any]:
    """Evaluate a scenario and write plan.json, strategies.csv, frames.csv, devices.csv and costs.png.

    Returns:
        The JSON object of the command.

    Raises:
        ConfigError: The scenario cannot be used.
    """
    from common.cost_model import plan
    from simulations.cost_plots import (
        bytes_against_devices,
        bytes_against_frames,
        crossing_devices,
        plot_costs,
    )
    from simulations.cost_scenario import load_cost_scenario
    from simulations.cost_table import plan_row, strategy_rows, write_csv, write_json

    scenario = load_cost_scenario(path)
    answer = plan(scenario.deployment())
    make_folder(out)
    result = {
        "scenario": scenario.model_dump(),
        "plan": answer.to_json(),
        "crossing_devices": crossing_devices(scenario),
    }
    write_json(out / "plan.json", result)
    write_csv(out / "strategies.csv", strategy_rows(answer))
    frames, devices = bytes_against_frames(scenario), bytes_against_devices(scenario)
    write_csv(out / "frames.csv", [plan_row({"frames": round(x)}, p) for x, p in frames])
    write_csv(out / "devices.csv", [plan_row({"devices": round(x)}, p) for x, p in devices])
    plot_costs(scenario, out / "costs.png")
    return result


def _command(arguments: argparse.Namespace) -> int:
    result = run_scenario(arguments.scenario, arguments.out)
    if arguments.json:
        print_json(result)
        return 0
    for cost in result["plan"]["strategies"]:
        seconds = "" if cost["seconds"] is None else f"{cost['seconds']:12.1f} s"
        sys.stdout.write(f"{cost['strategy']:<11}{cost['bytes'] / 1e6:14.3f} MB{seconds}\n")
    sys.stdout.write(f"{result['plan']['sentence']}.\nFigures and plots are in {arguments.out}.\n")
    return 0
