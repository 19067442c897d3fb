"""From measured bytes and rates to the planner's question, and from its answer to who trains (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from common.cost_model import Deployment, DeviceLoad, Plan, Rates, Strategy, plan
from common.errors import ConfigError
from common.wire.messages import Plan as PlanMessage
from common.wire.messages import Report
from fog_node.settings import FogTrainingSettings, PlannerSettings

__all__ = ["Planner", "Tally"]

SMALLEST_RATE = 1e-6
"""Bytes or frames a second, or seconds, below which a reported figure is no measurement."""


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
    """Asks the communication model with what was measured so far.

    Attributes:
        settings: What the model is told beyond measurements.
        training: The pinned strategy, if any.
        epochs: Times a round decodes every frame.
        tallies: Frames by source device.
        subscribers: Source devices that each connected edge receives, by its key; None for all.
        reports: Newest report of each edge, by its key; those of connected edges count.
        detector_bytes: Bytes of the newest published weights, if any.
        encode_s_per_frame: Seconds a frame of all encoders together, if measured.
        fog_training_s: Seconds of the fog's last round, if any.
        newest: The last answer.
    """

    settings: PlannerSettings
    training: FogTrainingSettings
    epochs: int = 1
    tallies: dict[str, Tally] = field(default_factory=dict)
    subscribers: dict[str, frozenset[str] | None] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    detector_bytes: int | None = None
    encode_s_per_frame: float | None = None
    fog_training_s: float | None = None
    newest: Plan | None = None

    @property
    def frames(self) -> int:
        """Frames encoded by all devices."""
        return sum(tally.frames for tally in self.tallies.values())

    def update(self) -> bool:
        """Ask the model again; whether its choice is another one than before."""
        known = bool(self.subscribers) or self.settings.receivers is not None
        if self.frames < self.settings.min_frames or not known:
            return False
        before = self.newest
        try:
            self.newest = plan(self.deployment())
        except ConfigError:
            # Deciding by seconds was asked for, and a rate has not been measured yet.
            return False
        return before is None or before.training is not self.newest.training

    def deployment(self) -> Deployment:
        """The question: the measured deployment."""
        loads = tuple(
            DeviceLoad(
                jpeg_bytes=tally.jpeg_bytes,
                receivers=self._receivers(device),
                frames=tally.frames,
                packet_bytes=tally.packet_bytes,
            )
            for device, tally in sorted(self.tallies.items())
            if tally.frames
        )
        reports = [report for key, report in self.reports.items() if key in self.subscribers]
        rates = Rates(
            uplink_bytes_per_s=_mean([r.uplink_bytes_per_second for r in reports]),
            downlink_bytes_per_s=_mean([r.downlink_bytes_per_second for r in reports]),
            shared_medium=self.settings.shared_medium,
            encode_s_per_frame=self.encode_s_per_frame,
            decode_frames_per_s=_mean([r.decode_frames_per_second for r in reports]),
            edge_training_s=max(_measured([r.training_seconds for r in reports]), default=None),
            fog_training_s=self.fog_training_s,
            epochs=self.epochs,
        )
        return Deployment(
            devices=loads,
            alpha=None,
            detector_bytes=self.detector_bytes or self.settings.detector_bytes,
            rounds=self.settings.rounds,
            detector_receivers=len(self.subscribers) or None,
            rates=rates,
            decide_by=self.settings.decide_by,
        )

    @property
    def strategy(self) -> Strategy | None:
        """Where to train: as pinned, else as planned; None before the first plan."""
        if self.training.strategy != "auto":
            return Strategy(self.training.strategy)
        return None if self.newest is None else self.newest.training

    def message(self) -> PlanMessage | None:
        """What edges are told; None before there is anything to tell."""
        strategy = self.strategy
        if strategy is None:
            return None
        sentence = "" if self.newest is None else self.newest.sentence
        if self.training.strategy != "auto":
            pinned = f"training at the {strategy.value} is pinned by a setting"
            sentence = f"{pinned}; the planner finds: {sentence}" if sentence else pinned
        return PlanMessage(strategy.value, sentence[:2000], train=strategy is Strategy.EDGE)

    def status(self) -> dict[str, Any]:
        """The plan for the status file."""
        strategy = self.strategy
        answer: dict[str, Any] = {
            "training": None if strategy is None else strategy.value,
            "pinned": self.training.strategy != "auto",
        }
        if self.newest is not None:
            answer |= self.newest.to_json()
        return answer

    def _receivers(self, device: str) -> float:
        if self.settings.receivers is not None:
            return self.settings.receivers
        return sum(
            key != device and (devices is None or device in devices)
            for key, devices in self.subscribers.items()
        )


def _measured(values: Sequence[float | None]) -> list[float]:
    """Those that are measurements: an edge may send what it likes, and must not stop the planner with it."""
    return [value for value in values if value is not None and value >= SMALLEST_RATE]


def _mean(values: Sequence[float | None]) -> float | None:
    known = _measured(values)
    return fmean(known) if known else None
