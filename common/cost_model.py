"""The communication model: what each way of learning together costs in bytes and seconds.

K devices; device k records m_k bytes of JPEG that n_k receivers want; alpha = packet bytes / JPEG bytes; a
detector of W bytes goes to D devices in each of R rounds. Bytes over the network:

(1) serverless JPEG, device to device:         S = sum m_k n_k
(2) fog encodes, edges train on packets:       E = sum (m_k + alpha m_k n_k)
(3) fog encodes and trains, sends detectors:   F = sum m_k + W R D

Closed-form crossings:

(4) E < S  iff  sum m_k n_k (1 - alpha) > sum m_k, so n > 1 / (1 - alpha) receivers when all n_k are equal
(5) F < E  iff  alpha sum m_k n_k > W R D, so more than W R D / (alpha b n) frames of b bytes
(6) F < S  iff  sum m_k (n_k - 1) > W R D, so more than W R D / (b (n - 1)) frames

Seconds, where the rates were measured: frames flow through uplink, encoder and downlink one behind the
other, so delivery lasts as long as its slowest stage; training follows. On a shared medium the two
directions take turns, so their seconds add. Latency, losses and energy are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from common.deployment import Deployment, DeviceLoad, Rates, check_positive
from common.errors import ConfigError

__all__ = [
    "Crossings",
    "Deployment",
    "DeviceLoad",
    "Plan",
    "Rates",
    "Strategy",
    "StrategyCost",
    "implied_alpha",
    "plan",
]


class Strategy(StrEnum):
    """A way of learning together; the value is the name used in settings and JSON."""

    SERVERLESS = "serverless"
    EDGE = "edge"
    FOG = "fog"

    @property
    def words(self) -> str:
        """The strategy in words."""
        return {
            Strategy.SERVERLESS: "serverless JPEG",
            Strategy.EDGE: "fog encoding with training at the edges",
            Strategy.FOG: "fog encoding with training at the fog",
        }[self]


@dataclass(frozen=True, slots=True)
class StrategyCost:
    """What one strategy costs.

    Attributes:
        strategy: Which.
        uplink_bytes: Sent by devices, all together.
        downlink_bytes: Sent by the fog, all together; 0 for serverless JPEG.
        bytes: Both together, equations (1) to (3).
        stages: (name, seconds) of each stage whose rates are known.
        seconds: From the first upload to trained detectors; None when a rate is missing.
        binds: What costs most: the longest stage, or the largest part of the bytes.
    """

    strategy: Strategy
    uplink_bytes: float
    downlink_bytes: float
    bytes: float
    stages: tuple[tuple[str, float], ...]
    seconds: float | None
    binds: str


@dataclass(frozen=True, slots=True)
class Crossings:
    """Where the choice by bytes changes; None: never, or the numbers for it are unknown.

    Attributes:
        receivers: Receivers a frame above which (2) beats (1): 1 / (1 - alpha), equation (4).
        alpha: alpha below which (2) beats (1) at today's receivers: 1 - sum m_k / sum m_k n_k.
        fog_over_edge_frames: Frames, of all devices together, above which (3) beats (2), equation (5).
        fog_over_serverless_frames: Frames above which (3) beats (1), equation (6).
    """

    receivers: float | None
    alpha: float | None
    fog_over_edge_frames: float | None
    fog_over_serverless_frames: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The model's answer.

    Attributes:
        choice: The cheapest strategy; among equals the simplest: serverless, then edge, then fog.
        training: Where to train given that there is a fog: the cheaper of EDGE and FOG.
        decided_by: "seconds" or "bytes".
        strategies: The cost of each, in the order of :class:`Strategy`.
        crossings: Where the choice by bytes changes.
        alpha: Packet bytes / JPEG bytes over what is sent, weighted by receivers.
        mean_receivers: Receivers a JPEG byte, sum m_k n_k / sum m_k.
        sentence: The choice and why, in words.
    """

    choice: Strategy
    training: Strategy
    decided_by: Literal["bytes", "seconds"]
    strategies: tuple[StrategyCost, ...]
    crossings: Crossings
    alpha: float
    mean_receivers: float
    sentence: str

    def cost(self, strategy: Strategy) -> StrategyCost:
        """The cost of one strategy."""
        return next(c for c in self.strategies if c.strategy is strategy)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON object."""
        value = asdict(self)
        value["strategies"] = [{**s, "stages": dict(s["stages"])} for s in value["strategies"]]
        return value


def plan(deployment: Deployment) -> Plan:
    """Cost of each strategy, the cheapest one and why.

    Raises:
        ConfigError: ``decide_by`` is "seconds" and a rate that this needs was not measured.
    """
    costs = (_serverless(deployment), _edge(deployment), _fog(deployment))
    missing = [c.strategy.value for c in costs if c.seconds is None]
    if deployment.decide_by == "seconds" and missing:
        raise ConfigError(
            f"deciding by seconds needs measured rates, which are missing for {', '.join(missing)}; "
            "decide by bytes or give the rates"
        )
    by_seconds = not missing and deployment.decide_by != "bytes"

    def figure(cost: StrategyCost) -> float:
        return cost.seconds if by_seconds and cost.seconds is not None else cost.bytes

    choice = min(costs, key=figure)
    training = min(costs[1:], key=figure)
    alpha, receivers = _means(deployment)
    crossings = _crossings(deployment, alpha)
    return Plan(
        choice.strategy,
        training.strategy,
        "seconds" if by_seconds else "bytes",
        costs,
        crossings,
        alpha,
        receivers,
        _sentence(choice, costs, figure, by_seconds, alpha, receivers, crossings),
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


def _sent(deployment: Deployment) -> tuple[float, float, float]:
    """(sum m_k, sum m_k n_k, sum alpha m_k n_k), bytes."""
    devices = deployment.devices
    return (
        math.fsum(d.jpeg_bytes for d in devices),
        math.fsum(d.jpeg_bytes * d.receivers for d in devices),
        math.fsum(deployment.packet_bytes(d) * d.receivers for d in devices),
    )


def _means(deployment: Deployment) -> tuple[float, float]:
    """(alpha weighted by what is sent, receivers a JPEG byte); 0 where nothing was recorded."""
    recorded, wanted, packets = _sent(deployment)
    if wanted:
        alpha = packets / wanted
    elif recorded:
        alpha = math.fsum(map(deployment.packet_bytes, deployment.devices)) / recorded
    else:
        alpha = deployment.alpha or 0.0
    return alpha, wanted / recorded if recorded else 0.0


def _weights(deployment: Deployment) -> float:
    """W R D, bytes."""
    receivers = deployment.detector_receivers
    needed = len(deployment.devices) if receivers is None else receivers
    return deployment.detector_bytes * deployment.rounds * needed


def _serverless(deployment: Deployment) -> StrategyCost:
    """Equation (1); every device sends to each receiver while it receives."""
    wanted = _sent(deployment)[1]
    rates = deployment.rates
    up = _seconds(max(d.jpeg_bytes * d.receivers for d in deployment.devices), rates.uplink_bytes_per_s)
    # Receivers are taken to be spread evenly over the devices, as they are when all share with all.
    down = _seconds(wanted / len(deployment.devices), rates.downlink_bytes_per_s)
    if rates.shared_medium:
        up, down = _seconds(wanted, rates.uplink_bytes_per_s), 0.0
    stages = {"the devices' uplink": up, "their downlink": down}
    return _cost(
        Strategy.SERVERLESS,
        wanted,
        0.0,
        {"the JPEG frames": wanted},
        stages,
        {"training at the edges": _times(rates.edge_training_s, deployment.rounds)},
        shared=False,
    )


def _edge(deployment: Deployment) -> StrategyCost:
    """Equation (2)."""
    recorded, _, packets = _sent(deployment)
    rates, count = deployment.rates, len(deployment.devices)
    inbound_frames = math.fsum(d.frames * d.receivers for d in deployment.devices) / count
    down_bytes = packets if rates.shared_medium else packets / count
    decode = 0.0
    if rates.decode_frames_per_s is not None:
        decode = inbound_frames * rates.epochs * deployment.rounds / rates.decode_frames_per_s
    return _cost(
        Strategy.EDGE,
        recorded,
        packets,
        {"the uplink of JPEG frames": recorded, "the downlink of packets": packets},
        {
            "the uplink": _up_seconds(deployment),
            "encoding": _encode_seconds(deployment),
            "the downlink": _seconds(down_bytes, rates.downlink_bytes_per_s),
        },
        {
            "decoding": decode,
            "training at the edges": _times(rates.edge_training_s, deployment.rounds),
        },
        shared=rates.shared_medium,
    )


def _fog(deployment: Deployment) -> StrategyCost:
    """Equation (3); the fog trains on the same packets, so it encodes as well."""
    recorded, weights = _sent(deployment)[0], _weights(deployment)
    rates = deployment.rates
    one = deployment.detector_bytes * deployment.rounds if weights else 0.0
    down_bytes = weights if rates.shared_medium else one
    return _cost(
        Strategy.FOG,
        recorded,
        weights,
        {"the uplink of JPEG frames": recorded, "the downlink of weights": weights},
        {"the uplink": _up_seconds(deployment), "encoding": _encode_seconds(deployment)},
        {
            "training at the fog": _times(rates.fog_training_s, deployment.rounds),
            "the downlink of weights": _seconds(down_bytes, rates.downlink_bytes_per_s),
        },
        shared=False,
    )


def _seconds(amount: float, per_second: float | None) -> float | None:
    if per_second is None:
        return None
    return amount / per_second


def _times(seconds: float | None, count: int) -> float | None:
    return None if seconds is None else seconds * count


def _up_seconds(deployment: Deployment) -> float | None:
    sizes = [d.jpeg_bytes for d in deployment.devices]
    amount = math.fsum(sizes) if deployment.rates.shared_medium else max(sizes)
    return _seconds(amount, deployment.rates.uplink_bytes_per_s)


def _encode_seconds(deployment: Deployment) -> float | None:
    if not all(d.frames for d in deployment.devices if d.jpeg_bytes):
        return None
    return _times(deployment.rates.encode_s_per_frame, sum(d.frames for d in deployment.devices))


def _cost(
    strategy: Strategy,
    uplink: float,
    downlink: float,
    parts: dict[str, float],
    flowing: dict[str, float | None],
    following: dict[str, float | None],
    *,
    shared: bool,
) -> StrategyCost:
    """``flowing`` stages overlap, so the longest counts (links add when shared); ``following`` ones add."""
    stages = tuple((name, s) for name, s in {**flowing, **following}.items() if s is not None)
    seconds: float | None = None
    if len(stages) == len(flowing) + len(following):
        known = dict(stages)
        flow = [known[name] for name in flowing]
        if shared:
            links = known["the uplink"] + known["the downlink"]
            flow = [links, known["encoding"]]
        seconds = max(flow) + math.fsum(known[name] for name in following)
    largest = stages if seconds is not None else tuple(parts.items())
    binds = max(largest, key=lambda item: item[1])[0]
    return StrategyCost(strategy, uplink, downlink, math.fsum((uplink, downlink)), stages, seconds, binds)


def _crossings(deployment: Deployment, alpha: float) -> Crossings:
    recorded, wanted, packets = _sent(deployment)
    weights = _weights(deployment)
    frames = sum(d.frames for d in deployment.devices)
    return Crossings(
        receivers=_crossing(1.0, 1 - alpha),
        alpha=1 - recorded / wanted if wanted > recorded else None,
        fog_over_edge_frames=_crossing(frames * weights, packets),
        fog_over_serverless_frames=_crossing(frames * weights, wanted - recorded),
    )


def _crossing(fixed: float, grows: float) -> float | None:
    """Where a growing cost overtakes a fixed one; None when it does not grow or nothing is fixed."""
    if fixed <= 0 or grows <= 0:
        return None
    value = fixed / grows
    return value if math.isfinite(value) else None


def _sentence(
    choice: StrategyCost,
    costs: Sequence[StrategyCost],
    figure: Callable[[StrategyCost], float],
    by_seconds: bool,
    alpha: float,
    receivers: float,
    crossings: Crossings,
) -> str:
    """The choice and why."""
    unit = _format_seconds if by_seconds else _format_bytes
    others = " and ".join(
        f"{unit(figure(c))} for {c.strategy.words}" for c in costs if c.strategy is not choice.strategy
    )
    text = f"{choice.strategy.words} costs least: {unit(figure(choice))} against {others}; "
    if crossings.receivers is None:
        text += f"at alpha {alpha:.2f} packets are no smaller than JPEG, so sending them never pays; "
    else:
        relation = "more" if receivers > crossings.receivers else "not more"
        text += (
            f"a frame has {receivers:.2f} receivers, {relation} than the {crossings.receivers:.2f} above "
            f"which packets send fewer bytes than serverless JPEG at alpha {alpha:.3f}; "
        )
    if crossings.fog_over_edge_frames is not None:
        text += (
            "sending detectors instead of packets takes fewer bytes beyond "
            f"{math.ceil(crossings.fog_over_edge_frames):,} frames; "
        )
    return text + f"what binds is {choice.binds}"


def _format_bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.0f} B"


def _format_seconds(value: float) -> str:
    return f"{value:.1f} s"
