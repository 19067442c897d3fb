"""Plots of a simulation, each of which stands in a report as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.cost_model import Deployment, Plan, Strategy, plan
from simulations.charts import COLOURS, draw_chart
from simulations.events.simulation import Outcome
from simulations.events.summary import legs
from simulations.events.tables import QUEUES, queues

__all__ = ["plot_all"]

POINTS = 24
"""Points of a curve of the model."""

MOST_MODELLED = 2000
"""Devices above which the model's curves are left out of the plot over devices: each point plans for all."""

QUEUE_WORDS = dict(
    zip(
        QUEUES,
        ("frames on devices", "frames that wait for encoders", "copies that wait for receivers"),
        strict=True,
    )
)
LEG_WORDS = {
    "uplink_s": "uplink and commit",
    "encoding_s": "waiting and encoding",
    "downlink_s": "downlink",
    "decoding_s": "decoding",
}
LEG_COLOURS = ("#66a61e", "#e7298a", "#1b9e77", "#7570b3")


def plot_all(outcome: Outcome, deployment: Deployment | None, answer: Plan | None, out: Path) -> None:
    """Write bytes.png, devices.png, bandwidth.png, latency.png and queues.png.

    Args:
        outcome: The simulation.
        deployment: The model's question; None when nothing was recorded.
        answer: Its answer.
        out: Folder, which exists.
    """
    if deployment is not None and answer is not None:
        draw_chart(out / "bytes.png", lambda axes: _bytes(axes, outcome, deployment, answer))
        draw_chart(out / "devices.png", lambda axes: _devices(axes, outcome, deployment, answer))
        draw_chart(out / "bandwidth.png", lambda axes: _bandwidth(axes, outcome, deployment))
    draw_chart(out / "latency.png", lambda axes: _latency(axes, outcome))
    draw_chart(out / "queues.png", lambda axes: _queues(axes, outcome))


def _sent(outcome: Outcome) -> float:
    down = sum(device.bytes_down for device in outcome.devices) if outcome.fogs else 0.0
    return sum(device.bytes_up for device in outcome.devices) + down


def _strategy(outcome: Outcome) -> str:
    """How the simulation's own line is called."""
    policy = outcome.run.scenario.policy.strategy
    return "simulated: as planned" if policy == "planner" else f"simulated: {Strategy(policy).words}"


def _bytes(axes: Any, outcome: Outcome, deployment: Deployment, answer: Plan) -> None:
    """Bytes against frames: the model's lines, their crossing, and what the simulation sent."""
    sums = outcome.run.timeline.sums()
    recorded = sums["recorded"] - sums["dropped"]
    total = max(1.0, float(recorded[-1]))
    crossing = answer.crossings.fog_over_edge_frames
    # A crossing far off would flatten everything else.
    reach = max(total, 1.25 * crossing) if crossing is not None and crossing < 4 * total else total
    connections = sum(deployment.control.connection(0, deployment.connected_s)) * len(deployment.devices)
    weights = deployment.detector_sent() * sum(load.learns for load in deployment.devices)
    without_frames = {
        Strategy.SERVERLESS: 0.0,
        Strategy.EDGE: connections,
        Strategy.FOG: connections + weights,
    }
    for strategy, fixed in without_frames.items():
        slope = (answer.cost(strategy).bytes - fixed) / total
        axes.plot(
            [0, reach],
            [fixed / 1e9, (fixed + slope * reach) / 1e9],
            color=COLOURS[strategy],
            label=f"model: {strategy.words}",
        )
    sent = sums["bytes_up"] + (sums["bytes_down"] if outcome.fogs else 0)
    axes.plot(recorded, sent / 1e9, color="black", linewidth=2, linestyle="--", label=_strategy(outcome))
    if crossing is not None and crossing <= reach:
        label = f"fog training sends less beyond {math.ceil(crossing):,} frames"
        axes.axvline(crossing, color="black", linestyle=":", linewidth=1.2, label=label)
    axes.set_xlabel("frames recorded by all devices")
    axes.set_ylabel("GB transmitted")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, reach)
    axes.set_title(f"{outcome.run.scenario.name}: bytes against frames", fontsize="medium")


def _devices(axes: Any, outcome: Outcome, deployment: Deployment, answer: Plan) -> None:
    """Bytes against devices: the model with receivers in proportion, and what the simulation sent."""
    here = len(outcome.devices)
    counts = sorted({max(2, round(2 * here * i / POINTS)) for i in range(1, POINTS + 1)})
    overhead = deployment.packet_overhead_bytes
    packets = sum(
        ((load.packet_bytes or 0) + overhead * load.frames) * load.receivers for load in deployment.devices
    )
    # More devices at as many fogs: each frame has more receivers, in proportion to the other devices. What
    # goes to receivers grows with the pairs of devices, all else (uploads, own frames, weights) with the
    # devices.
    by_pairs = {
        Strategy.SERVERLESS: answer.cost(Strategy.SERVERLESS).bytes,
        Strategy.EDGE: packets,
        Strategy.FOG: 0.0,
    }
    for strategy, shared in by_pairs.items():
        rest = answer.cost(strategy).bytes - shared
        values = [(shared * (k - 1) / max(1, here - 1) + rest) * k / here / 1e9 for k in counts]
        axes.plot(counts, values, color=COLOURS[strategy], label=f"model: {strategy.words}")
    axes.plot([here], [_sent(outcome) / 1e9], "o", color="black", label=_strategy(outcome))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("devices" if outcome.run.scenario.fog.count == 1 else "devices, at as many fogs")
    axes.set_ylabel("GB transmitted")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{outcome.run.scenario.name}: bytes against devices", fontsize="medium")


def _bandwidth(axes: Any, outcome: Outcome, deployment: Deployment) -> None:
    """Completion against bandwidth: the model with every link's rates scaled; the simulation at 1."""
    points = 3 if len(deployment.devices) > MOST_MODELLED else POINTS
    factors = np.geomspace(0.25, 4, points)
    plans = [plan(_scaled(deployment, float(factor))) for factor in factors]
    for strategy in Strategy:
        seconds = [answer.cost(strategy).seconds for answer in plans]
        if None not in seconds:
            axes.plot(factors, seconds, color=COLOURS[strategy], label=f"model: {strategy.words}")
    axes.plot(
        [1], [outcome.run.finished], "o", color="black", label=f"{_strategy(outcome)}, recording included"
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    axes.set_xlabel("bandwidth of every link, as a multiple of the scenario's")
    axes.set_ylabel("seconds until all have learned")
    axes.set_title(f"{outcome.run.scenario.name}: completion against bandwidth", fontsize="medium")


def _scaled(deployment: Deployment, factor: float) -> Deployment:
    loads = tuple(
        replace(load, link=None if load.link is None else load.link.scaled(factor))
        for load in deployment.devices
    )
    fog_link = None if deployment.fog_link is None else deployment.fog_link.scaled(factor)
    return replace(deployment, devices=loads, fog_link=fog_link)


def _latency(axes: Any, outcome: Outcome) -> None:
    """How long copies were on their way: the distribution, and the mean of each leg."""
    latency = outcome.run.latency
    title = f"{outcome.run.scenario.name}: decoding and communication latency"
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("seconds from recording to decoded at the receiver")
    axes.set_ylabel("share of delivered copies")
    if not latency.count:
        axes.text(0.5, 0.5, "nothing was delivered", ha="center", transform=axes.transAxes)
        return
    seconds, shares = latency.curve()
    # From a share of nothing on: equal latencies are one step.
    axes.plot([seconds[0], *seconds], [0.0, *shares], color="black", label="all copies")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.01)
    for (name, value), colour in zip(legs(outcome).items(), LEG_COLOURS, strict=True):
        if value > 0:
            label = f"mean of {LEG_WORDS[name]}: {f'{value:,.0f}' if value >= 100 else f'{value:.3g}'} s"
            axes.axvline(value, color=colour, linestyle="--", linewidth=1.2, label=label)


def _queues(axes: Any, outcome: Outcome) -> None:
    """What waits where, over time."""
    timeline = outcome.run.timeline
    sums = timeline.sums()
    if not outcome.fogs:
        sums["encoded"] = sums["uploaded"]
    seconds = np.arange(1, len(sums["recorded"]) + 1) * timeline.sample_s
    unit, words = _unit(float(seconds[-1]))
    longest = 1.0
    for (name, length), colour in zip(queues(sums).items(), COLOURS.values(), strict=True):
        longest = max(longest, 1.05 * float(length.max()))
        axes.plot(seconds / unit, length, color=colour, label=QUEUE_WORDS[name], drawstyle="steps-post")
    axes.set_xlabel(words)
    axes.set_ylabel(f"waiting at the end of each {timeline.sample_s:g} s")
    axes.set_ylim(0, longest)
    axes.set_title(f"{outcome.run.scenario.name}: queues", fontsize="medium")


def _unit(seconds: float) -> tuple[float, str]:
    choices: Sequence[tuple[float, str]] = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next(((size, name) for size, name in choices if seconds >= 3 * size), (1.0, "seconds"))
