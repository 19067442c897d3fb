"""What the communication model is told: devices, what they recorded, and measured rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from common.errors import ConfigError

__all__ = ["LARGEST", "Deployment", "DeviceLoad", "Rates", "check_positive", "check_range"]

LARGEST = 1e18
"""Largest figure taken, an exabyte or 30 billion years: no product of them overflows."""


def check_range(owner: str, **values: float | None) -> None:
    """Refuse a figure that is negative, NaN or above :data:`LARGEST`; None passes.

    Raises:
        ConfigError: Names the figure and whose it is.
    """
    for name, value in values.items():
        if value is not None and not 0 <= value <= LARGEST:
            raise ConfigError(f"{owner} needs {name} between 0 and {LARGEST:g}, not {value}")


def check_positive(owner: str, **values: float | None) -> None:
    """As :func:`check_range`, but 0 is refused as well."""
    for name, value in values.items():
        if value is not None and not 1 / LARGEST <= value <= LARGEST:
            raise ConfigError(f"{owner} needs {name} above 0 and at most {LARGEST:g}, not {value}")


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """What one device records and how many want it.

    Attributes:
        jpeg_bytes: m_k, bytes of all its frames as JPEG, >= 0.
        receivers: n_k, devices that want these frames, >= 0; a mean when it differs from frame to frame.
        frames: How many frames these bytes are, >= 0; 0 when unknown: no seconds, no crossings in frames.
        packet_bytes: Bytes of all its frames as packets when measured; None: alpha * jpeg_bytes.

    Raises:
        ConfigError: A value is negative, NaN or infinite.
    """

    jpeg_bytes: float
    receivers: float
    frames: int = 0
    packet_bytes: float | None = None

    def __post_init__(self) -> None:
        check_range(
            "a device's load",
            jpeg_bytes=self.jpeg_bytes,
            receivers=self.receivers,
            frames=self.frames,
            packet_bytes=self.packet_bytes,
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured rates; None where nothing was measured yet.

    Attributes:
        uplink_bytes_per_s: From one device, B/s, > 0.
        downlink_bytes_per_s: To one device, B/s, > 0.
        shared_medium: All devices share one channel, which carries one direction at a time.
        encode_s_per_frame: Seconds the fog's encoders together need for a frame, >= 0.
        decode_frames_per_s: Frames a second an edge decodes, > 0; None: contained in the training.
        edge_training_s: Seconds of one round at an edge, >= 0.
        fog_training_s: Seconds of one round at the fog, >= 0.
        epochs: Times a round decodes every frame, >= 1.

    Raises:
        ConfigError: A value is out of its range, NaN or infinite.
    """

    uplink_bytes_per_s: float | None = None
    downlink_bytes_per_s: float | None = None
    shared_medium: bool = False
    encode_s_per_frame: float | None = None
    decode_frames_per_s: float | None = None
    edge_training_s: float | None = None
    fog_training_s: float | None = None
    epochs: int = 1

    def __post_init__(self) -> None:
        check_positive(
            "the rates",
            uplink_bytes_per_s=self.uplink_bytes_per_s,
            downlink_bytes_per_s=self.downlink_bytes_per_s,
            decode_frames_per_s=self.decode_frames_per_s,
            epochs=self.epochs,
        )
        check_range(
            "the rates",
            encode_s_per_frame=self.encode_s_per_frame,
            edge_training_s=self.edge_training_s,
            fog_training_s=self.fog_training_s,
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything the model needs.

    Attributes:
        devices: At least one.
        alpha: Packet bytes / JPEG bytes, >= 0; may be None when every device's packet_bytes were measured.
        detector_bytes: W, bytes of the weights as they are sent, >= 0.
        rounds: R, rounds in which weights are sent, >= 0.
        detector_receivers: D, devices that need the detector; None: all devices.
        rates: Measured rates.
        decide_by: "seconds", "bytes", or "auto": seconds once every needed rate is known, else bytes.

    Raises:
        ConfigError: A value is out of its range, or the packets' size is unknown.
    """

    devices: tuple[DeviceLoad, ...]
    alpha: float | None
    detector_bytes: float
    rounds: int = 1
    detector_receivers: int | None = None
    rates: Rates = field(default_factory=Rates)
    decide_by: Literal["auto", "bytes", "seconds"] = "auto"

    def __post_init__(self) -> None:
        if not self.devices:
            raise ConfigError("a deployment needs at least one device")
        check_range(
            "a deployment",
            alpha=self.alpha,
            detector_bytes=self.detector_bytes,
            rounds=self.rounds,
            detector_receivers=self.detector_receivers,
        )
        if self.alpha is None and any(d.packet_bytes is None for d in self.devices):
            raise ConfigError("a deployment needs alpha, or the measured packet bytes of every device")
        if self.decide_by not in ("auto", "bytes", "seconds"):
            raise ConfigError(f"decide_by must be auto, bytes or seconds, not {self.decide_by!r}")

    def packet_bytes(self, device: DeviceLoad) -> float:
        """Bytes of the device's frames as packets: measured, else alpha m_k."""
        if device.packet_bytes is not None:
            return device.packet_bytes
        return (self.alpha or 0.0) * device.jpeg_bytes
