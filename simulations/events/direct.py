"""Serverless sharing: every device sends its JPEG frames to each receiver itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from simulations.events.channel import SharedLane
from simulations.events.device import Device
from simulations.events.run_state import RunState

__all__ = ["Direct"]


class Direct:
    """The devices around one place, without a fog.

    A copy crosses the sender's uplink and then the receiver's downlink; when both share a medium it crosses
    that once. A frame leaves the outbox when its last copy has left the device.

    Args:
        run: What all parts share.
        devices: The devices.
        audience: By a device's number: those that want its frames.
    """

    def __init__(
        self, run: RunState, devices: Sequence[Device], audience: Mapping[int, Sequence[Device]]
    ) -> None:
        self._run = run
        self._audience = {number: _turned(number, wanted) for number, wanted in audience.items()}
        self._devices = {device.number: device for device in devices}
        for device in devices:
            device.deliver_upload = self._first_leg
            device.withheld = True

    def start(self) -> None:
        """Devices may train on what they receive from the beginning."""
        for device in self._devices.values():
            if device.learner is not None:
                device.learner.allow(True, 0.0)

    def _first_leg(self, now: float, frame: int) -> None:
        """The first copy has left its device: it is the upload of the outbox's window, the others follow."""
        run = self._run
        device = self._devices[run.frames.device[frame]]
        wanted = self._audience[device.number]
        timeline = run.timeline
        timeline.add(timeline.columns["uploaded"], now)
        timeline.add(timeline.columns["wanted"], now, len(wanted))
        run.frames.uploaded[frame] = run.frames.encoded[frame] = now
        if not wanted:
            device.acknowledged(now)
            return
        device.upload_arrived(frame, now)
        self._second_leg(device, wanted[0], frame, now, last=len(wanted) == 1)
        for receiver in wanted[1:]:
            done = partial(self._copy, device, receiver, receiver is wanted[-1])
            device.up.send(now, device.upload_seconds(frame), device.group.link.latency_s, done, frame)

    def _copy(self, device: Device, receiver: Device, last: bool, now: float, frame: int) -> None:
        device.upload_arrived(frame, now)
        self._second_leg(device, receiver, frame, now, last=last)

    def _second_leg(self, device: Device, receiver: Device, frame: int, now: float, *, last: bool) -> None:
        if last:
            device.acknowledged(now)
        receiver.wanted += 1
        shared = device.group.link.medium
        if shared is not None and shared == receiver.group.link.medium and isinstance(device.up, SharedLane):
            self._delivered(receiver, now, frame)
            return
        size = self._run.frames.jpeg_bytes[frame] + self._run.scenario.upload_overhead_bytes
        done = partial(self._delivered, receiver)
        receiver.down.send(now, receiver.download_seconds(size), receiver.group.link.latency_s, done, frame)

    def _delivered(self, receiver: Device, now: float, frame: int) -> None:
        receiver.bytes_down += self._run.frames.jpeg_bytes[frame] + self._run.scenario.upload_overhead_bytes
        receiver.delivered_copy(frame, now)


def _turned(number: int, wanted: Sequence[Device]) -> list[Device]:
    """The receivers of a device, beginning with the one after it.

    If all began with the same one, its downlink would hold up everything.
    """
    others = [device for device in wanted if device.number != number]
    return [device for device in others if device.number > number] + [
        device for device in others if device.number < number
    ]
