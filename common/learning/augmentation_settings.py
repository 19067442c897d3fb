"""Settings of augmentation, with the names, ranges and meaning of Ultralytics' (no torch)."""

from __future__ import annotations

from pydantic import Field

from common.config import Settings

__all__ = ["AugmentationSettings"]


class AugmentationSettings(Settings):
    """How the frames of a training differ from pass to pass."""

    fliplr: float = Field(0.5, ge=0, le=1, description="probability that a frame is mirrored left to right")
    flipud: float = Field(0.0, ge=0, le=1, description="probability that a frame is mirrored top to bottom")
    translate: float = Field(
        0.1, ge=0, le=1, description="largest shift, as a share of the training image's side"
    )
    scale: float = Field(
        0.2, ge=0, le=0.95, description="frames are scaled by a factor drawn from 1 - scale to 1 + scale"
    )
    degrees: float = Field(0.0, ge=0, le=180, description="largest rotation either way, degrees")
    shear: float = Field(0.0, ge=0, le=80, description="largest shear either way, degrees")
    perspective: float = Field(
        0.0, ge=0, le=0.001, description="largest change of depth across the image, a pixel"
    )
    mosaic: float = Field(
        0.0, ge=0, le=1, description="probability that a training image is put together of four frames"
    )
    close_mosaic: int = Field(
        10, ge=0, le=10_000, description="epochs at the end of a training that are without mosaic"
    )
    hsv_h: float = Field(0.015, ge=0, le=1, description="largest shift of hue, as a share of the full circle")
    hsv_s: float = Field(0.3, ge=0, le=1, description="largest change of saturation, as a share of it")
    hsv_v: float = Field(0.2, ge=0, le=1, description="largest change of brightness, as a share of it")
