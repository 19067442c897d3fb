"""A scenario for the cost model: equal devices, what they record, and measured rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from common.config import Settings, load_settings, parse_settings
from common.cost_model import Deployment, DeviceLoad, Link, Rates
from common.errors import ConfigError, UsageError
from common.planning.energy_settings import EnergySettings

__all__ = [
    "CostScenario",
    "RateSettings",
    "SweptScenario",
    "find_scenario",
    "load_cost_scenario",
    "parse_over",
    "swept",
]

SHIPPED = Path(__file__).parent / "scenarios"
"""The scenarios that come with the product."""

MOST_POINTS = 10_000
"""Most scenarios of one sweep."""


class RateSettings(Settings):
    """Measured rates; null where unknown."""

    uplink_bytes_per_s: float | None = Field(None, ge=1e-3, le=1e15, description="B/s from one device")
    downlink_bytes_per_s: float | None = Field(None, ge=1e-3, le=1e15, description="B/s to one device")
    shared_medium: bool = Field(False, description="all devices share one channel, one direction at a time")
    encode_s_per_frame: float | None = Field(
        None, ge=0, le=1e9, description="seconds a frame, all of the fog's encoders together"
    )
    decode_frames_per_s: float | None = Field(
        None, ge=1e-6, le=1e9, description="frames a second that an edge decodes; null: part of the training"
    )
    edge_training_s: float | None = Field(None, ge=0, le=1e9, description="seconds of a round at an edge")
    fog_training_s: float | None = Field(None, ge=0, le=1e9, description="seconds of a round at the fog")
    epochs: int = Field(1, ge=1, le=1_000_000, description="times a round decodes every frame")
    latency_s: float = Field(0.0, ge=0, le=1e6, description="seconds of a small message from end to end")
    goodput: float = Field(
        1.0,
        ge=1e-6,
        le=1,
        description="share of both rates that losses leave; 1 when the rates were measured",
    )
    edge_training_frames_per_s: float | None = Field(
        None, ge=1e-6, le=1e9, description="frames a second an edge trains on; instead of edge_training_s"
    )
    fog_training_frames_per_s: float | None = Field(
        None, ge=1e-6, le=1e9, description="frames a second the fog trains on; instead of fog_training_s"
    )
    encode_batch_frames: int = Field(
        1, ge=1, le=100_000, description="frames that the fog's encoders take up together"
    )


class CostScenario(Settings):
    """K equal devices that share their frames."""

    name: str = Field(min_length=1, max_length=200, description="title of the plots")
    devices: int = Field(ge=1, le=1_000_000, description="K, devices that record and learn")
    receivers: float | None = Field(
        None, ge=0, le=1e6, description="n, devices that want each frame; null: all the others"
    )
    frames_per_device: int = Field(ge=0, le=10**12, description="frames that each device records")
    jpeg_bytes_per_frame: float = Field(ge=0, le=1e12, description="b, bytes of a recorded JPEG")
    alpha: float = Field(ge=0, le=1e6, description="packet bytes / JPEG bytes")
    detector_bytes: float = Field(ge=0, le=1e15, description="W, bytes of the detector's weights")
    rounds: int = Field(1, ge=0, le=1_000_000, description="R, rounds in which weights are sent")
    detector_receivers: int | None = Field(
        None, ge=0, le=1_000_000, description="D, devices that need the detector; null: all"
    )
    changed_share: float = Field(
        1.0, ge=0, le=1, description="c, share of W that rounds after the first send; 1: all of it"
    )
    upload_overhead_bytes: float = Field(
        0.0, ge=0, le=1e9, description="bytes of a frame's message beside it"
    )
    packet_overhead_bytes: float = Field(
        0.0, ge=0, le=1e9, description="bytes of a packet's message beside it"
    )
    fog_uplink_bytes_per_s: float | None = Field(
        None, ge=1e-3, le=1e15, description="B/s to the fog from all devices together; null: enough"
    )
    fog_downlink_bytes_per_s: float | None = Field(
        None, ge=1e-3, le=1e15, description="B/s from the fog to all devices together; null: enough"
    )
    energy: EnergySettings | None = Field(
        None, description="what the nodes draw; null: joules are not asked for"
    )
    decide_by: Literal["auto", "bytes", "seconds", "joules"] = Field(
        "auto", description="auto: by seconds once every rate is known, else by bytes"
    )
    rates: RateSettings = Field(default_factory=RateSettings, description="measured rates")

    def deployment(self) -> Deployment:
        """The cost model's input.

        Raises:
            ConfigError: The scenario's figures together are beyond the model's range.
        """
        receivers = self.devices - 1 if self.receivers is None else self.receivers
        load = DeviceLoad(
            self.jpeg_bytes_per_frame * self.frames_per_device,
            receivers,
            self.frames_per_device,
            count=self.devices,
        )
        fog_rates = (self.fog_uplink_bytes_per_s, self.fog_downlink_bytes_per_s)
        return Deployment(
            devices=(load,),
            alpha=self.alpha,
            detector_bytes=self.detector_bytes,
            rounds=self.rounds,
            detector_receivers=self.detector_receivers,
            rates=Rates(**self.rates.model_dump()),
            decide_by=self.decide_by,
            changed_share=self.changed_share,
            fog_link=None if fog_rates == (None, None) else Link(*fog_rates),
            upload_overhead_bytes=self.upload_overhead_bytes,
            packet_overhead_bytes=self.packet_overhead_bytes,
            energy=None if self.energy is None else self.energy.energy(),
        )


SweptScenario = tuple[dict[str, Any], CostScenario]
"""The values set by the sweep, by key, and the scenario with them."""


def find_scenario(path: str | Path) -> Path:
    """The file of a scenario; a bare name such as ``city.yaml`` also finds the shipped ones."""
    path = Path(path)
    if not path.exists() and path.name == str(path) and (SHIPPED / path.name).exists():
        return SHIPPED / path.name
    return path


def load_cost_scenario(path: str | Path) -> CostScenario:
    """Read a scenario file; a bare name such as ``papers.yaml`` also finds the shipped ones.

    Raises:
        ConfigError: The file cannot be read, or holds an unknown key or a bad value.
    """
    return load_settings(find_scenario(path), CostScenario)


def parse_over(arguments: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """``["devices=2,5", "rates.shared_medium=true"]`` as keys with their values.

    Raises:
        UsageError: An argument is not ``key=a,b,c``, or a key comes twice.
    """
    axes: list[tuple[str, list[Any]]] = []
    for argument in arguments:
        key, sign, values = argument.partition("=")
        if not sign or not key or not all(part.strip() for part in values.split(",")):
            raise UsageError(f"--over takes key=a,b,c, not {argument!r}; for example --over devices=2,5,10")
        if key in dict(axes):
            raise UsageError(f"--over names the key {key!r} twice; give all its values in one --over")
        try:
            axes.append((key, [_scalar(part) for part in values.split(",")]))
        except yaml.YAMLError:
            raise UsageError(f"--over {argument!r} has a value that is no YAML scalar") from None
    return axes


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        # YAML 1.1 reads 2e6 as text.
        try:
            return float(value)
        except ValueError:
            return value
    return value


def swept(scenario: CostScenario, axes: Sequence[tuple[str, Iterable[Any]]]) -> Iterator[SweptScenario]:
    """Every combination of the values, the last key running fastest.

    Raises:
        ConfigError: A key is unknown or a value is out of range.
        UsageError: More than :data:`MOST_POINTS` combinations.
    """
    keys = [key for key, _ in axes]
    values = [list(v) for _, v in axes]
    count = 1
    for choices in values:
        count *= len(choices)
    if count > MOST_POINTS:
        raise UsageError(f"--over asks for {count:,} scenarios, at most {MOST_POINTS:,} are allowed")
    for point in product(*values):
        data = scenario.model_dump()
        for key, value in zip(keys, point, strict=True):
            _set(data, key, value)
        text = yaml.safe_dump(data, sort_keys=False)
        yield (
            dict(zip(keys, point, strict=True)),
            parse_settings(text, CostScenario, name="the swept scenario"),
        )


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = data.get(parent)
        if not isinstance(inner, dict):
            raise ConfigError(f"--over names {dotted!r}, but {parent!r} is no section of a scenario")
        data = inner
    data[last] = value
