"""``simulate run``: one scenario through the event simulation, or through the cost model alone."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.cli import add_json, make_folder, print_json

__all__ = ["add_parser", "run_scenario"]


def add_parser(subparsers: Any) -> None:
    """Add ``run``."""
    parser = subparsers.add_parser("run", help="simulate one scenario, or what each strategy costs in it")
    parser.add_argument(
        "scenario", metavar="SCENARIO.yaml", help="a scenario file, or papers.yaml as shipped"
    )
    parser.add_argument("--out", metavar="DIR", required=True, type=Path, help="folder for figures and plots")
    add_json(parser)
    parser.set_defaults(command=_command)


def run_scenario(path: str, out: Path) -> dict[str, Any]:
    """Evaluate a scenario of the cost model alone.

    Writes plan.json, strategies.csv, frames.csv, devices.csv and costs.png.

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
    from simulations.profile_savings import profile_savings

    scenario = load_cost_scenario(path)
    answer = plan(scenario.deployment())
    make_folder(out)
    result = {
        "scenario": scenario.model_dump(),
        "plan": answer.to_json(),
        "crossing_devices": crossing_devices(scenario),
        "profiles": [asdict(entry) for entry in profile_savings(scenario)],
    }
    write_json(out / "plan.json", result)
    write_csv(out / "strategies.csv", strategy_rows(answer))
    frames, devices = bytes_against_frames(scenario), bytes_against_devices(scenario)
    write_csv(out / "frames.csv", [plan_row({"frames": round(x)}, p) for x, p in frames])
    write_csv(out / "devices.csv", [plan_row({"devices": round(x)}, p) for x, p in devices])
    plot_costs(scenario, out / "costs.png")
    return result


def _command(arguments: argparse.Namespace) -> int:
    from simulations.events.files import is_event_scenario, run_events

    if is_event_scenario(arguments.scenario):
        summary = run_events(arguments.scenario, arguments.out, quiet=arguments.json)
        if arguments.json:
            print_json(summary)
        else:
            sys.stdout.write(_words(summary))
            sys.stdout.write(f"Figures and plots are in {arguments.out}.\n")
        return 0
    from simulations.profile_savings import ProfileSaving, savings_table

    result = run_scenario(arguments.scenario, arguments.out)
    if arguments.json:
        print_json(result)
        return 0
    for cost in result["plan"]["strategies"]:
        seconds = "" if cost["seconds"] is None else f"{cost['seconds']:12.1f} s"
        sys.stdout.write(f"{cost['strategy']:<11}{cost['bytes'] / 1e6:14.3f} MB{seconds}\n")
    sys.stdout.write(f"{result['plan']['sentence']}.\n")
    profiles = tuple(ProfileSaving(**entry) for entry in result["profiles"])
    sys.stdout.write("\nTimes fewer bytes than serverless JPEG, with measured packets of each profile:\n")
    sys.stdout.write(savings_table(result["plan"]["alpha"], result["plan"]["saving"], profiles))
    sys.stdout.write(f"\nFigures and plots are in {arguments.out}.\n")
    return 0


def _words(summary: dict[str, Any]) -> str:
    """The summary for people."""
    frames, latency, cost = summary["frames"], summary["latency"], summary["simulation"]
    left = frames["on_devices"] + frames.get("at_fogs", 0)
    lines = [
        f"{frames['recorded']:,} frames of {summary['devices']:,} devices; {frames['dropped']:,} dropped, "
        f"{left:,} not encoded at the end",
        f"{frames['delivered']:,} of {frames['wanted']:,} wanted copies delivered by "
        f"{summary['completed_s']:,.1f} s",
        f"{summary['bytes_up'] / 1e6:,.3f} MB up, {summary['bytes_down'] / 1e6:,.3f} MB down, of it "
        "detectors "
        f"{summary['weights_bytes'] / 1e6:,.3f} MB",
        f"training: {summary['rounds']['edge']:,} rounds at edges, {summary['rounds']['fog']:,} at fogs",
    ]
    if latency["mean_s"] is not None:
        lines.append(
            f"from recording to decoded: mean {latency['mean_s']:,.2f} s, 95 % within "
            f"{latency['p95_s']:,.2f} s"
        )
    if summary["model"] is not None:
        lines.append(f"the model, for the same frames: {summary['model']['sentence']}")
    lines.append(f"simulated in {cost['wall_s']:.1f} s, {cost['peak_rss_bytes'] / 1e6:,.0f} MB of memory")
    return "".join(f"{line}\n" for line in lines)
