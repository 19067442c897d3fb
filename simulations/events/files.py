"""A scenario's file in, a folder of figures out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.cli import make_folder
from common.config import load_settings
from simulations.cost_scenario import CostScenario, find_scenario
from simulations.cost_table import write_json
from simulations.events.model import deployment_of
from simulations.events.plots import plot_all
from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate
from simulations.events.summary import model_of, summarise
from simulations.events.tables import write_devices, write_timeline

__all__ = ["is_event_scenario", "load_event_scenario", "run_events"]


def is_event_scenario(path: str | Path) -> bool:
    """Whether a file is a scenario to simulate: it has groups. Else it is one of the cost model alone."""
    try:
        node = yaml.compose(find_scenario(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        # Whoever loads it says what is wrong.
        return False
    if not isinstance(node, yaml.MappingNode):
        return False
    known = EventScenario.model_fields.keys() - CostScenario.model_fields.keys()
    return any(isinstance(key, yaml.ScalarNode) and key.value in known for key, _ in node.value)


def load_event_scenario(path: str | Path) -> EventScenario:
    """Read a scenario.

    Raises:
        ConfigError: The file cannot be read, or holds an unknown key, a bad value, a device that nobody hears
            or a link that does not exist.
    """
    return load_settings(find_scenario(path), EventScenario)


def run_events(path: str, out: Path, *, quiet: bool = True) -> dict[str, Any]:
    """Simulate a scenario; writes summary.json, timeline.csv, devices.csv and the plots.

    Args:
        path: The scenario.
        out: Folder, made when missing.
        quiet: Show no progress even on a terminal.

    Returns:
        The summary.

    Raises:
        ConfigError: The scenario, or a file that it names, cannot be used.
    """
    scenario = load_event_scenario(path)
    # A folder that cannot be written is told before minutes of simulation, not after.
    make_folder(out)
    outcome = simulate(scenario, find_scenario(path).parent, quiet=quiet)
    answer = model_of(outcome)
    summary = summarise(outcome, answer)
    write_json(out / "summary.json", {"scenario": scenario.model_dump(mode="json"), **summary})
    write_timeline(outcome, out / "timeline.csv")
    write_devices(outcome, out / "devices.csv")
    plot_all(outcome, None if answer is None else deployment_of(outcome), answer, out)
    return summary
