"""One simulation from its scenario to what it measured."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.cli import progress
from common.errors import ConfigError
from common.node.training_rounds import RoundRules
from common.ownership import FogShare, owned
from simulations.events.arrivals import arrival_times
from simulations.events.capacity import ALWAYS, Capacity, capacities
from simulations.events.channel import Lane, Medium, OwnLane, SharedLane
from simulations.events.device import Device, Recording
from simulations.events.direct import Direct
from simulations.events.engine import Engine
from simulations.events.figures import Timeline
from simulations.events.fog import Fog
from simulations.events.frames import FrameColumns
from simulations.events.gate import gate
from simulations.events.learner import Learner
from simulations.events.replay import Replay, read_replay
from simulations.events.run_state import RunState
from simulations.events.scenario import EventScenario, GroupSettings
from simulations.events.sizes import Sizes, draw_sizes, sizes_of

__all__ = ["Outcome", "Performance", "simulate"]


STEPS = 100
"""Parts of a simulation after which its progress is shown, about."""


@dataclass(frozen=True, slots=True)
class Performance:
    """What the simulation itself took.

    Attributes:
        wall_s, cpu_s: Seconds of building and running.
        peak_rss_bytes: Most memory of this process so far.
        events: Events run.
    """

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    events: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulation that has ended.

    Attributes:
        run: What was measured.
        devices: All devices, by number.
        places: Devices of each fog.
        fogs: The fogs; empty when serverless.
        audience: By a device's number: those that want its frames, itself included when it gets its own back.
        sizes: Where packet sizes came from, in words.
        performance: What it took.
    """

    run: RunState
    devices: tuple[Device, ...]
    places: tuple[tuple[Device, ...], ...]
    fogs: tuple[Fog, ...]
    audience: dict[int, tuple[Device, ...]]
    sizes: str
    performance: Performance


def simulate(scenario: EventScenario, folder: Path, *, quiet: bool = True) -> Outcome:
    """Run a scenario; the same scenario gives the same outcome, but for its performance.

    Args:
        scenario: What to simulate.
        folder: Where its relative paths start.
        quiet: Show no progress even on a terminal.

    Raises:
        ConfigError: A table, trace or replay that it names cannot be used.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    unscaled, scenario = scenario, scenario.scaled()
    horizon = scenario.horizon_s
    whole = RunState(scenario, Engine(), FrameColumns(), Timeline(scenario.sample_s, horizon))
    # Fogs have nothing in common: one after another, each with a clock of its own, they give the same
    # figures as side by side, from shorter heaps.
    runs = [replace(whole, engine=Engine()) for _ in range(scenario.fog.count)]
    builder = _Builder(runs, unscaled.groups, folder)
    devices, places = builder.devices()
    audience = {number: wanted for place in places for number, wanted in _audience(place).items()}
    if scenario.policy.strategy != "fog":
        _check_heard(places, audience)
    fogs: list[Fog] = []
    for number, (run, place) in enumerate(zip(runs, places, strict=True)):
        if scenario.policy.strategy == "serverless":
            Direct(run, place, audience).start()
        else:
            fogs.append(Fog(run, number, place, audience))
            fogs[-1].start()
        for device in place:
            device.start()
    # The heaps' entries form no cycles: looking for some took a tenth of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        parts = max(1, STEPS // len(runs))
        ends = [scenario.duration_s * part / parts for part in range(1, parts)] + [horizon]
        steps = [(run, until) for run in runs for until in ends]
        for run, until in progress(steps, total=len(steps), title="simulating", quiet=quiet):
            run.engine.run(until)
    finally:
        if collects:
            gc.enable()
    for run in runs:
        whole.finished = max(whole.finished, run.finished)
        whole.weights_bytes += run.weights_bytes
        whole.originals_bytes += run.originals_bytes
        whole.engine.events += run.engine.events
    for device in devices:
        device.settle(horizon)
        if device.learner is not None:
            whole.finished = max(whole.finished, device.learner.finished)
    if scenario.policy.strategy != "serverless":
        _count_connections(whole, devices)
    performance = Performance(
        time.perf_counter() - wall, time.process_time() - cpu, peak_rss_bytes(), whole.engine.events
    )
    return Outcome(whole, devices, places, tuple(fogs), audience, builder.source, performance)


def _count_connections(run: RunState, devices: Sequence[Device]) -> None:
    """Add what the devices' connections cost beside frames and records, until everything was done."""
    control, end = run.scenario.control.traffic(), run.finished
    all_up = all_down = 0.0
    for device in devices:
        up, down = control.connection(device.uploaded, end)
        device.bytes_up += up
        device.bytes_down += down
        all_up += up
        all_down += down
    run.timeline.spread("bytes_up", end, all_up)
    run.timeline.spread("bytes_down", end, all_down)


def peak_rss_bytes() -> int:
    """Most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kibibytes elsewhere.
    return peak if sys.platform == "darwin" else peak * 1024


class _Builder:
    """Makes the devices of a scenario, each with its own random numbers, links and media."""

    def __init__(self, runs: Sequence[RunState], unscaled: Sequence[GroupSettings], folder: Path) -> None:
        self._runs = runs
        self._unscaled = unscaled
        self._folder = folder
        self._scenario = scenario = runs[0].scenario
        self._replay: Replay | None = None
        self._sizes: Sizes | None = None
        if scenario.replay is not None:
            self._replay = read_replay(scenario.resolved(scenario.replay.path, folder))
            self.source = self._replay.source
        else:
            self._sizes = sizes_of(scenario.codec, folder)
            self.source = self._sizes.source
        self._media: dict[tuple[str, int], Medium] = {}
        self._shares: dict[str, Capacity] = {
            medium.name: capacities(medium.changes, None, folder, f"the medium {medium.name!r}")[0]
            for medium in scenario.media
        }

    def devices(self) -> tuple[tuple[Device, ...], tuple[tuple[Device, ...], ...]]:
        """Every device, group after group; and those of each fog."""
        scenario = self._scenario
        total = sum(group.count for group in scenario.groups)
        seeds = iter(np.random.SeedSequence(scenario.seed).spawn(total))
        devices: list[Device] = []
        places: list[list[Device]] = [[] for _ in self._runs]
        owners = self._owners()
        for group, as_told in zip(scenario.groups, self._unscaled, strict=True):
            words = f"the link of group {group.name!r}"
            up, down = ALWAYS, ALWAYS
            if group.link.medium is None:
                up, down = capacities(group.link.changes, as_told.link, self._folder, words)
            for member in range(group.count):
                name = _name(group, member)
                place = owners.get(name, member % len(places))
                run = self._runs[place]
                generator = np.random.default_rng(next(seeds))
                lanes = self._lanes(group, place, up, down)
                times, recordings = self._recordings(group, len(devices), generator)
                device = Device(run, len(devices), name, group, *lanes, times, recordings)
                if group.learns:
                    device.learner = self._learner(run, name)
                devices.append(device)
                places[place].append(device)
        return tuple(devices), tuple(map(tuple, places))

    def _owners(self) -> dict[str, int]:
        """Numbers of the fogs that devices belong to by their keys, by the devices' names."""
        scenario = self._scenario
        if scenario.fog.sharing == "turns":
            return {}
        # Names stand for keys; another seed draws other ones.
        fogs = {f"{scenario.seed} fog {number}": number for number in range(len(self._runs))}
        names = (
            _name(group, member)
            for group in scenario.groups
            if group.arrivals.kind != "none"
            for member in range(group.count)
        )
        found = owned(names, map(FogShare, fogs))
        return {name: fogs[key] for key, devices in found.items() for name in devices}

    def _lanes(self, group: GroupSettings, place: int, up: Capacity, down: Capacity) -> tuple[Lane, Lane]:
        engine, name = self._runs[place].engine, group.link.medium
        if name is None:
            return OwnLane(engine, up), OwnLane(engine, down)
        medium = self._media.get((name, place))
        if medium is None:
            medium = self._media[name, place] = Medium(engine, self._shares[name])
        return SharedLane(engine, medium), SharedLane(engine, medium)

    def _recordings(
        self, group: GroupSettings, number: int, generator: np.random.Generator
    ) -> tuple[Iterator[float], Iterator[Recording]]:
        scenario = self._scenario
        if group.arrivals.kind == "none":
            return iter(()), iter(())
        times = arrival_times(group.arrivals, scenario.duration_s, generator)
        if self._replay is not None and scenario.replay is not None:
            if scenario.replay.arrivals:
                times = (time for time in self._replay.moments(number) if time < scenario.duration_s)
            return times, self._replay.recordings(number)
        if self._sizes is None:
            return times, iter(())
        return times, draw_sizes(group, self._sizes, generator)

    def _learner(self, run: RunState, name: str) -> Learner:
        training, decoding_s = self._scenario.training, self._scenario.decoding_s

        def seconds(frames: int) -> float:
            return frames * training.epochs * decoding_s + training.edge_s

        rules = RoundRules(training.first_frames, training.new_frames, training.max_rounds)
        return Learner(
            run.engine,
            rules,
            start_s=training.start_s,
            round_s=seconds,
            on_trained=lambda *_: None,
            refuses=gate(self._scenario, name),
        )


def _name(group: GroupSettings, member: int) -> str:
    """A device's name: all of its group have names of one length."""
    return f"{group.name}-{member:0{len(str(group.count - 1))}d}"


def _check_heard(places: Sequence[Sequence[Device]], audience: Mapping[int, Sequence[Device]]) -> None:
    """With devices that belong to fogs by their keys, only now it is known who is where."""
    for number, place in enumerate(places, start=1):
        for device in place:
            if device.group.arrivals.kind != "none" and not audience[device.number]:
                raise ConfigError(
                    f"nobody hears {device.name} at fog {number} of {len(places)}: give every fog a device "
                    "that receives its group (one that only receives is dealt out in turn), or pin the "
                    "strategy fog"
                )


def _audience(place: Sequence[Device]) -> dict[int, tuple[Device, ...]]:
    """By a device's number: those of the same fog that want its frames."""
    wanting = {
        group: tuple(
            device for device in place if "*" in device.group.receives or group in device.group.receives
        )
        for group in {device.group.name for device in place}
    }
    audience: dict[int, tuple[Device, ...]] = {}
    for device in place:
        wanted = wanting[device.group.name]
        if not device.group.own_returned:
            wanted = tuple(other for other in wanted if other is not device)
        audience[device.number] = wanted
    return audience
