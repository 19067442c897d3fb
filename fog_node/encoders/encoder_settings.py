"""How frames are encoded: quality targets, time budget, and the table of network sizes (imports no torch)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from common.config import Settings
from fog_node.encoders.object_regions import WholeFrame
from fog_node.encoders.stream_settings import StreamSettings

__all__ = ["PROFILES", "EncoderSettings", "LadderSettings", "NetworkSize"]

PROFILES = ("siren", "pyramid", "jpeg", "webp", "avif")
"""Names of the representations that this encoder writes."""


class NetworkSize(Settings):
    """One rung of a ladder of network sizes."""

    width: int = Field(ge=4, le=255, description="neurons of a sine layer")
    depth: int = Field(ge=1, le=16, description="sine layers")


class LadderSettings(Settings):
    """Sizes that the encoder may choose from for one kind of network, and how each is fitted."""

    sizes: tuple[NetworkSize, ...] = Field(min_length=1, max_length=32, description="smallest first")
    quantization: Literal["rate_distortion", "uniform", "layer_wise", "none"] = Field(
        "rate_distortion",
        description="how weights become integers; rate_distortion fits them rounded, bits in the loss",
    )
    rate_weight: float = Field(
        0.4,
        ge=0.02,
        le=4,
        description="rate_distortion: relative distortion that a relative saving of bits is worth",
    )
    weight_bits: Literal[8, 16] = Field(
        description="uniform: bits a weight, except those of the first layer, before entropy coding"
    )
    outer_bits: Literal[8, 16] = Field(
        16, description="uniform: bits a weight of the first layer and a bias; 8 costs about 0.8 dB"
    )
    pruning: Literal["none", "iterative", "dynamic"] = Field(
        "none", description="Rapid-INR's: iterative zeroes a fixed share, dynamic one by the PSNR reached"
    )
    pruned_share: float = Field(
        0.2, ge=0, le=0.9, description="share of the smallest weights that iterative pruning zeroes"
    )
    steps: int = Field(
        ge=10, le=100_000, description="optimizer steps of the first round; later ones have as many or more"
    )
    rounds: int = Field(ge=1, le=50, description="rounds at most; each anneals to zero")
    rung_gain_db: float = Field(gt=0, le=20, description="what one size more adds in PSNR, dB, roughly")
    pixels: int = Field(ge=64, le=65_536, description="pixels of each network a step")
    learning_rate: float = Field(
        gt=0, le=0.1, description="peak of Adam's rate at width 42; scaled by 42/width"
    )

    @model_validator(mode="after")
    def _one_way_to_zero(self) -> LadderSettings:
        if self.pruning != "none" and self.quantization == "rate_distortion":
            raise ValueError("rate_distortion zeroes weights by itself; prune with another quantization")
        return self

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[NetworkSize, ...]) -> tuple[NetworkSize, ...]:
        cost = [s.width * s.width * s.depth for s in sizes]
        if cost != sorted(set(cost)):
            raise ValueError("sizes must grow from each to the next")
        return sizes


def _sizes(*pairs: tuple[int, int]) -> tuple[NetworkSize, ...]:
    return tuple(NetworkSize(width=width, depth=depth) for width, depth in pairs)


BACKGROUND = LadderSettings(
    sizes=_sizes(
        (14, 5), (20, 5), (28, 5), (34, 5), (42, 5), (52, 5), (64, 5), (80, 5), (96, 5), (112, 5), (136, 5)
    ),
    weight_bits=8,
    outer_bits=16,
    steps=5000,
    rounds=6,
    rung_gain_db=1.0,
    pixels=1024,
    learning_rate=1.5e-3,
)
OBJECT = LadderSettings(
    sizes=_sizes(
        *((6, 4), (8, 4), (10, 4), (12, 4), (14, 4), (17, 4), (20, 4), (24, 4)),
        *((29, 4), (35, 4), (42, 4), (50, 4), (60, 4), (72, 4), (86, 4)),
    ),
    weight_bits=16,
    outer_bits=16,
    steps=2000,
    rounds=6,
    rung_gain_db=1.5,
    pixels=1024,
    learning_rate=1.0e-3,
)


class EncoderSettings(Settings):
    """How a frame becomes a packet."""

    profile: Literal["siren", "pyramid", "jpeg", "webp", "avif"] = Field(
        "pyramid", description="representation of a frame; pyramid takes the fewest bytes and the least time"
    )
    background_psnr: float = Field(
        28.0, ge=10, le=60, description="target outside every box, dB over 8-bit RGB, after quantization"
    )
    object_psnr: float = Field(
        33.0, ge=10, le=60, description="target inside each box, dB, after quantization"
    )
    whole_frame: WholeFrame = Field(
        "object",
        description="what boxes that cover their whole frame are: an object, or the label of an image for "
        "classification, which has no target and no network of its own",
    )
    avif_speed: int = Field(
        4, ge=0, le=10, description="libaom's speed of the avif profile; lower is slower and smaller"
    )
    max_packet_bytes: int | None = Field(
        None,
        ge=256,
        le=16 << 20,
        description="target size of a packet instead of target qualities, bytes (profile siren)",
    )
    width: int = Field(640, ge=16, le=4095, description="coded width, pixels; smaller frames are enlarged")
    batch_frames: int = Field(
        8, ge=1, le=256, description="frames fitted together; bounds the encoder's memory"
    )
    time_budget_s: float = Field(
        40.0, gt=0, le=86_400, description="wall-clock seconds a frame, on average over a batch, at most"
    )
    w0: float = Field(30.0, gt=0, le=1000, description="frequency factor of the sine layers")
    warm_start: bool = Field(
        True, description="begin from the previous background of the same device when it is close"
    )
    seed: int = Field(0, ge=0, description="seed of initial weights and of the order of pixels")
    background: LadderSettings = Field(BACKGROUND, description="networks of whole frames")
    object: LadderSettings = Field(OBJECT, description="residual networks of boxes")
    stream: StreamSettings = Field(StreamSettings(), description="keyframes, and frames that refer to them")

    @model_validator(mode="after")
    def _size_of_networks(self) -> EncoderSettings:
        if self.max_packet_bytes is not None and self.profile != "siren":
            raise ValueError(
                f"max_packet_bytes works with profile siren only, not {self.profile}; set it to null, "
                "or set profile to siren"
            )
        return self
