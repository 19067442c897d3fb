"""Settings of a fog node: ``configs/fog.yaml`` lists every one with its default (no torch)."""

from __future__ import annotations

from typing import Literal, Self

import pydantic
from pydantic import Field

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
from common.planning.control_settings import ControlSettings
from common.planning.energy_settings import EnergySettings
from common.store.settings import FogStoreSettings
from common.wire.endpoint import BindAddress
from common.wire.schedule import Windows
from common.wire.settings import WireSettings
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.workers.ray_settings import RaySettings

__all__ = [
    "FogMonitoringSettings",
    "FogSettings",
    "FogTrafficSettings",
    "FogTrainingSettings",
    "LimitSettings",
    "PlannerSettings",
    "WorkerSettings",
]


class LimitSettings(Settings):
    """Bounds on what peers may send and hold; messages, windows and queues are bounded under ``wire``."""

    frame_pixels: int = Field(64_000_000, ge=1, le=10**10, description="largest image accepted, pixels")
    frame_boxes: int = Field(1000, ge=0, le=1000, description="most boxes on a frame")
    peers: int = Field(1000, ge=1, le=100_000, description="edges connected at one time")
    strangers: int = Field(
        500,
        ge=8,
        le=100_000,
        description="connections that have not said who they are yet; beyond, the oldest is cut, so that "
        "nobody without a key uses up the files that the fog may open",
    )
    upload_bytes: int = Field(
        32 << 20,
        ge=1 << 16,
        le=1 << 31,
        description="uploads of one edge that wait for their commit, bytes; one frame is always allowed",
    )
    waiting_bytes: int = Field(
        256 << 20,
        ge=1 << 20,
        le=1 << 36,
        description="uploads of all edges that wait for their commit, bytes",
    )
    commit_frames: int = Field(
        64, ge=1, le=10_000, description="uploads committed in one transaction, at most"
    )
    messages_per_s: float | None = Field(
        10_000.0,
        gt=0,
        le=1e9,
        description="messages of one device a second, after a burst of two seconds; one that sends more is "
        "disconnected; null: no limit",
    )
    uploads_per_s: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="uploads of one device a second; more are refused for now, and edges keep to it; "
        "null: no limit",
    )
    upload_bytes_per_s: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="image bytes of one device a second; as uploads_per_s; null: no limit",
    )
    unread_bytes: int = Field(
        64 << 20,
        ge=1 << 20,
        le=1 << 36,
        description="bytes of one connection received and not read yet, such as a message that never ends, "
        "before it is cut; at least twice wire.max_message_bytes, and more than an edge's upload_bytes; "
        "Linux only",
    )
    unsent_bytes: int = Field(
        8 << 20,
        ge=1 << 20,
        le=1 << 36,
        description="bytes on their way to one connection, which its peer asked for and has not taken, "
        "before it is cut; at least what wire.window_bytes and 16 fetched chunks need; Linux only",
    )


class FogTrafficSettings(Settings):
    """What each device is sent of records and content, unless its entry in the allow list says otherwise."""

    downlink_bytes_per_s: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="bytes of records and content sent to one device a second; null: as many as it asks for",
    )
    burst_s: float = Field(
        1.0,
        ge=0.05,
        le=3600,
        description="seconds of that rate that may go at once after a rest; a whole record always may",
    )
    download_windows: Windows = Field(
        (),
        description="local times of the fog at which a device is sent them, such as ['22:00-06:00', "
        "'sat,sun 00:00-24:00']; a window belongs to the day on which it begins; none: always",
    )


class WorkerSettings(Settings):
    """Encoder workers."""

    workers: int = Field(1, ge=0, le=256, description="encoder processes; 0: frames only wait")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of each; 0: all cores")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where they encode")
    wait_s: float = Field(
        0.5, ge=0, le=60, description="seconds a frame may wait for others to fill its batch"
    )
    attempts: int = Field(
        3, ge=1, le=20, description="times a frame is tried when encoders crash on it, before its tombstone"
    )
    start_attempts: int = Field(
        5,
        ge=1,
        le=1000,
        description="times in a row that an encoder may end in the same way before it was ready; it is then "
        "not started any more",
    )
    batch_timeout_s: float = Field(
        3600.0,
        gt=0,
        le=604_800,
        description="seconds after which a silent encoder counts as hung, and is killed",
    )
    module: str = Field("fog_node.encoder_worker", description="Python module of an encoder process")
    ray: RaySettings | None = Field(
        None, description="run the workers on Ray, on this machine or a cluster; null: as child processes"
    )

    @pydantic.model_validator(mode="after")
    def _cuda_is_reserved(self) -> Self:
        if self.ray is not None and self.device == "cuda" and not self.ray.gpus:
            raise ValueError("device is cuda, but ray.gpus is 0, so Ray hides every GPU; set ray.gpus")
        return self


class FogTrainingSettings(Settings):
    """Training at the fog."""

    strategy: Literal["auto", "edge", "fog", "serverless"] = Field(
        "auto", description="where to train: auto = the planner's choice; edge or fog pin it"
    )
    starter_frames: int = Field(
        0,
        ge=0,
        le=10**9,
        description="frames after which the fog trains one first detector, whatever the strategy; 0: never",
    )
    min_frames: int = Field(
        50, ge=1, le=10**9, description="frames to train on (labelled, not held out) before the first round"
    )
    min_new_frames: int = Field(50, ge=1, le=10**9, description="new frames before each later round")
    rounds: int | None = Field(
        None, ge=0, le=10**6, description="rounds after which training ends; null: no end"
    )
    max_wait_s: MostWait = None
    check_s: CheckInterval = 600.0
    agreement_drop: AgreementDrop = 0.2
    detector: TrainingSettings = Field(
        TrainingSettings(), description="the detector and its training, as in configs/training.yaml"
    )
    module: str = Field(TRAINER_MODULE, description="Python module of the trainer process")


class PlannerSettings(Settings):
    """What the communication model is told beyond what the daemon measures."""

    decide_by: Literal["auto", "bytes", "seconds", "joules"] = Field(
        "auto",
        description="what decides: bytes, seconds, joules; auto: seconds once every rate was measured, else "
        "bytes",
    )
    switch_margin: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share by which another place to train must be cheaper to replace the present one",
    )
    switch_plans: int = Field(
        3,
        ge=1,
        le=10_000,
        description="plans in a row in which it must be so, so that noise does not move the training",
    )
    interval_s: float = Field(10.0, ge=0.1, le=86_400, description="seconds between two plans")
    min_frames: int = Field(
        20,
        ge=1,
        le=10**9,
        description="encoded frames before the first plan, so that its figures are measured",
    )
    receivers: float | None = Field(
        None, ge=0, le=1e6, description="edges that want each frame; null: the rights of the connected edges"
    )
    detector_bytes: int = Field(
        6_300_000,
        ge=1,
        le=10**12,
        description="bytes of a detector until one was published (YOLOv8n, 16 bit)",
    )
    rounds: int = Field(1, ge=1, le=10**6, description="rounds R in which a fog would send its detector")
    changed_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of a detector's bytes that rounds after the first send; 1: the whole detector",
    )
    shared_medium: bool = Field(
        False, description="whether all edges share one channel that carries one direction at a time"
    )
    fog_uplink_bytes_per_s: float | None = Field(
        None,
        ge=1e-3,
        le=1e15,
        description="what the fog's connection takes from all edges together, bytes a second; null: enough",
    )
    fog_downlink_bytes_per_s: float | None = Field(
        None,
        ge=1e-3,
        le=1e15,
        description="what it sends to all edges together, bytes a second; null: enough",
    )
    validation_originals: int = Field(
        200,
        ge=0,
        le=1_000_000,
        description="validation originals of others that an edge fetches at most; as its fetch section says",
    )
    upload_overhead_bytes: float = Field(
        275.0,
        ge=0,
        le=1e6,
        description="bytes beside the image in the message of a frame with one box, encryption included; "
        "some 45 more a box",
    )
    packet_overhead_bytes: float = Field(
        505.0,
        ge=0,
        le=1e6,
        description="bytes beside the packet in its message, encryption included",
    )
    control: ControlSettings = Field(
        ControlSettings(), description="what connections cost beside frames and records"
    )
    energy: EnergySettings | None = Field(
        None, description="what the nodes draw, needed to decide by joules; null: joules are not asked for"
    )

    @pydantic.model_validator(mode="after")
    def _joules_need_energy(self) -> Self:
        if self.decide_by == "joules" and self.energy is None:
            raise ValueError("decide_by is joules, but energy is null; give the energy of the nodes")
        return self


class FogMonitoringSettings(MonitoringSettings):
    """As of any node, with a port of its own."""

    port: int | None = Field(
        9570, ge=0, le=65_535, description="TCP port; 0 lets the system choose (see status); null: none"
    )


class FogSettings(LogSettings):
    """Everything ``fog-node serve`` can be told; relative paths start from the folder of the file."""

    address: BindAddress = Field(
        "tcp://127.0.0.1:5570",
        description="address to bind, tcp://INTERFACE:PORT; port 0 or * lets the system choose",
    )
    keys: str = Field("keys", min_length=1, max_length=4096, description="folder made by fog-node keygen")
    allow_list: str = Field(
        "allow.yaml", min_length=1, max_length=4096, description="file kept by fog-node allow"
    )
    store: str = Field("store", min_length=1, max_length=4096, description="folder of the durable store")
    storage: FogStoreSettings = Field(FogStoreSettings(), description="bounds of the store")
    limits: LimitSettings = Field(LimitSettings(), description="bounds on peers")
    traffic: FogTrafficSettings = Field(
        FogTrafficSettings(), description="bandwidth and hours of what each device is sent"
    )
    encoder: EncoderSettings = Field(EncoderSettings(), description="how frames are encoded")
    workers: WorkerSettings = Field(WorkerSettings(), description="encoder processes")
    training: FogTrainingSettings = Field(FogTrainingSettings(), description="training at the fog")
    planner: PlannerSettings = Field(PlannerSettings(), description="where to train")
    wire: WireSettings = Field(WireSettings(), description="connections of the edges")
    children: ChildSettings = Field(ChildSettings(), description="encoder workers and the trainer")
    allow_check_s: float = Field(
        1.0, ge=0.05, le=4, description="seconds between two looks at the allow list"
    )
    retry_full_s: float = Field(
        2.0, ge=0.05, le=600, description="seconds between two attempts while the disk is full or fails"
    )
    monitoring: FogMonitoringSettings = Field(
        FogMonitoringSettings(), description="/health and /metrics over HTTP"
    )
    status_s: float = Field(1.0, ge=0.05, le=3600, description="seconds between two status files")
    drain_s: float = Field(10.0, ge=0, le=3600, description="seconds SIGTERM leaves for commits under way")
