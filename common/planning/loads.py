"""Sums and slowest links of a deployment, gathered in two passes over its devices."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from common.planning.deployment import Deployment, DeviceLoad

__all__ = ["Channel", "Loads", "Round", "Slowest"]


@dataclass(slots=True)
class Slowest:
    """The slowest of some stages that run beside each other.

    Attributes:
        seconds: Of the slowest; None once one of them is unknown.
        one: Most seconds of one frame in any of them.
        device: Name of the slowest, or of an unknown one.
    """

    seconds: float | None = 0.0
    one: float = 0.0
    device: str = ""

    def add(self, amount: float, rate: float | None, frames: float, device: str) -> None:
        """One of them moves ``amount`` bytes, of ``frames`` messages, at ``rate`` bytes a second."""
        if not amount or self.seconds is None:
            return
        if rate is None:
            self.seconds, self.device = None, device
            return
        seconds = amount / rate
        if seconds > self.seconds:
            self.seconds, self.device = seconds, device
        if frames:
            one = seconds / frames if frames > 1 else seconds
            if one > self.one:
                self.one = one


@dataclass(slots=True)
class Channel:
    """Load of one shared medium, on which one device sends or receives at a time.

    Attributes:
        up, down: Seconds in both directions of all members together; None once a rate is unknown.
        up_one, down_one: Most seconds of one frame in each direction.
    """

    up: float | None = 0.0
    down: float | None = 0.0
    up_one: float = 0.0
    down_one: float = 0.0

    def add_up(self, amount: float, rate: float | None, frames: float, count: float) -> None:
        """``count`` members send ``amount`` bytes each."""
        if not amount or self.up is None:
            return
        if rate is None:
            self.up = None
            return
        self.up += amount / rate * count
        if frames > 0:
            self.up_one = max(self.up_one, amount / rate / max(frames, 1.0))

    def add_down(self, amount: float, rate: float | None, frames: float, count: float) -> None:
        """``count`` members receive ``amount`` bytes each."""
        if not amount or self.down is None:
            return
        if rate is None:
            self.down = None
            return
        self.down += amount / rate * count
        if frames > 0:
            self.down_one = max(self.down_one, amount / rate / max(frames, 1.0))


@dataclass(frozen=True, slots=True)
class Round:
    """One round of training at one learner.

    Attributes:
        decoding: Seconds of decoding.
        training: Seconds of training; None when some learner's are unknown.
        device: Name of the learner.
        by_frames: Whether the training grows with the frames.
    """

    decoding: float = 0.0
    training: float | None = 0.0
    device: str = ""
    by_frames: bool = True


@dataclass(slots=True)
class _Links:
    """Load of all links in one strategy."""

    up: Slowest = field(default_factory=Slowest)
    down: Slowest = field(default_factory=Slowest)
    channels: dict[str, Channel] = field(default_factory=dict)


class Loads:
    """What the devices of a deployment send, receive and compute in each strategy.

    Attributes:
        devices: Number of devices.
        learners: Those of them that learn.
        recorded: Sum m_k, bytes; message overheads are contained in all bytes here.
        wanted: Sum m_k n_k, bytes.
        packets: Bytes of packets sent to receivers, those of own frames included.
        packets_recorded: Bytes of all packets once.
        frames: Frames recorded; None when some device's are unknown.
        own_packets: Bytes of packets that go back to the devices that recorded the frames.
        originals: Bytes of validation originals that learners fetch.
        answers: Bytes of the fog's answers to uploads.
        connections_up, connections_down: Bytes of handshakes and heartbeats.
        weights: Bytes of weights sent to all devices that need the detector.
        serverless: Links when JPEG goes from device to device.
        edge: Links when JPEG goes up and packets come down.
        fog_down: Links on which detectors come down.
        slowest: The round of the learner that takes longest.
        decoding_sum, training_sum: Of all learners together.
        latency_s: Largest latency of a link.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        # Equal devices are often one object many times: each is looked at once.
        by_id = {id(device): device for device in deployment.devices}
        repeated = Counter(map(id, deployment.devices))
        self._groups = [(device, repeated[key] * device.count) for key, device in by_id.items()]
        self.devices: float = sum(count for _, count in self._groups)
        self.learners: float = sum(count for device, count in self._groups if device.learns)
        self._sum_up()
        self._gather()

    def _sum_up(self) -> None:
        deployment = self._deployment
        over_up, over_packet = deployment.upload_overhead_bytes, deployment.packet_overhead_bytes
        recorded: list[float] = []
        wanted: list[float] = []
        sent: list[float] = []
        own: list[float] = []
        once: list[float] = []
        frames = wanted_frames = 0.0
        known = True
        self._by_medium: dict[str, float] = {}
        self._bytes: list[tuple[float, float]] = []
        default = deployment.rates.link
        for device, count in self._groups:
            known = known and bool(device.frames or not device.jpeg_bytes)
            jpeg = device.jpeg_bytes + over_up * device.frames
            packet = deployment.packet_bytes(device) + over_packet * device.frames
            self._bytes.append((jpeg, packet))
            jpeg, packet = jpeg * count, packet * count
            recorded.append(jpeg)
            wanted.append(jpeg * device.receivers)
            once.append(packet)
            sent.append(packet * device.receivers)
            if device.own_returned:
                own.append(packet)
            frames += device.frames * count
            wanted_frames += device.frames * count * device.receivers
            medium = (device.link or default).medium
            if medium:
                self._by_medium[medium] = self._by_medium.get(medium, 0.0) + jpeg * device.receivers
        self.recorded = math.fsum(recorded)
        self.wanted = math.fsum(wanted)
        self.own_packets = math.fsum(own)
        self.packets = math.fsum(sent) + self.own_packets
        self.originals = math.fsum(d.originals_bytes * count for d, count in self._groups if d.learns)
        self.packets_recorded = math.fsum(once)
        self.frames: float | None = frames if known else None
        self._wanted_frames = wanted_frames
        self.answers = deployment.control.answer_bytes * frames
        self.connections_up = self.connections_down = 0.0
        for device, count in self._groups:
            up, down = deployment.control.connection(device.frames, deployment.connected_s)
            self.connections_up += up * count
            self.connections_down += down * count
        needed = self.learners if deployment.detector_receivers is None else deployment.detector_receivers
        self.weights = deployment.detector_sent() * needed
        self._weights_share = needed / self.learners if self.learners else 0.0

    def _gather(self) -> None:
        deployment, rates = self._deployment, self._deployment.rates
        self.serverless, self.edge, self.fog_down = _Links(), _Links(), _Links()
        self.slowest = Round()
        self.decoding_sum = self.training_sum = 0.0
        self.latency_s = 0.0
        default = rates.link
        over_up, over_packet = deployment.upload_overhead_bytes, deployment.packet_overhead_bytes
        alpha = deployment.alpha or 0.0
        share = 1 / self.learners if self.learners else 0.0
        even = (
            self.wanted * share,
            (self.packets - self.own_packets) * share,
            self._wanted_frames * share,
        )
        passes = rates.epochs * deployment.trained_share
        weights = deployment.detector_sent() if self._weights_share else 0.0
        edge_up, edge_down = self.edge.up, self.edge.down
        less_up, less_down = self.serverless.up, self.serverless.down
        for (device, count), (jpeg, packet) in zip(self._groups, self._bytes, strict=True):
            link, name = device.link or default, device.name
            up = default.up if link.uplink_bytes_per_s is None else link.up
            down = default.down if link.downlink_bytes_per_s is None else link.down
            if link.latency_s > self.latency_s:
                self.latency_s = link.latency_s
            frames = device.frames
            outgoing = jpeg * device.receivers
            if device.inbound is None:
                incoming, packets, frames_in = even if device.learns else (0.0, 0.0, 0.0)
            else:
                inbound = device.inbound
                frames_in = inbound.frames
                incoming = inbound.jpeg_bytes + over_up * frames_in
                measured = inbound.packet_bytes
                packets = alpha * inbound.jpeg_bytes if measured is None else measured
                packets += over_packet * frames_in
            learned = frames_in
            packet_frames = frames_in
            if device.own_returned:
                packets += packet
                packet_frames += frames
                learned += frames
            if device.learns:
                packets += device.originals_bytes
            if link.medium:
                # Members hear each other: what they send to each other crosses the medium once.
                outside = 1 - self._by_medium[link.medium] / self.wanted if self.wanted else 0.0
                channel = self.serverless.channels.setdefault(link.medium, Channel())
                channel.add_up(outgoing, up, 0, count)
                channel.add_down(incoming * max(0.0, outside), down, 0, count)
                channel = self.edge.channels.setdefault(link.medium, Channel())
                channel.add_up(jpeg, up, frames, count)
                channel.add_down(packets, down, packet_frames, count)
                if device.learns:
                    channel = self.fog_down.channels.setdefault(link.medium, Channel())
                    channel.add_down(weights * self._weights_share, down, 0, count)
            else:
                less_up.add(outgoing, up, 0, name)
                less_down.add(incoming, down, 0, name)
                edge_up.add(jpeg, up, frames, name)
                edge_down.add(packets, down, packet_frames, name)
                if device.learns:
                    self.fog_down.down.add(weights, down, 0, name)
            if device.learns:
                self._learning(device, learned * passes, count)

    def _learning(self, device: DeviceLoad, frames: float, count: float) -> None:
        """Add one learner's round, in which it decodes ``frames`` and trains on them."""
        rates, node = self._deployment.rates, device.node
        rate = rates.decode_frames_per_s
        seconds, per_s = rates.edge_training_s, rates.edge_training_frames_per_s
        if node is not None:
            if node.training_s is not None or node.training_frames_per_s is not None:
                # Without a rate of its own, decoding is contained in its training.
                rate, seconds, per_s = node.decode_frames_per_s, node.training_s, node.training_frames_per_s
            else:
                rate = node.decode_frames_per_s or rate
        decoding = frames / rate if rate is not None else 0.0
        if per_s is not None:
            seconds = frames / per_s if self.frames is not None else None
        self.decoding_sum += decoding * count
        self.training_sum += (seconds or 0.0) * count
        before = self.slowest
        if before.training is None:
            return
        if seconds is None or decoding + seconds > before.decoding + before.training:
            self.slowest = Round(decoding, seconds, device.name, per_s is not None)
