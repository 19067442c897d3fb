"""What a simulation found, as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from common.cost_model import Plan, plan
from simulations.events.joules import joules
from simulations.events.model import deployment_of, frame_seconds
from simulations.events.simulation import Outcome

__all__ = ["conservation", "legs", "model_of", "summarise"]


def conservation(outcome: Outcome) -> dict[str, int | bool]:
    """Where every frame and every wanted copy is at the end, and whether the sums agree.

    Frames: recorded = dropped + on_devices + at_fogs + encoded; device to device, recorded = dropped +
    on_devices + shared. Copies: wanted = delivered + in_queues. A frame on its way to a fog, or in a commit
    under way, is still on its device. Each term is counted by itself.
    """
    devices = outcome.devices
    recorded = sum(device.recorded for device in devices)
    dropped = sum(device.dropped for device in devices)
    wanted = sum(device.wanted for device in devices)
    delivered = sum(device.delivered for device in devices)
    on_devices = sum(device.unfinished for device in devices)
    result: dict[str, int | bool] = {"recorded": recorded, "dropped": dropped, "on_devices": on_devices}
    if outcome.fogs:
        result["at_fogs"] = sum(fog.encoders.unfinished for fog in outcome.fogs)
        result["encoded"] = sum(fog.encoded for fog in outcome.fogs)
        owed = sum(device.encoded * len(outcome.audience[device.number]) for device in devices)
    else:
        result["shared"] = sum(device.uploaded for device in devices)
        owed = wanted
    right = 2 * recorded == sum(result.values())
    kept = len(outcome.run.frames) == recorded - dropped
    copies = sum(outcome.run.frames.copies) == delivered <= wanted == owed
    return {
        **result,
        "wanted": wanted,
        "delivered": delivered,
        "in_queues": wanted - delivered,
        "agrees": right and kept and copies,
    }


def legs(outcome: Outcome) -> dict[str, float]:
    """Mean seconds of a delivered copy on each leg, waits included; 0 without copies."""
    run = outcome.run
    frames = run.frames
    copies = np.frombuffer(frames.copies, np.int64) if len(frames) else np.zeros(0, np.int64)
    count = int(copies.sum())
    if not count:
        return {"uplink_s": 0.0, "encoding_s": 0.0, "downlink_s": 0.0, "decoding_s": 0.0}
    recorded, uploaded, encoded = (
        np.frombuffer(column, np.float64) for column in (frames.recorded, frames.uploaded, frames.encoded)
    )
    up = float(((uploaded - recorded) * copies).sum()) / count
    coding = float(((encoded - uploaded) * copies).sum()) / count
    decoding = run.scenario.decoding_s
    down = max(0.0, (run.latency.mean or 0.0) - up - coding - decoding)
    return {"uplink_s": up, "encoding_s": coding, "downlink_s": down, "decoding_s": decoding}


def model_of(outcome: Outcome) -> Plan | None:
    """The communication model's answer for the same frames; None when nothing was recorded."""
    return plan(deployment_of(outcome)) if len(outcome.run.frames) else None


def summarise(outcome: Outcome, answer: Plan | None) -> dict[str, Any]:
    """Everything that was found, as plain values.

    Args:
        outcome: The simulation.
        answer: :func:`model_of` of it.
    """
    run, devices, fogs = outcome.run, outcome.devices, outcome.fogs
    frames = run.frames
    jpeg = int(sum(frames.jpeg_bytes))
    p50, p95, p99 = run.latency.quantiles((0.5, 0.95, 0.99))
    up = sum(device.bytes_up for device in devices)
    serverless = not fogs
    down = 0.0 if serverless else sum(device.bytes_down for device in devices)
    strategies: Mapping[str, int] = Counter(
        "none" if fog.strategy is None else fog.strategy.value for fog in fogs
    )
    learners = [device.learner for device in devices if device.learner is not None]
    learners += [fog.learner for fog in fogs]
    end = max(run.finished, max(frames.recorded, default=0.0))
    return {
        "name": run.scenario.name,
        "seed": run.scenario.seed,
        "devices": len(devices),
        "fogs": len(fogs),
        "strategies": {"serverless": len(outcome.places)} if serverless else dict(sorted(strategies.items())),
        "strategy_switches": sum(fog.switches for fog in fogs),
        "completed_s": run.finished,
        "last_encoded_s": max(frames.encoded, default=0.0),
        "frames": conservation(outcome),
        "refused_uploads": sum(device.refused for device in devices),
        "jpeg_bytes": jpeg,
        "packet_bytes": int(sum(device.packet_bytes for device in devices)),
        "alpha": int(sum(frames.packet_bytes)) / jpeg if jpeg else None,
        "bytes_up": up,
        "bytes_down": down,
        "bytes": up + down,
        "weights_bytes": run.weights_bytes,
        "originals_bytes": run.originals_bytes,
        "latency": {
            "mean_s": run.latency.mean,
            "p50_s": p50,
            "p95_s": p95,
            "p99_s": p99,
            "largest_s": run.latency.largest,
            **legs(outcome),
        },
        "rounds": {
            "edge": sum(device.learner.rounds for device in devices if device.learner is not None),
            "fog": sum(fog.learner.rounds for fog in fogs),
            "detectors_published": sum(fog.published for fog in fogs),
            "refused_by_the_gate": sum(learner.refused for learner in learners),
        },
        "queues": {
            "most_in_an_outbox": max((device.most_waiting for device in devices), default=0),
            "most_at_a_fog": max((fog.most_waiting for fog in fogs), default=0),
        },
        "busy": {
            "uplink": _share(max((device.up.busy_s for device in devices), default=0.0), end),
            "encoders": _share(
                max((fog.encoders.busy_s for fog in fogs), default=0.0) / run.scenario.fog.workers, end
            ),
            "downlink": _share(max((device.down.busy_s for device in devices), default=0.0), end),
            "fog_uplink": _share(max((fog.link_busy_s[0] for fog in fogs), default=0.0), end),
            "fog_downlink": _share(max((fog.link_busy_s[1] for fog in fogs), default=0.0), end),
        },
        "devices_of_a_fog": _most_and_least(outcome),
        "energy": joules(outcome),
        "encode_s_per_frame": frame_seconds(outcome),
        "sizes": outcome.sizes,
        "model": None if answer is None else answer.to_json(),
        "simulation": {
            "wall_s": round(outcome.performance.wall_s, 3),
            "cpu_s": round(outcome.performance.cpu_s, 3),
            "peak_rss_bytes": outcome.performance.peak_rss_bytes,
            "events": outcome.performance.events,
            "frames_per_s": round(len(frames) / outcome.performance.wall_s),
        },
    }


def _most_and_least(outcome: Outcome) -> dict[str, int]:
    """Devices that record, of the fog with the fewest and of the one with the most."""
    counts = [sum(device.group.arrivals.kind != "none" for device in place) for place in outcome.places]
    return {"fewest": min(counts), "most": max(counts)}


def _share(busy_s: float, end: float) -> float:
    """Share of the time until the end in which the busiest one was at work at its nominal rate."""
    return busy_s / end if end > 0 else 0.0
