"""Settings of training, validation and the deploy gate (no torch, so that daemons may read them)."""

from __future__ import annotations

from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from common.config import Settings
from common.frame import DEFAULT_CLASS
from common.learning.augmentation_settings import AugmentationSettings

__all__ = ["GateSettings", "KeepSettings", "TrainingSettings"]

STRIDE = 32
"""Coarsest stride of the YOLOv8 detectors, pixels: a training size must be a multiple of it."""


class GateSettings(Settings):
    """When a newly trained detector may replace the one in use."""

    min_boxes: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="boxes that the validation frames must hold before anything is deployed",
    )
    margin: float = Field(
        0.01,
        ge=0.0,
        le=1.0,
        description="mAP50-95 (0..1) that a deployed detector may at worst lose: the lower bound of the "
        "interval of (new - current) must lie above minus this",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1.0, description="confidence (0..1) of the two-sided bootstrap interval"
    )
    resamples: int = Field(1000, ge=100, le=100_000, description="bootstrap samples of the validation blocks")
    block_frames: int = Field(
        20,
        ge=1,
        le=100_000,
        description="consecutive frame numbers of one device that the bootstrap draws together, because "
        "neighbours are near-duplicates; 1: every image for itself",
    )
    min_blocks: int = Field(
        10,
        ge=1,
        le=100_000,
        description="blocks are halved until there are at least this many, or every image is one",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="seed of the bootstrap, so that a decision can be repeated"
    )


class KeepSettings(Settings):
    """Which frames a full store keeps: the weights of what makes a frame useful, each between 0 and 1."""

    recency: float = Field(1.0, ge=0, le=100, description="weight of how late a frame came")
    hardness: float = Field(
        1.0,
        ge=0,
        le=100,
        description="weight of how large its loss is; one never trained on counts as hardest",
    )
    rarity: float = Field(1.0, ge=0, le=100, description="weight of how rare its rarest class is")
    protected_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of the kept frames that is a uniform sample of all that ever came, whatever their "
        "usefulness, so that what was learned long ago is not forgotten",
    )


class TrainingSettings(Settings):
    """How a node trains its detector."""

    model: str = Field(
        "yolov8n.yaml",
        min_length=1,
        description="detector to start from: an Ultralytics model name ending in .yaml (random weights), or "
        "the path of local weights (.safetensors or .pt)",
    )
    classes: tuple[str, ...] = Field(
        (DEFAULT_CLASS,), min_length=1, max_length=1000, description="ordered class names of the deployment"
    )
    class_map: dict[str, str] = Field(
        default_factory=dict,
        description="class name of a label -> class name of the deployment; others are refused",
    )
    imgsz: int = Field(
        640, ge=64, le=2048, multiple_of=STRIDE, description="side of the square training images, pixels; x32"
    )
    batch: int = Field(8, ge=1, le=1024, description="frames a training step")
    epochs: int = Field(50, ge=1, le=10_000, description="passes over the training frames in one training")
    max_steps: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="training steps after which a training ends; null: no such limit",
    )
    max_seconds: float | None = Field(
        None, gt=0, le=604_800, description="seconds after which a training ends; null: no such limit"
    )
    optimizer: Literal["AdamW", "SGD"] = Field("AdamW", description="optimizer, by its name in torch.optim")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="learning rate of the first step")
    final_learning_rate: float = Field(
        0.1,
        gt=0,
        le=1,
        description="learning rate of the last epoch as a share of the first; linear in between",
    )
    batchnorm_momentum: float = Field(
        0.1, gt=0, le=1, description="share of each batch in the running averages of batch normalization"
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="weight decay a step")
    augmentation: AugmentationSettings = Field(
        default_factory=AugmentationSettings, description="how the frames differ from epoch to epoch"
    )
    supersample: int = Field(
        1, ge=1, le=4, description="each training pixel is the mean of this many decoded pixels squared"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu(:[2-9])?|cuda(:\d+(,\d+)*)?)$",
        description="where to train: auto, cpu, cuda, cuda:N, or several GPUs as cuda:0,1 or a list of "
        "numbers; cpu:N: N processes, to try that out",
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads of the training process")
    nice: int = Field(
        10,
        ge=0,
        le=19,
        description="niceness of a node's training process: the daemon beside it comes first",
    )
    yield_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="seconds that a node's training pauses at most before each step while uploads wait; 0: "
        "it does not",
    )
    check_frames: int = Field(
        32, ge=1, le=10_000, description="newest frames that a check of the detector in use looks at"
    )
    seed: int = Field(
        0, ge=0, lt=2**31, description="seed of the order of frames, the augmentation and the first weights"
    )
    memory_bytes: int = Field(
        1 << 30,
        ge=1 << 12,
        le=1 << 40,
        description="bytes of memory, on the device and beside it, for the resident packets",
    )
    decode_bytes: int = Field(
        1 << 28,
        ge=1 << 20,
        le=1 << 40,
        description="bytes of a GPU's memory in which pyramids and other rasters are decoded together, or a "
        "quarter of what is free there, if that is less; the pixels do not depend on it",
    )
    decode_ahead: bool = Field(
        True,
        description="on a CPU, decode the next batch in a thread beside the present step; it takes "
        "a core more than threads, and memory for one batch more",
    )
    host_bytes: int = Field(
        1 << 28,
        ge=0,
        le=1 << 42,
        description="bytes of host memory for the frames that memory_bytes has no room for; they are brought "
        "to the device batch by batch",
    )
    disk_bytes: int = Field(
        1 << 32,
        ge=0,
        le=1 << 44,
        description="bytes of disk, in the trainer's folder, for frames that neither has room for; 0: none",
    )
    when_full: Literal["evict", "refuse"] = Field(
        "evict",
        description="when all three are full: evict the least useful frames (see keep), or refuse new ones",
    )
    keep: KeepSettings = Field(
        default_factory=KeepSettings, description="which frames are useful, when some must go"
    )
    replay_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of an epoch drawn at random from frames that were there at the round before, "
        "beside every frame that came since; null: an epoch takes every frame",
    )
    hardness_steps: int = Field(
        4,
        ge=0,
        le=1_000_000,
        description="training steps from one whose loss is also found frame by frame to the next; 0: none, "
        "every frame counts as equally hard",
    )
    checkpoint_seconds: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="least seconds between two checkpoints, written at the end of an epoch",
    )
    validation_images: int = Field(
        500,
        ge=1,
        le=100_000,
        description="validation originals kept as encoded bytes in memory, newest first",
    )
    half_weights: bool = Field(
        True, description="send weights in 16 instead of 32 bit floats: half the bytes"
    )
    gate: GateSettings = Field(
        default_factory=GateSettings, description="when the new detector replaces the one in use"
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _flip_has_moved(cls, values: Any) -> Any:
        if isinstance(values, dict) and "flip" in values:
            raise ValueError("'flip' is now 'fliplr' in the section 'augmentation'; move it there")
        return values

    @pydantic.field_validator("device", mode="before")
    @classmethod
    def _numbers_are_gpus(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and value and all(type(n) is int and n >= 0 for n in value):
            return f"cuda:{','.join(map(str, value))}"
        return value

    @pydantic.model_validator(mode="after")
    def _classes_are_consistent(self) -> Self:
        if self.device.startswith("cuda") and len(set(self.devices)) != len(self.devices):
            raise ValueError(f"device names a GPU twice: {self.device}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes lists a name twice")
        for source, target in self.class_map.items():
            if target not in self.classes:
                raise ValueError(f"class_map sends {source!r} to {target!r}, which is not in classes")
        return self

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of each training process; one, unless ``device`` names several."""
        kind, _, places = self.device.partition(":")
        if kind == "cpu":
            return ("cpu",) * int(places or 1)
        return tuple(f"{kind}:{place}" for place in places.split(",")) if places else (kind,)

    def class_index(self, name: str) -> int | None:
        """Index of a label's class in ``classes``; None for a name that is neither listed nor mapped."""
        name = self.class_map.get(name, name)
        return self.classes.index(name) if name in self.classes else None
