"""Plots of the cost model: bytes against frames and against devices, crossings marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cost_model import Plan, Strategy, plan
from simulations.charts import COLOURS, draw_chart, draw_panels
from simulations.cost_scenario import CostScenario

__all__ = ["bytes_against_devices", "bytes_against_frames", "crossing_devices", "plot_costs", "plot_sweep"]

CURVE_POINTS = 60
"""Points a curve: smooth on a page, and quick."""

Curve = list[tuple[float, Plan]]


def _with(scenario: CostScenario, **changes: Any) -> Plan:
    return plan(scenario.model_copy(update=changes).deployment())


def bytes_against_frames(scenario: CostScenario) -> Curve:
    """Plans over frames (of all devices together), wide enough to show the crossing fog/edge training."""
    today = plan(scenario.deployment())
    reach = 2.0 * max(scenario.frames_per_device * scenario.devices, 1)
    for crossing in (today.crossings.fog_over_edge_frames, today.crossings.fog_over_serverless_frames):
        if crossing is not None:
            reach = max(reach, 1.3 * crossing)
    steps = (round(reach * i / CURVE_POINTS / scenario.devices) for i in range(1, CURVE_POINTS + 1))
    counts = sorted({max(1, step) for step in steps})
    return [(n * scenario.devices, _with(scenario, frames_per_device=n)) for n in counts]


def bytes_against_devices(scenario: CostScenario) -> Curve:
    """Plans over devices; every device still records ``frames_per_device``."""
    most = max(20, 2 * scenario.devices)
    counts = sorted({max(1, round(most * i / CURVE_POINTS)) for i in range(1, CURVE_POINTS + 1)})
    return [(k, _with(scenario, devices=k)) for k in counts]


def crossing_devices(scenario: CostScenario) -> float | None:
    """Devices above which packets beat serverless JPEG when all share with all: 1 + 1 / (1 - alpha)."""
    if scenario.receivers is not None or scenario.alpha >= 1:
        return None
    return 1 + 1 / (1 - scenario.alpha)


def plot_costs(scenario: CostScenario, path: Path) -> None:
    """Write one picture with both curves and their crossings."""
    today = plan(scenario.deployment())
    frames, devices = bytes_against_frames(scenario), bytes_against_devices(scenario)

    def draw(left: Any, right: Any) -> None:
        _curves(left, frames, "frames recorded by all devices")
        _mark(left, today.crossings.fog_over_edge_frames, "fog training sends less beyond", "frames")
        _curves(right, devices, "devices")
        right.xaxis.get_major_locator().set_params(integer=True)
        _mark(right, crossing_devices(scenario), "packets send less than JPEG beyond", "devices")

    draw_panels(path, f"{scenario.name}: bytes over the network", draw)


def plot_sweep(key: str, curve: Sequence[tuple[Any, Plan]], path: Path) -> None:
    """Write the bytes of each strategy over the values of one swept key."""

    def draw(axes: Any) -> None:
        if all(isinstance(x, int | float) and not isinstance(x, bool) for x, _ in curve):
            _curves(axes, sorted(curve, key=lambda item: item[0]), key, marker="o")
        else:
            _curves(axes, [(i, p) for i, (_, p) in enumerate(curve)], key, marker="o")
            axes.set_xticks(range(len(curve)), [str(x) for x, _ in curve])

    draw_chart(path, draw)


def _curves(axes: Any, curve: Sequence[tuple[float, Plan]], label: str, marker: str = "") -> None:
    for strategy in Strategy:
        axes.plot(
            [x for x, _ in curve],
            [p.cost(strategy).bytes / 1e9 for _, p in curve],
            color=COLOURS[strategy],
            marker=marker,
            label=strategy.words,
        )
    axes.set_xlabel(label)
    axes.set_ylabel("GB over the network")
    axes.set_ylim(bottom=0)


def _mark(axes: Any, x: float | None, label: str, unit: str) -> None:
    if x is not None:
        figure = f"{math.ceil(x):,}" if x >= 100 else f"{x:.3g}"
        axes.axvline(x, color="black", linestyle=":", linewidth=1.2, label=f"{label} {figure} {unit}")
