"""How frames of one camera share a background (imports no torch)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.config import Settings

__all__ = ["StreamSettings"]


class StreamSettings(Settings):
    """Keyframes, and frames that refer to them."""

    mode: Literal["off", "devices", "always"] = Field(
        "devices",
        description="which frames of profile pyramid may refer to a keyframe: none, those that a device "
        "recorded, or also those of a source that is encoded offline, in its order",
    )
    keyframe_interval: int = Field(
        48,
        ge=1,
        le=10_000,
        description="frames after which a new keyframe begins at the latest, so that a receiver that joins "
        "late fetches one that serves it for a while",
    )
    motion_spacing: int = Field(
        32, ge=16, le=128, description="pixels between the nodes of a motion field: 16, 32, 64 or 128"
    )
    gain_db: float = Field(
        1.0,
        ge=0,
        le=6,
        description="how far above the target a keyframe aims, dB for each doubling of the number of frames "
        "that the device's keyframes last, from two",
    )
    most_gain_db: float = Field(3.0, ge=0, le=12, description="at most so far above the target, dB")
    devices: int = Field(
        64, ge=1, le=10_000, description="devices whose keyframe is held in memory, about 6 MB each"
    )
