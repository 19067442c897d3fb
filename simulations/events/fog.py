"""A fog node: it commits uploads in groups, encodes, appends to its log, plans, and may train."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from common.cost_model import Strategy
from common.node.training_rounds import RoundRules
from simulations.events.capacity import ALWAYS
from simulations.events.channel import OwnLane
from simulations.events.device import Device
from simulations.events.encoders import Encoders
from simulations.events.gate import gate
from simulations.events.learner import Learner
from simulations.events.planning import FogPlanner
from simulations.events.run_state import RunState

__all__ = ["Fog"]

COMMIT_FRAMES = 64
"""Uploads of one transaction at most, as limits.commit_frames of a fog's settings."""

QUIET_PLANS = 5
"""Plans after the last event: a strategy changes only after some in a row (planner.switch_plans)."""


class Fog:
    """One fog and its devices.

    Args:
        run: What all parts share.
        number: Of this fog, from 0.
        devices: Its devices.
        audience: By a device's number: those that want its frames, in the order of ``devices``.

    Attributes:
        committed, encoded: Frames so far.
        strategy: Where training runs; None before the first plan.
        published: Detectors published.
        most_waiting: Most frames that waited for encoders.
        switches: Times the strategy changed.
    """

    def __init__(
        self,
        run: RunState,
        number: int,
        devices: Sequence[Device],
        audience: dict[int, tuple[Device, ...]],
    ) -> None:
        scenario = run.scenario
        self._run = run
        self._devices = {device.number: device for device in devices}
        self._audience = audience
        self._settings = scenario.fog
        self._withholds = not scenario.policy.packets_while_fog_trains
        self.encoders = Encoders(run.engine, scenario.fog, run.frames, self._append)
        self._arrived: deque[int] = deque()
        self._committing: tuple[int, ...] = ()
        self._position = 0
        self.committed = self.encoded = self.published = self.switches = 0
        self.most_waiting = 0
        self.strategy: Strategy | None = None
        training = scenario.training
        self.learner = Learner(
            run.engine,
            RoundRules(training.first_frames, training.new_frames, training.max_rounds),
            start_s=training.start_s,
            round_s=lambda frames: training.fog_s,
            on_trained=self._publish,
            refuses=gate(scenario, f"fog {number}"),
        )
        self._in = self._out = None
        if self._settings.uplink_bytes_per_s is not None:
            self._in = OwnLane(run.engine, ALWAYS)
        if self._settings.downlink_bytes_per_s is not None:
            self._out = OwnLane(run.engine, ALWAYS)
        self._planner = FogPlanner(scenario, devices, audience)
        for device in devices:
            device.deliver_upload = self.upload if self._in is None else self._arriving
            device.leaves_fog = None if self._out is None else self._leaving

    @property
    def waiting(self) -> int:
        """Frames that are here and not in the log."""
        return self.uncommitted + self.encoders.unfinished

    @property
    def uncommitted(self) -> int:
        """Frames that have arrived and are not on disk: their devices still hold them."""
        return len(self._arrived) + len(self._committing)

    def start(self) -> None:
        """Workers begin, and so does the planner, unless the strategy is pinned."""
        self.encoders.start()
        policy = self._run.scenario.policy
        if policy.strategy == "planner":
            self._run.engine.every(policy.interval_s, self._plan, QUIET_PLANS)
        else:
            self._follow(Strategy(policy.strategy), 0.0)

    @property
    def link_busy_s(self) -> tuple[float, float]:
        """Seconds that its own connection was at work, in and out; 0 without a limit."""
        return (self._in.busy_s if self._in else 0.0, self._out.busy_s if self._out else 0.0)

    def _arriving(self, now: float, frame: int) -> None:
        """An upload has crossed its device's link and stands in line at the fog's own connection."""
        size = self._run.frames.jpeg_bytes[frame] + self._run.scenario.upload_overhead_bytes
        rate = self._settings.uplink_bytes_per_s
        if self._in is not None and rate is not None:
            self._in.send(now, size / rate, 0.0, self.upload, frame)

    def _leaving(self, now: float, size: float) -> float:
        """When so many bytes, sent now, have left the fog's own connection for a device's link."""
        rate = self._settings.downlink_bytes_per_s
        return now if self._out is None or rate is None else self._out.end(now, size / rate)

    def upload(self, now: float, frame: int) -> None:
        """An upload has arrived."""
        device = self._devices[self._run.frames.device[frame]]
        device.upload_arrived(frame, now)
        limit = self._settings.max_waiting_frames
        waiting = self.waiting
        if limit is not None and waiting >= limit:
            timeline = self._run.timeline
            timeline.add(timeline.columns["refused"], now)
            device.refuse(frame, now, self._settings.retry_s)
            return
        if waiting >= self.most_waiting:
            self.most_waiting = waiting + 1
        self._arrived.append(frame)
        if not self._committing:
            self._commit(now)

    def _commit(self, now: float) -> None:
        """One commit at a time: what arrives meanwhile forms the next group."""
        arrived = self._arrived
        self._committing = tuple(arrived.popleft() for _ in range(min(len(arrived), COMMIT_FRAMES)))
        self._run.engine.at(now + self._settings.commit_s, self._on_disk)

    def _on_disk(self, now: float, _: None) -> None:
        frames, self._committing = self._committing, ()
        run = self._run
        timeline, columns = run.timeline, run.frames
        timeline.add(timeline.columns["uploaded"], now, len(frames))
        self.committed += len(frames)
        answer = run.scenario.control.answer_bytes
        timeline.add(timeline.columns["bytes_down"], now, answer * len(frames))
        for frame in frames:
            columns.uploaded[frame] = now
            device = self._devices[columns.device[frame]]
            device.acknowledged(now)
            device.bytes_down += answer
        if self._arrived:
            self._commit(now)
        self.encoders.committed(frames, now)

    def _append(self, now: float, frame: int) -> None:
        """A frame's record goes to the log, and to those that want it."""
        run = self._run
        columns, timeline = run.frames, run.timeline
        columns.encoded[frame] = now
        timeline.add(timeline.columns["encoded"], now)
        self._position += 1
        self.encoded += 1
        device = self._devices[columns.device[frame]]
        device.encoded += 1
        device.packet_bytes += columns.packet_bytes[frame]
        self._planner.encoded(device, columns.jpeg_bytes[frame], columns.packet_bytes[frame])
        audience = self._audience[device.number]
        timeline.add(timeline.columns["wanted"], now, len(audience))
        for receiver in audience:
            receiver.offer(self._position, frame, now)
        if columns.trained[frame]:
            self.learner.frame(now)

    def _plan(self, now: float, _: None) -> None:
        strategy = self._planner.plan(now, self.encoders.busy_s, self.encoded, self.learner.last_s)
        if strategy is not None and strategy is not self.strategy:
            self._follow(strategy, now)

    def _follow(self, strategy: Strategy, now: float) -> None:
        """The strategy is another one from now on."""
        self.switches += self.strategy is not None
        self.strategy = strategy
        self.learner.allow(strategy is Strategy.FOG, now)
        withheld = strategy is Strategy.FOG and self._withholds
        for device in self._devices.values():
            before, device.withheld = device.withheld, withheld
            if before and not withheld:
                device.push(now)
            if device.learner is not None:
                device.learner.allow(strategy is Strategy.EDGE, now)

    def _publish(self, now: float, seconds: float) -> None:
        """A round of the fog has ended with a detector."""
        run = self._run
        run.finished = max(run.finished, now)
        training = run.scenario.training
        size = training.detector_bytes * (training.changed_share if self.published else 1.0)
        self.published += 1
        for device in self._devices.values():
            if device.learner is not None:
                device.send_weights(size, now)
