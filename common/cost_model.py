"""The communication model: what each way of learning together costs in bytes, seconds and joules.

K devices; device k records m_k bytes of JPEG that n_k receivers want; alpha = packet bytes / JPEG bytes; a
detector of W bytes goes to D devices, once whole and in R - 1 further rounds the share c of it that has
changed. Bytes over the network:

(1) serverless JPEG, device to device:         S = sum m_k n_k
(2) fog encodes, edges train on packets:       E = sum (m_k + alpha m_k n_k)
(3) fog encodes and trains, sends detectors:   F = sum m_k + W (1 + (R - 1) c) D

Closed-form crossings:

(4) E < S  iff  sum m_k n_k (1 - alpha) > sum m_k, so n > 1 / (1 - alpha) receivers when all n_k are equal
(5) F < E  iff  alpha sum m_k n_k > W' D with W' = W (1 + (R - 1) c), so more than W' D / (alpha b n) frames
    of b bytes
(6) F < S  iff  sum m_k (n_k - 1) > W' D, so more than W' D / (b (n - 1)) frames

Where messages cost more than their payload, m_k and alpha m_k contain the overhead. A device that gets its
own frames back as packets counts as one more receiver of them in (2). The validation originals that learners
fetch add sum v_k to (2) and (3), and so do answers, handshakes and heartbeats of connections to the fog.

Seconds, where the rates were measured, are equation (7) of :mod:`common.planning.timing`; their
crossings are those of convex piecewise linear functions (:mod:`common.planning.crossings`).
docs/planner.md derives all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from common.errors import ConfigError
from common.planning.checks import check_positive
from common.planning.control import ControlTraffic
from common.planning.crossings import Crossings, SecondsCrossing, ratio_crossing, seconds_crossings
from common.planning.deployment import DecideBy, Deployment, DeviceLoad, Inbound, Rates
from common.planning.energy import Energy, NodeEnergy
from common.planning.links import Link
from common.planning.loads import Loads
from common.planning.node_rates import NodeRates
from common.planning.stages import strategy_costs
from common.planning.strategies import Strategy, StrategyCost
from common.planning.words import changes, reason

__all__ = [
    "ControlTraffic",
    "Crossings",
    "Deployment",
    "DeviceLoad",
    "Energy",
    "Inbound",
    "Link",
    "NodeEnergy",
    "NodeRates",
    "Plan",
    "Rates",
    "SecondsCrossing",
    "Strategy",
    "StrategyCost",
    "implied_alpha",
    "plan",
]


@dataclass(frozen=True, slots=True)
class Plan:
    """The model's answer.

    Attributes:
        choice: The cheapest strategy; among equals the simplest: serverless, then edge, then fog.
        training: Where to train given that there is a fog: the cheaper of EDGE and FOG.
        decided_by: "seconds", "bytes" or "joules".
        strategies: The cost of each, in the order of :class:`Strategy`.
        crossings: Where the choice changes.
        alpha: Packet bytes / JPEG bytes over what is sent to others, weighted by receivers.
        mean_receivers: Receivers a JPEG byte, sum m_k n_k / sum m_k.
        saving: Bytes of serverless JPEG / bytes of edge training, S / E; None when E is 0.
        sentence: The choice and why, in words.
        changes: What would change the choice, a sentence each.
        training_changes: What would change where to train, a sentence each.
    """

    choice: Strategy
    training: Strategy
    decided_by: Literal["bytes", "seconds", "joules"]
    strategies: tuple[StrategyCost, ...]
    crossings: Crossings
    alpha: float
    mean_receivers: float
    saving: float | None
    sentence: str
    changes: tuple[str, ...]
    training_changes: tuple[str, ...]

    def cost(self, strategy: Strategy) -> StrategyCost:
        """The cost of one strategy."""
        return next(c for c in self.strategies if c.strategy is strategy)

    def figure(self, strategy: Strategy) -> float:
        """What decided, of one strategy: bytes, seconds or joules."""
        return _figure(self.cost(strategy), self.decided_by)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON object."""
        return {
            "choice": self.choice,
            "training": self.training,
            "decided_by": self.decided_by,
            "strategies": [
                {
                    "strategy": cost.strategy,
                    "uplink_bytes": cost.uplink_bytes,
                    "downlink_bytes": cost.downlink_bytes,
                    "bytes": cost.bytes,
                    "stages": dict(cost.stages),
                    "seconds": cost.seconds,
                    "device_joules": cost.device_joules,
                    "fog_joules": cost.fog_joules,
                    "joules": cost.joules,
                    "binds": cost.binds,
                    "missing": list(cost.missing),
                }
                for cost in self.strategies
            ],
            "crossings": {**asdict(self.crossings), "seconds": [asdict(c) for c in self.crossings.seconds]},
            "alpha": self.alpha,
            "mean_receivers": self.mean_receivers,
            "saving": self.saving,
            "sentence": self.sentence,
            "changes": list(self.changes),
            "training_changes": list(self.training_changes),
        }


def plan(deployment: Deployment) -> Plan:
    """Cost of each strategy, the cheapest one and why.

    Takes time in proportion to the devices; equal ones are best told once, with their ``count``.

    Raises:
        ConfigError: ``decide_by`` is "seconds" or "joules" and a rate that this needs was not measured.
    """
    loads = Loads(deployment)
    costs = strategy_costs(deployment, loads)
    decided_by = _decided_by(deployment.decide_by, costs)
    choice = min(costs, key=lambda cost: _figure(cost, decided_by))
    training = min(costs[1:], key=lambda cost: _figure(cost, decided_by))
    alpha, receivers = _means(deployment, loads)
    crossings = _crossings(loads, costs, alpha)
    return Plan(
        choice.strategy,
        training.strategy,
        decided_by,
        costs,
        crossings,
        alpha,
        receivers,
        costs[0].bytes / costs[1].bytes if costs[1].bytes else None,
        reason(choice, costs, decided_by, alpha, receivers, crossings),
        changes(choice, tuple(Strategy), decided_by, alpha, loads.frames, crossings),
        changes(training, (Strategy.EDGE, Strategy.FOG), decided_by, alpha, loads.frames, crossings),
    )


def implied_alpha(saving: float, devices: int) -> float:
    """The alpha at which a fog makes all-to-all sharing among equal devices ``saving`` times cheaper.

    From S / E = n / (1 + alpha n) with n = devices - 1, equations (1) and (2).

    Raises:
        ConfigError: No alpha >= 0 gives that saving; the saving cannot exceed n.
    """
    n = devices - 1
    check_positive("the implied alpha", saving=saving, receivers=n)
    if saving > n:
        raise ConfigError(f"a saving of {saving} times is out of reach: {devices} devices allow at most {n}")
    return 1 / saving - 1 / n


def _decided_by(wish: DecideBy, costs: Sequence[StrategyCost]) -> Literal["bytes", "seconds", "joules"]:
    """What decides, as it was wished.

    Raises:
        ConfigError: A rate that it needs is missing; the sentence names it.
    """
    if wish == "bytes":
        return "bytes"
    if wish == "joules":
        if any(cost.joules is None for cost in costs):
            raise _missing("joules", costs)
        return "joules"
    if any(cost.seconds is None for cost in costs):
        if wish == "seconds":
            raise _missing("seconds", costs)
        return "bytes"
    return "seconds"


def _missing(unit: str, costs: Sequence[StrategyCost]) -> ConfigError:
    names = list(dict.fromkeys(name for cost in costs for name in cost.missing))
    return ConfigError(
        f"deciding by {unit} needs measured rates, which are missing for {', '.join(names)}; "
        "decide by bytes or give the rates"
    )


def _figure(cost: StrategyCost, decided_by: str) -> float:
    value = {"bytes": cost.bytes, "seconds": cost.seconds, "joules": cost.joules}[decided_by]
    return cost.bytes if value is None else value


def _means(deployment: Deployment, loads: Loads) -> tuple[float, float]:
    """(alpha weighted by what is sent to others, receivers a JPEG byte); 0 where nothing was recorded."""
    if loads.wanted:
        alpha = (loads.packets - loads.own_packets) / loads.wanted
    elif loads.recorded:
        alpha = loads.packets_recorded / loads.recorded
    else:
        alpha = deployment.alpha or 0.0
    return alpha, loads.wanted / loads.recorded if loads.recorded else 0.0


def _crossings(loads: Loads, costs: Sequence[StrategyCost], alpha: float) -> Crossings:
    recorded, wanted, own = loads.recorded, loads.wanted, loads.own_packets
    frames = loads.frames or 0.0
    # What a fog costs in any case: it grows with the frames (answers), or does not.
    fetched = loads.originals + loads.connections_up + loads.connections_down
    recorded_there = recorded + loads.answers
    receivers = ratio_crossing((recorded_there + own + fetched) / recorded if recorded else 1.0, 1 - alpha)
    # What goes back to its own device shrinks with alpha as what goes to others does.
    sent = wanted + (own / alpha if alpha else 0.0)
    return Crossings(
        receivers=receivers,
        alpha=(wanted - recorded_there - fetched) / sent if wanted > recorded_there + fetched else None,
        fog_over_edge_frames=ratio_crossing(frames * loads.weights, loads.packets),
        fog_over_serverless_frames=ratio_crossing(
            frames * (loads.weights + fetched), wanted - recorded_there
        ),
        devices=None if receivers is None else receivers + 1,
        seconds=seconds_crossings(costs),
    )
