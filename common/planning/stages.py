"""The cost of each strategy from the loads of a deployment: equations (1) to (3), stages, energy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from common.planning.deployment import Deployment
from common.planning.energy import Energy
from common.planning.links import SHARED_CHANNEL
from common.planning.loads import Channel, Loads, Slowest
from common.planning.strategies import Strategy, StrategyCost
from common.planning.timing import Stage, Timing

__all__ = ["strategy_costs"]


def strategy_costs(deployment: Deployment, loads: Loads) -> tuple[StrategyCost, StrategyCost, StrategyCost]:
    """The cost of each strategy, in the order of :class:`common.planning.strategies.Strategy`."""
    return _serverless(deployment, loads), _edge(deployment, loads), _fog(deployment, loads)


def _serverless(deployment: Deployment, loads: Loads) -> StrategyCost:
    """Equation (1). A byte leaves one link while it enters the other, so no frame waits for its own end."""
    links = loads.serverless
    flow = [_slowest("the devices' uplink", links.up), _slowest("their downlink", links.down)]
    flow += _slowest_medium(links.channels)
    one_medium = len(links.channels) == 1 and not links.up.seconds and not links.down.seconds
    timing = Timing(
        _used(flow), _learning(deployment, loads, decode=False), loads.latency_s * (2 - one_medium)
    )
    energy = deployment.energy
    joules: tuple[float | None, float | None] = (None, None)
    if energy is not None:
        joules = (
            _plus(
                energy.device.radio(loads.wanted, loads.wanted), _learning_joules(deployment, loads, False)
            ),
            0.0,
        )
    return _cost(Strategy.SERVERLESS, loads.wanted, 0.0, {"the JPEG frames": loads.wanted}, timing, joules)


def _edge(deployment: Deployment, loads: Loads) -> StrategyCost:
    """Equation (2)."""
    links, received = loads.edge, loads.packets + loads.originals
    up, down = loads.recorded + loads.connections_up, received + loads.answers + loads.connections_down
    flow = [
        _slowest("the uplink", links.up),
        *_slowest_medium(links.channels),
        *_fog_link("the fog's uplink", deployment, loads.recorded, loads, up=True),
        _encoding(deployment, loads),
        *_fog_link("the fog's downlink", deployment, received, loads, up=False),
        _slowest("the downlink", links.down),
    ]
    timing = Timing(_used(flow), _learning(deployment, loads, decode=True), 2 * loads.latency_s)
    energy = deployment.energy
    joules: tuple[float | None, float | None] = (None, None)
    if energy is not None:
        joules = (
            _plus(energy.device.radio(up, down), _learning_joules(deployment, loads, True)),
            _plus(energy.fog.radio(down, up), _encoding_joules(energy, deployment, loads)),
        )
    parts = {"the uplink of JPEG frames": loads.recorded, "the downlink of packets": loads.packets}
    return _cost(Strategy.EDGE, up, down, parts, timing, joules)


def _fog(deployment: Deployment, loads: Loads) -> StrategyCost:
    """Equation (3); the fog trains on the same packets, so it encodes as well.

    Validation originals come down while frames still go up: they cost bytes, and no time of their own.
    """
    links, received = loads.edge, loads.weights + loads.originals
    up, down = loads.recorded + loads.connections_up, received + loads.answers + loads.connections_down
    channels = {
        name: Channel(up=channel.up, up_one=channel.up_one) for name, channel in links.channels.items()
    }
    flow = [
        _slowest("the uplink", links.up),
        *_slowest_medium(channels),
        *_fog_link("the fog's uplink", deployment, loads.recorded, loads, up=True),
        _encoding(deployment, loads),
    ]
    rates, rounds = deployment.rates, deployment.rounds
    training = rates.fog_training_s
    by_frames = rates.fog_training_frames_per_s is not None
    if rates.fog_training_frames_per_s is not None and loads.frames is not None:
        frames = loads.frames * deployment.trained_share * rates.epochs
        training = frames / rates.fog_training_frames_per_s
    total = None if training is None else training * rounds
    after = [
        Stage("training at the fog", total, per_frame=by_frames),
        _weights(deployment, loads),
    ]
    # Frames go up once; each round of weights comes down once.
    latency = loads.latency_s * (1 + (rounds if loads.weights else 0))
    timing = Timing(_used(flow), tuple(after), latency)
    energy = deployment.energy
    joules: tuple[float | None, float | None] = (None, None)
    if energy is not None:
        training_joules = 0.0 if not energy.fog.training_w else _times(total, energy.fog.training_w)
        joules = (
            energy.device.radio(up, down),
            _plus(
                energy.fog.radio(down, up),
                _encoding_joules(energy, deployment, loads),
                training_joules,
            ),
        )
    parts = {"the uplink of JPEG frames": loads.recorded, "the downlink of weights": loads.weights}
    return _cost(Strategy.FOG, up, down, parts, timing, joules)


def _slowest(name: str, slowest: Slowest) -> Stage:
    return Stage(name, slowest.seconds, slowest.one, slowest.device, link=True)


def _slowest_medium(channels: Mapping[str, Channel]) -> list[Stage]:
    """The shared medium that is busy for longest, if there is any: they work beside each other."""
    slowest: Stage | None = None
    one = 0.0
    for name, channel in channels.items():
        words = name if name == SHARED_CHANNEL else f"the shared medium {name}"
        if channel.up is None or channel.down is None:
            return [Stage(words, None, link=True)]
        seconds = channel.up + channel.down
        one = max(one, channel.up_one + channel.down_one)
        if slowest is None or seconds > (slowest.seconds or 0.0):
            slowest = Stage(words, seconds, link=True)
    return [] if slowest is None else [replace(slowest, one=min(one, slowest.seconds or 0.0))]


def _fog_link(name: str, deployment: Deployment, amount: float, loads: Loads, *, up: bool) -> list[Stage]:
    link = deployment.fog_link
    rate = None if link is None else link.up if up else link.down
    if rate is None:
        return []
    # One of all the frames that pass.
    one = amount / rate / max(loads.frames or 1.0, 1.0)
    return [Stage(name, amount / rate, min(one, amount / rate), link=True)]


def _encoding(deployment: Deployment, loads: Loads) -> Stage:
    each = deployment.rates.encode_s_per_frame
    if each is None or loads.frames is None:
        return Stage("encoding", None)
    batch = min(float(deployment.rates.encode_batch_frames), loads.frames)
    return Stage("encoding", each * loads.frames, each * batch)


def _learning(deployment: Deployment, loads: Loads, *, decode: bool) -> tuple[Stage, ...]:
    """Decoding and training at the learner whose round takes longest."""
    rounds, slowest = deployment.rounds, loads.slowest
    training = None if slowest.training is None else slowest.training * rounds
    stage = Stage("training at the edges", training, device=slowest.device, per_frame=slowest.by_frames)
    if not decode:
        return (stage,)
    return (Stage("decoding", slowest.decoding * rounds, device=slowest.device), stage)


def _weights(deployment: Deployment, loads: Loads) -> Stage:
    """All rounds of the detector on the slowest link, shared medium or the fog's own downlink."""
    links, name = loads.fog_down, "the downlink of weights"
    stages = [_slowest(name, links.down)]
    stages += _slowest_medium(links.channels)
    stages += _fog_link(name, deployment, loads.weights, loads, up=False)
    worst = next((s for s in stages if s.seconds is None), None)
    worst = worst or max(stages, key=lambda stage: stage.seconds or 0.0)
    device = worst.device or ("" if worst.name == name else worst.name)
    return Stage(name, worst.seconds, 0.0, device, link=True, per_frame=False)


def _learning_joules(deployment: Deployment, loads: Loads, decode: bool) -> float | None:
    energy = deployment.energy
    if energy is None:
        return None
    joules = 0.0
    if energy.device.training_w:
        if loads.slowest.training is None:
            return None
        joules += energy.device.training_w * loads.training_sum
    if decode:
        joules += energy.device.decode_w * loads.decoding_sum
    return joules * deployment.rounds


def _encoding_joules(energy: Energy, deployment: Deployment, loads: Loads) -> float | None:
    if not energy.fog.encode_w:
        return 0.0
    return _times(_encoding(deployment, loads).seconds, energy.fog.encode_w)


def _used(stages: list[Stage]) -> tuple[Stage, ...]:
    """Without links that nobody uses beside shared ones."""
    used = tuple(stage for stage in stages if stage.seconds is None or stage.seconds > 0)
    return used or (stages[0],)


def _plus(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _cost(
    strategy: Strategy,
    uplink: float,
    downlink: float,
    parts: dict[str, float],
    timing: Timing,
    joules: tuple[float | None, float | None],
) -> StrategyCost:
    seconds = timing.seconds
    binds = max(parts, key=parts.__getitem__)
    if seconds is not None and timing.longest is not None:
        binds = timing.longest.words
    return StrategyCost(
        strategy, uplink, downlink, math.fsum((uplink, downlink)), seconds, *joules, binds, timing
    )
