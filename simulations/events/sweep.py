"""A scenario simulated with some of its values varied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml

from common.cli import make_folder, progress
from common.config import parse_settings
from common.cost_model import Strategy
from common.errors import ConfigError, UsageError
from simulations.charts import COLOURS, draw_panels
from simulations.cost_scenario import find_scenario
from simulations.cost_table import write_csv, write_json
from simulations.events.files import load_event_scenario
from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate
from simulations.events.summary import model_of, summarise

__all__ = ["sweep_events", "swept_events"]

MOST_POINTS = 1000
"""Most simulations of one sweep."""

FIGURES = ("completed_s", "bytes_up", "bytes_down", "bytes", "weights_bytes")
FRAMES = ("recorded", "dropped", "encoded", "delivered")


def swept_events(
    scenario: EventScenario, axes: Sequence[tuple[str, Iterable[Any]]]
) -> list[tuple[dict[str, Any], EventScenario]]:
    """Every combination of values, the last key running fastest.

    A key names sections by dots; groups and media by name, by number, or all of them by ``*``:
    ``groups.*.link.uplink_bytes_per_s``.

    Raises:
        ConfigError: A key is unknown or a value is out of range.
        UsageError: More than :data:`MOST_POINTS` combinations, or two keys that set the same value.
    """
    keys, values = [key for key, _ in axes], [list(v) for _, v in axes]
    count = prod(map(len, values))
    if count > MOST_POINTS:
        raise UsageError(f"--over asks for {count:,} simulations, at most {MOST_POINTS:,} are allowed")
    points = []
    for point in product(*values):
        chosen = dict(zip(keys, point, strict=True))
        data = scenario.model_dump(mode="json")
        # Which key has set what: by the id of the section that holds it, and its name there.
        setters: dict[tuple[int, str], str] = {}
        for key, value in chosen.items():
            _set(data, key.split("."), value, key, setters)
        text = yaml.safe_dump(data, sort_keys=False)
        points.append((chosen, parse_settings(text, EventScenario, name="the swept scenario")))
    return points


def _set(data: Any, parts: list[str], value: Any, dotted: str, setters: dict[tuple[int, str], str]) -> None:
    head, *rest = parts
    if isinstance(data, list):
        if head == "*":
            chosen = data
        else:
            chosen = [item for i, item in enumerate(data) if head in (str(i), item.get("name"))]
        if not chosen or not rest:
            raise ConfigError(
                f"--over names {dotted!r}, but {head!r} is none of what stands there; use * for all"
            )
        for item in chosen:
            _set(item, rest, value, dotted, setters)
    elif not isinstance(data, dict):
        raise ConfigError(f"--over names {dotted!r}, but {head!r} is in no section of a scenario")
    elif not rest:
        other = setters.setdefault((id(data), head), dotted)
        if other != dotted:
            raise UsageError(f"--over sets the same value by {other!r} and by {dotted!r}; name it by one")
        data[head] = value
    elif head in data:
        _set(data[head], rest, value, dotted, setters)
    else:
        raise ConfigError(f"--over names {dotted!r}, but {head!r} is no section of a scenario")


def sweep_events(
    path: str, axes: Sequence[tuple[str, Iterable[Any]]], out: Path, quiet: bool
) -> dict[str, Any]:
    """Simulate every combination; writes sweep.csv, sweep.json and, for a single key, sweep.png.

    Args:
        path: The scenario.
        axes: Keys with their values.
        out: Folder, made when missing.
        quiet: Show no progress even on a terminal.

    Returns:
        The JSON object of the command.

    Raises:
        ConfigError: The scenario, a key or a value cannot be used.
        UsageError: Too many combinations.
    """
    folder = find_scenario(path).parent
    points = swept_events(load_event_scenario(path), axes)
    make_folder(out)
    rows, found = [], []
    for keys, scenario in progress(points, total=len(points), title="simulating", quiet=quiet):
        outcome = simulate(scenario, folder)
        answer = model_of(outcome)
        summary = summarise(outcome, answer)
        found.append({"keys": keys, "summary": summary})
        row = {**keys, **{name: summary[name] for name in FIGURES}}
        row |= {name: summary["frames"].get(name, "") for name in FRAMES}
        row["mean_latency_s"] = summary["latency"]["mean_s"]
        for strategy in Strategy:
            cost = None if answer is None else answer.cost(strategy)
            row[f"model_{strategy.value}_bytes"] = "" if cost is None else round(cost.bytes)
            row[f"model_{strategy.value}_seconds"] = (
                "" if cost is None or cost.seconds is None else round(cost.seconds, 3)
            )
        rows.append(row)
    write_csv(out / "sweep.csv", rows)
    result = {"over": {key: list(values) for key, values in axes}, "points": found}
    write_json(out / "sweep.json", result)
    if len(axes) == 1:
        _plot(axes[0][0], rows, points[0][1].name, out / "sweep.png")
    return result


def _plot(key: str, rows: Sequence[dict[str, Any]], name: str, path: Path) -> None:
    """Bytes and completion over one key: the simulation's and the model's."""
    numeric = all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
    ordered = sorted(rows, key=lambda row: row[key]) if numeric else list(rows)
    places = [row[key] for row in ordered] if numeric else list(range(len(ordered)))

    def draw_one(axes: Any, unit: str, label: str, scale: float) -> None:
        for strategy in Strategy:
            values = [row[f"model_{strategy.value}_{unit}"] for row in ordered]
            if "" not in values:
                lines = [value / scale for value in values]
                axes.plot(places, lines, color=COLOURS[strategy], label=f"model: {strategy.words}")
        simulated = [row["bytes" if unit == "bytes" else "completed_s"] / scale for row in ordered]
        axes.plot(places, simulated, "o--", color="black", label="simulated")
        if not numeric:
            axes.set_xticks(places, [str(row[key]) for row in ordered])
        elif min(places) > 0 and max(places) >= 20 * min(places):
            axes.set_xscale("log")
        axes.set_xlabel(key)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)

    def draw(left: Any, right: Any) -> None:
        draw_one(left, "bytes", "GB transmitted", 1e9)
        draw_one(right, "seconds", "seconds until all have learned", 1.0)

    draw_panels(path, name, draw)
