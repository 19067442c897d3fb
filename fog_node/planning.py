"""From measured bytes and rates to the planner's question, and from its answer to who trains (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from common.cost_model import Deployment, DeviceLoad, Plan, Rates, Strategy, plan
from common.errors import ConfigError
from common.planning.audience import with_audience
from common.planning.links import Link
from common.wire.messages import Plan as PlanMessage
from common.wire.messages import Report
from fog_node.hysteresis import Hysteresis
from fog_node.measured import mean, measured_link, measured_node, uniform_rates, within
from fog_node.settings import FogTrainingSettings, PlannerSettings

__all__ = ["Planner", "Tally"]


@dataclass(slots=True)
class Tally:
    """What one device has sent and what became of it.

    Attributes:
        frames: Frames encoded.
        jpeg_bytes: Their bytes as JPEG.
        packet_bytes: Their bytes as packets.
        tombstones: Frames that could not be encoded.
    """

    frames: int = 0
    jpeg_bytes: int = 0
    packet_bytes: int = 0
    tombstones: int = 0


@dataclass(slots=True)
class Planner:
    """Asks the communication model with what was measured so far, and keeps its answer against noise.

    Attributes:
        settings: What the model is told beyond measurements.
        training: The pinned strategy, if any.
        epochs: Times a round decodes every frame.
        batch_frames: Frames that the encoders take up together.
        tallies: Frames by source device.
        subscribers: Source devices that each connected edge receives, by its key; None for all.
        learners: Those of them that take this fog's detectors; None for all. An edge that belongs to another
            fog receives records here and takes its detectors there.
        reports: Newest report of each edge, by its key; those of connected edges count.
        downlinks: Bytes a second that the fog measured towards each edge, by its key.
        downlink_limits: Bytes a second that each edge is sent at most, by its key; None: no bound. A measured
            rate is that of the link while something is on its way, so it does not know of them.
        names: Names of devices by their keys, for sentences; a key without one stands for itself.
        trained_share: Share of the encoded frames that are trained on, if any were counted.
        validation_share: Share of the encoded frames that are held out.
        detector_bytes: Bytes of the newest published weights, if any.
        encode_s_per_frame: Seconds a frame of all encoders together, if measured.
        fog_training_s: Seconds of the fog's last round, if any.
        connected_s: Seconds that the edges have been connected, about.
        newest: The model's last answer.
        hysteresis: Where to train according to the answers so far.
    """

    settings: PlannerSettings
    training: FogTrainingSettings
    epochs: int = 1
    batch_frames: int = 1
    tallies: dict[str, Tally] = field(default_factory=dict)
    subscribers: dict[str, frozenset[str] | None] = field(default_factory=dict)
    learners: frozenset[str] | None = None
    reports: dict[str, Report] = field(default_factory=dict)
    downlinks: dict[str, float | None] = field(default_factory=dict)
    downlink_limits: dict[str, float | None] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    trained_share: float | None = None
    validation_share: float = 0.0
    detector_bytes: int | None = None
    encode_s_per_frame: float | None = None
    fog_training_s: float | None = None
    connected_s: float = 0.0
    newest: Plan | None = None
    hysteresis: Hysteresis = field(init=False)
    _told: PlanMessage | None = field(init=False, default=None)
    _told_in: tuple[Strategy, bool] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.hysteresis = Hysteresis(self.settings.switch_margin, self.settings.switch_plans)

    @property
    def frames(self) -> int:
        """Frames encoded by all devices."""
        return sum(tally.frames for tally in self.tallies.values())

    def update(self) -> bool:
        """Ask the model again; whether the strategy is another one than before."""
        known = bool(self.subscribers) or self.settings.receivers is not None
        if self.frames < self.settings.min_frames or not known:
            return False
        before = self.hysteresis.kept
        try:
            self.newest = plan(self.deployment())
        except ConfigError:
            # Deciding by seconds or joules was asked for, and a rate has not been measured yet.
            return False
        figures = {strategy: self.newest.figure(strategy) for strategy in (Strategy.EDGE, Strategy.FOG)}
        return self.hysteresis.decide(figures) is not before

    def deployment(self) -> Deployment:
        """The question: the measured deployment."""
        settings = self.settings
        reporting = {key: report for key, report in self.reports.items() if key in self.subscribers}
        reports = list(reporting.values())
        decoding, round_s, training = uniform_rates(reports)
        rates = Rates(
            uplink_bytes_per_s=mean([r.uplink_bytes_per_second for r in reports]),
            downlink_bytes_per_s=mean([self._limited(key, rate) for key, rate in self.downlinks.items()])
            or mean([self._limited(key, r.downlink_bytes_per_second) for key, r in reporting.items()]),
            shared_medium=settings.shared_medium,
            encode_s_per_frame=self.encode_s_per_frame,
            decode_frames_per_s=decoding,
            edge_training_s=round_s,
            fog_training_s=self.fog_training_s,
            epochs=self.epochs,
            edge_training_frames_per_s=training,
            encode_batch_frames=self.batch_frames,
        )
        fog_rates = (settings.fog_uplink_bytes_per_s, settings.fog_downlink_bytes_per_s)
        return Deployment(
            devices=self._devices(),
            alpha=None,
            detector_bytes=self.detector_bytes or settings.detector_bytes,
            rounds=settings.rounds,
            detector_receivers=sum(map(self._learns, self.subscribers)) or None,
            rates=rates,
            decide_by=settings.decide_by,
            changed_share=settings.changed_share,
            trained_share=self.trained_share or 1.0,
            fog_link=None if fog_rates == (None, None) else Link(*fog_rates),
            upload_overhead_bytes=settings.upload_overhead_bytes,
            packet_overhead_bytes=settings.packet_overhead_bytes,
            energy=None if settings.energy is None else settings.energy.energy(),
            control=settings.control.traffic(),
            connected_s=self.connected_s,
        )

    @property
    def strategy(self) -> Strategy | None:
        """Where to train: as pinned, else as planned; None before the first plan."""
        if self.training.strategy != "auto":
            return Strategy(self.training.strategy)
        return self.hysteresis.kept

    def message(self) -> PlanMessage | None:
        """What edges are told; None before there is anything to tell.

        It stays the same while the strategy does: a sentence with newer figures is no news to an edge.
        """
        strategy = self.strategy
        if strategy is None:
            return None
        state = (strategy, self.newest is not None)
        if self._told is None or self._told_in != state:
            train = strategy is Strategy.EDGE
            self._told = PlanMessage(strategy.value, self.sentence()[:2000], train=train)
            self._told_in = state
        return self._told

    def sentence(self) -> str:
        """The strategy in force and why, in words; empty before there is one."""
        finding = "" if self.newest is None else self.newest.sentence
        if self._pinned:
            return f"{self._pinned}; the planner finds: {finding}" if finding else self._pinned
        kept, rival = self.hysteresis.kept, self.hysteresis.rival
        if self.newest is None or kept is None or kept is self.newest.training:
            return finding
        if rival is None:
            why = f"another place must be cheaper by {self.settings.switch_margin:.0%}"
        else:
            why = (
                f"another place must be cheaper by {self.settings.switch_margin:.0%} in "
                f"{self.hysteresis.evaluations} plans in a row, which it was in {self.hysteresis.held}"
            )
        return f"training stays at the {kept.value} for now, because {why}; the planner finds: {finding}"

    def status(self) -> dict[str, Any]:
        """The plan for the status file."""
        strategy = self.strategy
        answer: dict[str, Any] = {
            "training": None if strategy is None else strategy.value,
            "pinned": self.training.strategy != "auto",
        }
        if self.newest is None:
            return answer
        newest = self.newest.to_json()
        found = {"planned_training": newest.pop("training"), "sentence": self.sentence()}
        found["would_change_it"] = newest.pop("training_changes")
        newest.pop("changes")
        return answer | newest | found

    @property
    def _pinned(self) -> str:
        """That and where the training is pinned; empty when it is not."""
        if self.training.strategy == "auto":
            return ""
        return f"training at the {self.training.strategy} is pinned by a setting"

    def _devices(self) -> tuple[DeviceLoad, ...]:
        """Every device that has recorded something or is connected."""
        recorded = {key: tally for key, tally in self.tallies.items() if tally.frames}
        keys = sorted(recorded.keys() | self.subscribers.keys())
        devices = [self._device(key, recorded.get(key, Tally())) for key in keys]
        if self.settings.receivers is not None:
            return tuple(devices)
        named = {key: self._name(key) for key in keys}
        wants = {
            named[key]: None if sources is None else [named[s] for s in sources if s in recorded]
            for key, sources in self.subscribers.items()
        }
        heard = tuple(self._fetching(d) for d in with_audience(devices, wants, unheard=True))
        if self.learners is None:
            return heard
        learning = {named[key] for key in keys if self._learns(key)}
        return tuple(replace(device, learns=device.name in learning) for device in heard)

    def _device(self, key: str, tally: Tally) -> DeviceLoad:
        report = self.reports.get(key)
        return DeviceLoad(
            jpeg_bytes=tally.jpeg_bytes,
            receivers=self.settings.receivers or 0.0,
            frames=tally.frames,
            packet_bytes=tally.packet_bytes,
            name=self._name(key),
            link=measured_link(
                report,
                self.downlinks.get(key),
                self.settings.shared_medium,
                limit=self.downlink_limits.get(key),
            ),
            node=measured_node(report),
            learns=self._learns(key) or self.settings.receivers is not None,
        )

    def _limited(self, key: str, rate: float | None) -> float | None:
        return within(rate, self.downlink_limits.get(key))

    def _learns(self, key: str) -> bool:
        return key in self.subscribers and (self.learners is None or key in self.learners)

    def _fetching(self, device: DeviceLoad) -> DeviceLoad:
        """The device with the validation originals that it fetches of what it receives."""
        inbound = device.inbound
        if not device.learns or inbound is None or not inbound.frames:
            return device
        frames = min(float(self.settings.validation_originals), inbound.frames * self.validation_share)
        return replace(device, originals_bytes=inbound.jpeg_bytes / inbound.frames * frames)

    def _name(self, key: str) -> str:
        name = self.names.get(key)
        return f"{name} ({key[:8]})" if name else key
