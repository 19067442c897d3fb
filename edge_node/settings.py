"""Settings of an edge node: ``configs/edge.yaml`` lists every one with its default (no torch)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from common.config import Settings
from common.learning.settings import TrainingSettings
from common.node.learning_messages import TRAINER_MODULE
from common.node.settings import (
    AgreementDrop,
    CheckInterval,
    ChildSettings,
    LogSettings,
    MonitoringSettings,
    MostWait,
)
from common.store.settings import EdgeStoreSettings
from common.wire.endpoint import ConnectAddress
from common.wire.messages import Subscription
from common.wire.schedule import Windows
from common.wire.settings import WireSettings
from edge_node.labelling_settings import LabellingSettings

__all__ = [
    "EdgeMonitoringSettings",
    "EdgeSettings",
    "EdgeTrainingSettings",
    "FetchSettings",
    "FogAddress",
    "RecordKindName",
    "SharingFog",
    "SourceSettings",
    "SubscriptionSettings",
    "TrafficSettings",
    "ValidationSettings",
]

RecordKindName = Literal["packet", "tombstone", "shared_part", "weights"]


class FogAddress(Settings):
    """Where the fog node is and how it is known."""

    address: ConnectAddress = Field(
        "tcp://127.0.0.1:5570",
        description="the fog's address, tcp://HOST:PORT",
    )
    public_key: str = Field(
        "fog.key",
        min_length=1,
        max_length=4096,
        description="the fog's public key, 40 characters, or the path of a copy of its public.key",
    )


class SharingFog(FogAddress):
    """One of several fogs that share the devices."""

    weight: float = Field(
        1.0, gt=0, le=1e6, description="share of the devices, relative to the other fogs' weights"
    )


class SourceSettings(Settings):
    """One source of frames."""

    path: str = Field(
        min_length=1, max_length=4096, description="sequence folder, data.yaml, CSV, image folder or video"
    )
    format: str | None = Field(
        None, description="its layout by name (see docs/datasets.md); null: found by looking"
    )
    labels: Literal["file", "detector", "none"] = Field(
        "file",
        description="file: boxes of the source's own label files; detector: boxes from the detector deployed "
        "on this node, see labelling; none: send the frames unlabelled",
    )
    frames_per_second: float | None = Field(
        None, gt=0, le=10_000, description="most frames recorded a second; null: as fast as they are read"
    )
    max_frames: int | None = Field(
        None, ge=1, le=2**40, description="frames to record from this source; null: all of them"
    )
    again_s: float | None = Field(
        None,
        ge=1,
        le=86_400,
        description="seconds from one look at the source to the next, which records new frames and sends "
        "labels that were corrected meanwhile; null: one look at each start",
    )
    wait_for_detector: bool = Field(
        False, description="begin this source only once a detector has been deployed on this node"
    )
    priority: int = Field(
        0, ge=0, le=9, description="frames of higher priority are uploaded, and encoded at the fog, first"
    )
    ttl_s: float | None = Field(
        None,
        gt=0,
        le=3e9,
        description="seconds after its recording at which a frame that was not uploaded is dropped; "
        "null: never",
    )


class TrafficSettings(Settings):
    """What frames and packets may take of the link; heartbeats, reports and corrections always pass."""

    uplink_bytes_per_s: float | None = Field(
        None, gt=0, le=1e12, description="image bytes uploaded a second; null: as many as the link takes"
    )
    downlink_bytes_per_s: float | None = Field(
        None, gt=0, le=1e12, description="bytes received a second, of all fogs; null: as many as come"
    )
    burst_s: float = Field(
        1.0,
        ge=0.05,
        le=3600,
        description="seconds of either rate that may go at once after a rest; a whole frame always may",
    )
    upload_windows: Windows = Field(
        (),
        description="local times at which frames are uploaded, such as ['22:00-06:00', "
        "'sat,sun 00:00-24:00']; a window belongs to the day on which it begins; none: always",
    )


class ValidationSettings(Settings):
    """Contiguous blocks of frames that no node trains on."""

    block: int = Field(100, ge=1, le=1_000_000, description="frames of a block, by frame number")
    held_out: int = Field(
        20, ge=0, le=1_000_000, description="frames at the end of each block held out for validation"
    )

    @model_validator(mode="after")
    def _fits(self) -> ValidationSettings:
        if self.held_out > self.block:
            raise ValueError(f"held_out ({self.held_out}) must not be larger than block ({self.block})")
        return self


class FetchSettings(Settings):
    """What the node fetches beside the records of its subscription."""

    large_bytes: int = Field(
        512 << 20, ge=1 << 16, le=1 << 34, description="largest payload fetched (detector weights), bytes"
    )
    validation_originals: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="validation originals of other devices to fetch and keep, frames; counted as downlink",
    )


class SubscriptionSettings(Settings):
    """What the node takes from the log, within its rights on the fog's allow list."""

    devices: Subscription = Field(
        ("*",), description="public keys of the devices to receive from; * = all allowed"
    )
    kinds: tuple[RecordKindName, ...] = Field(
        ("packet", "tombstone", "shared_part", "weights"),
        max_length=4,
        description="kinds of records to receive",
    )
    at: Literal["all", "owners"] = Field(
        "all",
        description="with several fogs, where to ask for listed devices: at all of them, or only at the fog "
        "that each belongs to, which leaves out what others took before the fogs changed",
    )


class EdgeTrainingSettings(Settings):
    """Training on this node."""

    mode: Literal["auto", "always", "never"] = Field(
        "auto",
        description="auto: while the fog's plan says edge; always: whenever frames suffice; or never",
    )
    min_new_frames: int = Field(
        50,
        ge=1,
        le=10**9,
        description="new frames to train on before a round begins (labelled, not held out)",
    )
    max_rounds: int | None = Field(
        None, ge=1, le=10**6, description="rounds after which training ends; null: no end"
    )
    max_wait_s: MostWait = None
    check_s: CheckInterval = 600.0
    agreement_drop: AgreementDrop = 0.2
    wait_for_detector: bool = Field(
        False, description="begin the first round only once a detector was received, so as to start from it"
    )
    detector: TrainingSettings = Field(
        TrainingSettings(), description="the detector and its training, as in configs/training.yaml"
    )
    module: str = Field(TRAINER_MODULE, description="Python module of the trainer process")


class EdgeMonitoringSettings(MonitoringSettings):
    """As of any node, with a port of its own."""

    port: int | None = Field(
        9571, ge=0, le=65_535, description="TCP port; 0 lets the system choose (see status); null: none"
    )


class EdgeSettings(LogSettings):
    """Everything ``edge-node run`` can be told; relative paths start from the folder of the file."""

    fog: FogAddress = Field(FogAddress(), description="the fog node, when there is one; else see fogs")
    fogs: tuple[SharingFog, ...] = Field(
        (),
        max_length=1000,
        description="in place of fog: all fogs of the deployment, the same list on every edge; each device "
        "belongs to one of them, found from the keys; such as "
        "[{address: 'tcp://north:5570', public_key: north.key, weight: 1.0}]",
    )
    keys: str = Field("keys", min_length=1, max_length=4096, description="folder made by edge-node keygen")
    store: str = Field("store", min_length=1, max_length=4096, description="folder of the durable store")
    sources: tuple[SourceSettings, ...] = Field(
        (),
        max_length=1000,
        description="what to record, in order: path (sequence, data.yaml, CSV, image folder or video), "
        "and if need be format (null: found by looking), labels (file, detector or none), "
        "frames_per_second, max_frames, again_s (seconds between two looks at it), wait_for_detector, "
        "priority (0 to 9, higher is uploaded and encoded first) and ttl_s (seconds a frame is worth "
        "sending); such as "
        "[{path: clips/one, labels: none, frames_per_second: 5}]",
    )
    labelling: LabellingSettings = Field(
        LabellingSettings(), description="boxes from the detector, for sources with labels: detector"
    )
    validation: ValidationSettings = Field(ValidationSettings(), description="frames held out")
    traffic: TrafficSettings = Field(TrafficSettings(), description="bandwidth and hours of this device")
    storage: EdgeStoreSettings = Field(EdgeStoreSettings(), description="bounds of the store")
    fetch: FetchSettings = Field(FetchSettings(), description="payloads and originals to fetch")
    subscription: SubscriptionSettings = Field(SubscriptionSettings(), description="what to receive")
    training: EdgeTrainingSettings = Field(EdgeTrainingSettings(), description="training on this node")
    wire: WireSettings = Field(WireSettings(), description="the connection to the fog")
    children: ChildSettings = Field(ChildSettings(), description="the trainer process")
    upload_bytes: int = Field(
        8 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="image bytes sent and not yet acknowledged, at most; one frame is always allowed",
    )
    frame_pixels: int = Field(64_000_000, ge=1, le=10**10, description="largest image recorded, pixels")
    monitoring: EdgeMonitoringSettings = Field(
        EdgeMonitoringSettings(), description="/health and /metrics over HTTP"
    )
    status_s: float = Field(1.0, ge=0.05, le=3600, description="seconds between two status files")
    report_s: float = Field(
        30.0, ge=0.1, le=86_400, description="seconds between two reports of measured rates to the fog"
    )
    drain_s: float = Field(
        10.0, ge=0, le=3600, description="seconds SIGTERM leaves for acknowledgements of uploads under way"
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> EdgeSettings:
        if self.fogs and "fog" in self.model_fields_set:
            raise ValueError("both fog and fogs are given; keep fog for one fog, or fogs for several")
        return self
