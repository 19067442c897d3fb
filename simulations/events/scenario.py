"""The scenario of an event simulation: who records what, over which links, and who decides."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from common.config import Settings
from common.planning.control_settings import ControlSettings
from common.planning.energy_settings import EnergySettings
from simulations.events.link_settings import LinkSettings, MediumSettings, Outage

__all__ = [
    "ArrivalSettings",
    "CodecSettings",
    "EventScenario",
    "FogSettings",
    "GroupSettings",
    "PolicySettings",
    "ReplaySettings",
    "TrainingSettings",
]


class ArrivalSettings(Settings):
    """When a device records."""

    kind: Literal["none", "periodic", "poisson", "bursts"] = Field(
        "periodic", description="none: the device only receives; bursts: runs of frames at random moments"
    )
    interval_s: float = Field(
        1.0,
        ge=0,
        le=1e9,
        description="seconds between frames, or between bursts; of poisson and bursts the mean",
    )
    burst_frames: int = Field(10, ge=1, le=1_000_000, description="frames of a burst")
    burst_spacing_s: float = Field(0.2, ge=0, le=1e6, description="seconds between the frames of a burst")
    start: Literal["together", "spread"] = Field(
        "spread", description="first frame of a periodic device: all at once, or at random within interval_s"
    )
    frames: int | None = Field(
        None, ge=0, le=10**9, description="frames that each device records at most; null: until duration_s"
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.kind != "none" and self.interval_s == 0 and self.frames is None:
            raise ValueError("interval_s is 0, so the frames never end; give frames or a longer interval")
        return self

    def expected(self, duration_s: float) -> float:
        """Frames that one device records in so many seconds, on average."""
        if self.kind == "none":
            return 0.0
        most = float("inf") if self.frames is None else float(self.frames)
        if self.interval_s == 0:
            return most
        each = self.burst_frames if self.kind == "bursts" else 1
        return min(most, each * duration_s / self.interval_s)


class GroupSettings(Settings):
    """Equal devices; see fog.sharing for the fogs that they belong to."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,40}$", description="name of the group: letters, digits, - and _"
    )
    count: int = Field(ge=1, le=1_000_000, description="devices of the group, over all fogs")
    arrivals: ArrivalSettings = Field(ArrivalSettings(), description="when each of them records")
    jpeg_bytes: float = Field(75_000, gt=0, le=1e9, description="bytes of a recorded JPEG, mean")
    jpeg_spread: float = Field(
        0.0,
        ge=0,
        le=3,
        description="standard deviation of the JPEG's bytes as a share of their mean (log-normal)",
    )
    link: LinkSettings = Field(description="link of each device to its fog")
    receives: tuple[str, ...] = Field(
        ("*",), max_length=1000, description="groups at the same fog whose frames each device wants; * = all"
    )
    own_returned: bool = Field(
        True, description="whether a device that wants its own group also gets its own packets back"
    )
    learns: bool = Field(True, description="whether it trains, or needs the detector that the fog trains")
    max_outbox_frames: int = Field(
        20_000, ge=1, le=10**9, description="frames waiting for the fog at most; see when_full"
    )
    when_full: Literal["drop", "wait"] = Field(
        "drop",
        description="frames beyond that are lost (a camera), or recorded once there is room (a folder)",
    )
    upload_window_frames: int = Field(32, ge=1, le=100_000, description="uploads in flight at most")
    window_records: int = Field(1000, ge=1, le=1_000_000, description="records in flight to it at most")
    validation_originals: int = Field(
        0, ge=0, le=1_000_000, description="originals of others' held-out frames that it fetches at most"
    )
    window_bytes: int = Field(2_500_000, ge=1, le=1 << 40, description="their payload bytes at most")


class CodecSettings(Settings):
    """Sizes of packets, and how quickly they are made and opened."""

    table: str | None = Field(
        "pyramid", description="measured packet sizes: a shipped profile's name or a JSON file; null: alpha"
    )
    target: str | None = Field(
        None, description="row of the table, such as 28,33 (background and object PSNR); null: its first"
    )
    alpha: float | None = Field(
        None, ge=0, le=1e6, description="packet bytes / JPEG bytes of every frame, in place of the table's"
    )
    encode_s: float | None = Field(
        None, ge=0, le=1e6, description="seconds of encoding every frame, in place of the table's"
    )
    encode_speed: float = Field(
        1.0, gt=0, le=1e6, description="speed of the fog's encoders; 1: the machine that measured the table"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.table is None and (self.alpha is None or self.encode_s is None):
            raise ValueError("without a table alpha and encode_s are needed; give both or name a table")
        return self


class FogSettings(Settings):
    """The fog nodes: all equal, each with its own share of the devices."""

    count: int = Field(1, ge=1, le=100_000, description="fog nodes; see sharing for their devices")
    sharing: Literal["turns", "keys"] = Field(
        "turns",
        description="turns: devices are dealt out in turn; keys: those that record belong to a fog by their "
        "keys, as the product does it, and those that only receive are dealt out in turn",
    )
    uplink_bytes_per_s: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="bytes a second that each fog takes in from all devices; null: no limit",
    )
    downlink_bytes_per_s: float | None = Field(
        None, gt=0, le=1e12, description="bytes a second that each fog sends to all devices; null: no limit"
    )
    workers: int = Field(1, ge=1, le=256, description="encoder processes of each")
    batch_frames: int = Field(8, ge=1, le=4096, description="frames encoded together")
    wait_s: float = Field(
        0.5, ge=0, le=3600, description="seconds a frame may wait for others to fill its batch"
    )
    commit_s: float = Field(0.005, ge=0, le=60, description="seconds to bring an upload to disk")
    max_waiting_frames: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="frames that wait for encoders at most; more are refused, sent again",
    )
    retry_s: float = Field(2.0, ge=0.05, le=3600, description="seconds before a refused frame is sent again")
    outages: tuple[Outage, ...] = Field(
        (), max_length=10_000, description="when the encoders stand still, such as [{from_s: 60, to_s: 90}]"
    )


class TrainingSettings(Settings):
    """Rounds of training, and the detector that they make."""

    first_frames: int = Field(50, ge=1, le=10**9, description="frames to train on before the first round")
    new_frames: int = Field(50, ge=1, le=10**9, description="new ones before each later round")
    max_rounds: int | None = Field(
        1, ge=0, le=10**6, description="rounds after which a node stops training; null: no end"
    )
    start_s: float = Field(0.0, ge=0, le=1e6, description="seconds until a trainer process is ready")
    edge_s: float = Field(60.0, ge=0, le=1e9, description="seconds of a round at an edge, decoding left out")
    fog_s: float = Field(
        60.0, ge=0, le=1e9, description="seconds of a round at the fog, its decoding included"
    )
    epochs: int = Field(1, ge=1, le=1_000_000, description="times a round decodes every frame")
    decode_frames_per_s: float | None = Field(
        None, gt=0, le=1e9, description="frames a second that an edge decodes; null: part of edge_s"
    )
    detector_bytes: float = Field(6_300_000, gt=0, le=1e12, description="bytes of a detector as it is sent")
    changed_share: float = Field(
        1.0, ge=0, le=1, description="share of it that is sent after the first time: only changed tensors"
    )
    gate_refusals: float = Field(
        0.0, ge=0, lt=1, description="share of trained detectors, at random, that the deploy gate refuses"
    )
    validation_block: int = Field(100, ge=1, le=1_000_000, description="frames of a validation block")
    held_out: int = Field(
        20, ge=0, le=1_000_000, description="frames at the end of each block that nobody trains on"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.held_out > self.validation_block:
            raise ValueError(
                f"held_out ({self.held_out}) is more than validation_block ({self.validation_block})"
            )
        return self


class PolicySettings(Settings):
    """Who decides where training runs."""

    strategy: Literal["planner", "edge", "fog", "serverless"] = Field(
        "planner", description="planner: each fog's own plan from what it measures; the others are pinned"
    )
    decide_by: Literal["auto", "bytes", "seconds", "joules"] = Field(
        "auto",
        description="what the planner decides by; auto: seconds once every rate was measured, else bytes",
    )
    interval_s: float = Field(60.0, ge=0.1, le=86_400, description="seconds between two plans")
    min_frames: int = Field(20, ge=1, le=10**9, description="encoded frames of a fog before its first plan")
    packets_while_fog_trains: bool = Field(
        False,
        description="whether devices go on receiving packets while the fog trains; false: equation (3) "
        "of the model",
    )


class ReplaySettings(Settings):
    """A real run whose frames take the place of drawn ones."""

    path: str = Field(
        min_length=1,
        max_length=4096,
        description="a fog's store folder, a simulate loopback folder, or a CSV (see docs/simulator.md)",
    )
    arrivals: bool = Field(
        False,
        description="whether frames are recorded when the CSV's column seconds says, not as in arrivals",
    )


class EventScenario(Settings):
    """A deployment to simulate."""

    name: str = Field(min_length=1, max_length=200, description="title of the plots")
    seed: int = Field(1, ge=0, lt=2**63, description="seed of everything random")
    duration_s: float = Field(gt=0, le=1e10, description="seconds in which devices record")
    drain_s: float = Field(
        86_400.0, ge=0, le=1e10, description="seconds after that in which queues may empty before the end"
    )
    max_frames: int = Field(
        10_000_000,
        ge=1,
        le=10**9,
        description="most frames that a scenario may record, about 100 bytes of memory each",
    )
    sample_s: float = Field(10.0, gt=0, le=1e8, description="seconds of a row of timeline.csv")
    bandwidth: float = Field(
        1.0, gt=0, le=1e6, description="factor of all links' rates, for sweeps; 1: as the links say"
    )
    groups: tuple[GroupSettings, ...] = Field(min_length=1, max_length=1000, description="devices")
    media: tuple[MediumSettings, ...] = Field((), max_length=1000, description="shared media that links name")
    codec: CodecSettings = Field(CodecSettings(), description="packets")
    fog: FogSettings = Field(FogSettings(), description="fog nodes")
    training: TrainingSettings = Field(TrainingSettings(), description="training")
    policy: PolicySettings = Field(PolicySettings(), description="who decides")
    energy: EnergySettings | None = Field(
        None, description="what the nodes draw, as the planner takes it; null: joules are not counted"
    )
    upload_overhead_bytes: int = Field(275, ge=0, le=10**6, description="bytes beside the image of an upload")
    packet_overhead_bytes: int = Field(505, ge=0, le=10**6, description="bytes beside the packet of a record")
    control: ControlSettings = Field(
        ControlSettings(), description="what connections cost beside frames and records"
    )
    replay: ReplaySettings | None = Field(None, description="frames of a real run; null: drawn")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [group.name for group in self.groups]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two groups are called {name!r}; give each a name of its own")
        media = [medium.name for medium in self.media]
        for name in media:
            if media.count(name) > 1:
                raise ValueError(f"two media are called {name!r}; give each a name of its own")
        for group in self.groups:
            if group.link.medium is not None and group.link.medium not in media:
                raise ValueError(
                    f"the link of group {group.name!r} names the medium {group.link.medium!r}, which "
                    "is not in "
                    f"media; add it there or set the link's medium to null"
                )
            for wanted in group.receives:
                if wanted != "*" and wanted not in names:
                    raise ValueError(
                        f"group {group.name!r} receives {wanted!r}, which is no group; name one of "
                        f"{', '.join(names)} or *"
                    )
        if self.policy.decide_by == "joules" and self.energy is None:
            raise ValueError("deciding by joules needs the energy of the nodes; give energy")
        self._check_heard()
        expected = sum(group.count * group.arrivals.expected(self.duration_s) for group in self.groups)
        if expected > self.max_frames:
            raise ValueError(
                f"it would record about {expected:,.0f} frames, more than max_frames ({self.max_frames:,}); "
                "shorten duration_s, lengthen interval_s or raise max_frames"
            )
        if len(self.buckets()) > MOST_ROWS:
            raise ValueError(
                f"timeline.csv would have {len(self.buckets()):,} rows, at most {MOST_ROWS:,} are allowed; "
                "raise sample_s or lower drain_s"
            )
        return self

    def _check_heard(self) -> None:
        fogs = self.fog.count
        if fogs > 1 and self.fog.sharing == "keys":
            # Who is where is known once the devices are made.
            return
        for group in self.groups:
            if group.arrivals.kind == "none" or self.policy.strategy == "fog":
                continue
            # Devices are dealt out from the first fog on: no fog of this group has fewer of any group.
            last = min(group.count, fogs) - 1
            heard = any(
                max(0, -(-(other.count - last) // fogs)) > (other is group and not group.own_returned)
                for other in self.groups
                if "*" in other.receives or group.name in other.receives
            )
            if not heard:
                where = f" at fog {last + 1} of {fogs}" if fogs > 1 else ""
                raise ValueError(
                    f"nobody hears group {group.name!r}{where}: it records frames that no device there "
                    "receives; name it under receives of a group that is there, or pin the strategy fog"
                )

    def buckets(self) -> range:
        """Numbers of the timeline's rows."""
        return range(int((self.duration_s + self.drain_s) / self.sample_s) + 1)

    @property
    def decoding_s(self) -> float:
        """Seconds of decoding a packet at an edge; 0 without packets, or when it is part of the training."""
        rate = self.training.decode_frames_per_s
        return 1.0 / rate if rate and self.policy.strategy != "serverless" else 0.0

    @property
    def horizon_s(self) -> float:
        """When the simulation ends at the latest, seconds."""
        return self.duration_s + self.drain_s

    def scaled(self) -> EventScenario:
        """The same scenario with the rates of its links multiplied by its bandwidth."""
        factor = self.bandwidth
        groups = [
            group.model_copy(
                update={
                    "link": group.link.model_copy(
                        update={
                            "uplink_bytes_per_s": group.link.uplink_bytes_per_s * factor,
                            "downlink_bytes_per_s": group.link.downlink_bytes_per_s * factor,
                        }
                    )
                }
            )
            for group in self.groups
        ]
        rates = {
            name: None if rate is None else rate * factor
            for name, rate in (
                ("uplink_bytes_per_s", self.fog.uplink_bytes_per_s),
                ("downlink_bytes_per_s", self.fog.downlink_bytes_per_s),
            )
        }
        return self.model_copy(update={"groups": tuple(groups), "fog": self.fog.model_copy(update=rates)})

    def resolved(self, name: str, folder: Path) -> Path:
        """A path of the scenario, relative to the folder of its file."""
        path = Path(name).expanduser()
        return path if path.is_absolute() else folder / path


MOST_ROWS = 1_000_000
"""Most rows of the timeline; each takes some 100 bytes of memory."""
