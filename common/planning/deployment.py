"""What the communication model is told: devices, what they recorded, who wants it, and measured rates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from common.errors import ConfigError
from common.planning.checks import LARGEST, check_positive, check_range, check_share
from common.planning.control import ControlTraffic
from common.planning.energy import Energy
from common.planning.links import SHARED_CHANNEL, Link
from common.planning.node_rates import NodeRates

__all__ = [
    "LARGEST",
    "DecideBy",
    "Deployment",
    "DeviceLoad",
    "Inbound",
    "Rates",
    "check_positive",
    "check_range",
]

DecideBy = Literal["auto", "bytes", "seconds", "joules"]
"""What decides; auto: seconds once every needed rate is known, else bytes."""

INBOUND_TOLERANCE = 0.01
"""Share by which what devices receive may differ from what is sent to them: means are rounded."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """What one device wants of the others; :func:`common.planning.audience.with_audience` computes it.

    Attributes:
        jpeg_bytes: Bytes of the wanted frames as JPEG, >= 0.
        packet_bytes: Bytes of the same frames as packets, >= 0; None: alpha * jpeg_bytes.
        frames: How many frames these are, >= 0.

    Raises:
        ConfigError: A value is negative, NaN or infinite.
    """

    jpeg_bytes: float
    packet_bytes: float | None = None
    frames: float = 0.0

    def __post_init__(self) -> None:
        check_range(
            "what a device receives",
            jpeg_bytes=self.jpeg_bytes,
            packet_bytes=self.packet_bytes,
            frames=self.frames,
        )


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """One device, or ``count`` equal ones: what it records, who wants it, and what it can do.

    A device that only records has ``learns=False``; one that only learns has ``jpeg_bytes=0``.

    Attributes:
        jpeg_bytes: m_k, bytes of all its frames as JPEG, >= 0.
        receivers: n_k, devices that want these frames, >= 0; a mean when it differs from frame to frame.
        frames: How many frames these bytes are, >= 0; 0 when unknown: no seconds, no crossings in frames.
        packet_bytes: Bytes of all its frames as packets when measured; None: alpha * jpeg_bytes.
        count: Devices like this one, >= 1; every other figure is that of one of them.
        name: What to call it when it is what binds; empty: "a device".
        link: Its link; None: that of :class:`Rates`.
        node: How quickly it decodes and trains; None: as :class:`Rates` says.
        inbound: What it wants of the others; None for all devices: what is wanted is spread evenly over those
            that learn. A device that does not learn may want some all the same, to show or keep them.
        learns: Whether it trains, or needs the detector that the fog trains.
        own_returned: Whether the fog sends it the packets of its own frames too, because it trains on them.
        originals_bytes: v_k, bytes of other devices' validation originals that it fetches from the fog, >= 0.

    Raises:
        ConfigError: A value is negative, NaN or infinite.
    """

    jpeg_bytes: float
    receivers: float
    frames: int = 0
    packet_bytes: float | None = None
    count: int = 1
    name: str = ""
    link: Link | None = None
    node: NodeRates | None = None
    inbound: Inbound | None = None
    learns: bool = True
    own_returned: bool = False
    originals_bytes: float = 0.0

    def __post_init__(self) -> None:
        check_range(
            "a device's load",
            jpeg_bytes=self.jpeg_bytes,
            receivers=self.receivers,
            frames=self.frames,
            packet_bytes=self.packet_bytes,
            originals_bytes=self.originals_bytes,
        )
        if not 1 <= self.count <= LARGEST:
            raise ConfigError(f"a device's load needs count of at least 1, not {self.count}")


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured rates of the fog and of the devices that have none of their own; None: not measured yet.

    Attributes:
        uplink_bytes_per_s: From one device, B/s, > 0.
        downlink_bytes_per_s: To one device, B/s, > 0.
        shared_medium: The devices without a link of their own share one channel, which carries one direction
            at a time.
        encode_s_per_frame: Seconds the fog's encoders together need for a frame, >= 0.
        decode_frames_per_s: Frames a second an edge decodes, > 0; None: contained in the training.
        edge_training_s: Seconds of one round at an edge, >= 0.
        fog_training_s: Seconds of one round at the fog, >= 0; its decoding is contained.
        epochs: Times a round decodes every frame, >= 1.
        latency_s: As :attr:`common.planning.links.Link.latency_s`.
        goodput: As :attr:`common.planning.links.Link.goodput`.
        edge_training_frames_per_s: Frames a second an edge trains on, > 0; instead of ``edge_training_s``.
        fog_training_frames_per_s: The same of the fog, > 0; instead of ``fog_training_s``.
        encode_batch_frames: Frames that the encoders take up together, >= 1: none of them leaves before all.

    Raises:
        ConfigError: A value is out of its range, NaN or infinite, or the length of a training is told twice.
    """

    uplink_bytes_per_s: float | None = None
    downlink_bytes_per_s: float | None = None
    shared_medium: bool = False
    encode_s_per_frame: float | None = None
    decode_frames_per_s: float | None = None
    edge_training_s: float | None = None
    fog_training_s: float | None = None
    epochs: int = 1
    latency_s: float = 0.0
    goodput: float = 1.0
    edge_training_frames_per_s: float | None = None
    fog_training_frames_per_s: float | None = None
    encode_batch_frames: int = 1

    def __post_init__(self) -> None:
        check_positive(
            "the rates",
            uplink_bytes_per_s=self.uplink_bytes_per_s,
            downlink_bytes_per_s=self.downlink_bytes_per_s,
            decode_frames_per_s=self.decode_frames_per_s,
            epochs=self.epochs,
            edge_training_frames_per_s=self.edge_training_frames_per_s,
            fog_training_frames_per_s=self.fog_training_frames_per_s,
            encode_batch_frames=self.encode_batch_frames,
        )
        check_range(
            "the rates",
            encode_s_per_frame=self.encode_s_per_frame,
            edge_training_s=self.edge_training_s,
            fog_training_s=self.fog_training_s,
            latency_s=self.latency_s,
        )
        check_share("the rates", goodput=self.goodput)
        for node in ("edge", "fog"):
            told = [getattr(self, f"{node}_training_s"), getattr(self, f"{node}_training_frames_per_s")]
            if None not in told:
                raise ConfigError(
                    f"the rates have {node}_training_s and {node}_training_frames_per_s; give one of them"
                )

    @property
    def link(self) -> Link:
        """The link of a device that has none of its own."""
        return Link(
            self.uplink_bytes_per_s,
            self.downlink_bytes_per_s,
            self.latency_s,
            self.goodput,
            SHARED_CHANNEL if self.shared_medium else "",
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything the model needs.

    Attributes:
        devices: At least one.
        alpha: Packet bytes / JPEG bytes, >= 0; may be None when every device's packet_bytes were measured.
        detector_bytes: W, bytes of the whole detector's weights as they are sent, >= 0.
        rounds: R, rounds in which weights are sent, >= 0.
        detector_receivers: D, devices that need the detector; None: all that learn.
        rates: Measured rates.
        decide_by: What decides; "auto": seconds once every needed rate is known, else bytes.
        changed_share: c, share of W that a round after the first sends: 1 when the whole detector travels
            each time, less when only its changed tensors do.
        trained_share: Share of the frames that are trained on: labelled and not held out.
        fog_link: What the fog's own connection carries for all devices together: up towards the fog, down
            from it; None: more than enough. Its latency and medium do not count.
        upload_overhead_bytes: Bytes beside the image in the message of a frame, >= 0.
        packet_overhead_bytes: Bytes beside the packet in its message, >= 0.
        energy: What the nodes draw; None: joules are not asked for.
        control: What connections to the fog cost beside frames and records.
        connected_s: Seconds that each device is connected, for its heartbeats, >= 0.

    Raises:
        ConfigError: A value is out of its range, the packets' size is unknown, or what devices receive is
            not what is sent to them.
    """

    devices: tuple[DeviceLoad, ...]
    alpha: float | None
    detector_bytes: float
    rounds: int = 1
    detector_receivers: int | None = None
    rates: Rates = field(default_factory=Rates)
    decide_by: DecideBy = "auto"
    changed_share: float = 1.0
    trained_share: float = 1.0
    fog_link: Link | None = None
    upload_overhead_bytes: float = 0.0
    packet_overhead_bytes: float = 0.0
    energy: Energy | None = None
    control: ControlTraffic = field(default_factory=ControlTraffic)
    connected_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.devices:
            raise ConfigError("a deployment needs at least one device")
        check_range(
            "a deployment",
            alpha=self.alpha,
            detector_bytes=self.detector_bytes,
            rounds=self.rounds,
            detector_receivers=self.detector_receivers,
            changed_share=self.changed_share,
            upload_overhead_bytes=self.upload_overhead_bytes,
            packet_overhead_bytes=self.packet_overhead_bytes,
            connected_s=self.connected_s,
        )
        check_share("a deployment", trained_share=self.trained_share)
        if self.changed_share > 1:
            raise ConfigError(f"a deployment needs changed_share between 0 and 1, not {self.changed_share}")
        if self.alpha is None and any(d.packet_bytes is None for d in self.devices):
            raise ConfigError("a deployment needs alpha, or the measured packet bytes of every device")
        if self.decide_by not in ("auto", "bytes", "seconds", "joules"):
            raise ConfigError(f"decide_by must be auto, bytes, seconds or joules, not {self.decide_by!r}")
        if self.decide_by == "joules" and self.energy is None:
            raise ConfigError("deciding by joules needs the energy of the nodes; give it or decide by bytes")
        self._check_inbound()

    def _check_inbound(self) -> None:
        known = sum(d.inbound is not None for d in self.devices)
        if not known:
            return
        if known < len(self.devices):
            raise ConfigError(
                "a deployment needs what each device receives (inbound): of all devices or of none"
            )
        if self.alpha is None and any(d.inbound and d.inbound.packet_bytes is None for d in self.devices):
            raise ConfigError("a deployment needs alpha, or the packet bytes that every device receives")
        sent = math.fsum(d.jpeg_bytes * d.receivers * d.count for d in self.devices)
        taken = math.fsum(d.inbound.jpeg_bytes * d.count for d in self.devices if d.inbound is not None)
        if not math.isclose(sent, taken, rel_tol=INBOUND_TOLERANCE):
            raise ConfigError(
                f"the devices want {taken:g} bytes of JPEG, but their receivers are sent {sent:g}; "
                "let common.planning.audience.with_audience compute both"
            )

    def packet_bytes(self, device: DeviceLoad) -> float:
        """Bytes of the device's frames as packets: measured, else alpha m_k."""
        if device.packet_bytes is not None:
            return device.packet_bytes
        return (self.alpha or 0.0) * device.jpeg_bytes

    def detector_sent(self) -> float:
        """Bytes of weights that one device receives in all rounds: W (1 + (R - 1) c), 0 without rounds."""
        if not self.rounds:
            return 0.0
        return self.detector_bytes * (1 + (self.rounds - 1) * self.changed_share)
