"""The product's planner, fed with what the simulated fog measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.cost_model import Strategy
from common.wire.messages import Report
from fog_node.planning import Planner, Tally
from fog_node.settings import FogTrainingSettings, PlannerSettings
from simulations.events.device import Device
from simulations.events.scenario import EventScenario

__all__ = ["FogPlanner"]


class FogPlanner:
    """The plan of one fog.

    Args:
        scenario: What is simulated.
        devices: Of this fog.
        audience: By a device's number: those that want its frames.
    """

    def __init__(
        self, scenario: EventScenario, devices: Sequence[Device], audience: Mapping[int, Sequence[Device]]
    ) -> None:
        policy, training = scenario.policy, scenario.training
        self._scenario = scenario
        self._devices = devices
        shared = {device.group.link.medium for device in devices}
        self._planner = Planner(
            PlannerSettings(
                decide_by=policy.decide_by,
                interval_s=policy.interval_s,
                min_frames=policy.min_frames,
                detector_bytes=max(1, round(training.detector_bytes)),
                rounds=max(1, training.max_rounds or 1),
                changed_share=training.changed_share,
                upload_overhead_bytes=scenario.upload_overhead_bytes,
                packet_overhead_bytes=scenario.packet_overhead_bytes,
                control=scenario.control,
                shared_medium=len(shared) == 1 and None not in shared,
                fog_uplink_bytes_per_s=scenario.fog.uplink_bytes_per_s,
                fog_downlink_bytes_per_s=scenario.fog.downlink_bytes_per_s,
                energy=scenario.energy,
            ),
            FogTrainingSettings(),
            epochs=training.epochs,
            batch_frames=scenario.fog.batch_frames,
            trained_share=1 - training.held_out / training.validation_block or None,
        )
        wants: dict[int, set[str]] = {device.number: set() for device in devices}
        for device in devices:
            for receiver in audience[device.number]:
                wants[receiver.number].add(device.name)
        everyone = {device.name for device in devices if audience[device.number]}
        for device in devices:
            heard = wants[device.number]
            if device.learner is not None or heard:
                self._planner.subscribers[device.name] = None if heard >= everyone else frozenset(heard)

    def encoded(self, device: Device, jpeg_bytes: int, packet_bytes: int) -> None:
        """A frame of a device has been encoded."""
        tally = self._planner.tallies.get(device.name)
        if tally is None:
            tally = self._planner.tallies[device.name] = Tally()
        tally.frames += 1
        tally.jpeg_bytes += jpeg_bytes
        tally.packet_bytes += packet_bytes

    def plan(
        self, now: float, encoding_s: float, encoded: int, fog_training_s: float | None
    ) -> Strategy | None:
        """Ask the planner again; where to train, None while it cannot tell.

        Args:
            now: Time, seconds.
            encoding_s: Seconds of encoding by all workers.
            encoded: Frames encoded.
            fog_training_s: Seconds of the fog's last round, if any.
        """
        planner = self._planner
        if encoded:
            planner.encode_s_per_frame = encoding_s / encoded / self._scenario.fog.workers
        planner.fog_training_s = fog_training_s
        planner.connected_s = now
        for device in self._devices:
            if device.name in planner.subscribers:
                planner.reports[device.name] = self._report(device, now)
        planner.update()
        return planner.strategy

    def _report(self, device: Device, now: float) -> Report:
        """What the edge's meters show: the rates while its link is busy now."""
        link = device.group.link
        training = self._scenario.training
        return Report(
            decode_frames_per_second=training.decode_frames_per_s,
            training_seconds=None if device.learner is None else device.learner.last_s,
            latency_seconds=link.latency_s,
            uplink_bytes_per_second=link.uplink_bytes_per_s * link.goodput * device.up.share(now) or None,
            downlink_bytes_per_second=link.downlink_bytes_per_s * link.goodput * device.down.share(now)
            or None,
        )
