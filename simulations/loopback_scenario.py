"""The scenario of ``simulate loopback``: how many nodes, which clips, how long they train."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from common.config import Settings, load_settings

__all__ = ["BoxSettings", "ClipSettings", "LoopbackScenario", "Waypoint", "load_loopback_scenario"]

SHIPPED = Path(__file__).parent / "scenarios" / "loopback.yaml"


class BoxSettings(Settings):
    """A box in pixels of the photograph, half-open."""

    name: str = Field(min_length=1, max_length=100, description="class name")
    x0: float = Field(ge=-1e6, le=1e6, description="left edge, pixels")
    y0: float = Field(ge=-1e6, le=1e6, description="top edge, pixels")
    x1: float = Field(ge=-1e6, le=1e6, description="right edge, pixels")
    y1: float = Field(ge=-1e6, le=1e6, description="bottom edge, pixels")

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise ValueError("a box needs x0 < x1 and y0 < y1")
        return self


class Waypoint(Settings):
    """Where the moving crop is at one moment, in pixels of the photograph."""

    x: float = Field(ge=0, le=1e5, description="centre, pixels from the left")
    y: float = Field(ge=0, le=1e5, description="centre, pixels from the top")
    width: float = Field(ge=16, le=1e5, description="width of the crop, pixels; its height is 9/16 of it")


class ClipSettings(Settings):
    """A clip made by moving a crop over a photograph."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,40}$", description="name of the clip's frames: letters, digits, - and _"
    )
    photograph: str = Field(
        min_length=1,
        max_length=4096,
        description="file name inside ultralytics' assets, or the path of an image",
    )
    boxes: tuple[BoxSettings, ...] = Field(max_length=1000, description="boxes in the photograph")
    path: tuple[Waypoint, ...] = Field(min_length=1, max_length=1000, description="places the crop passes")


class LoopbackScenario(Settings):
    """A fog and its edges on this machine."""

    edges: int = Field(ge=2, le=32, description="edge nodes")
    trainers: int = Field(ge=1, le=32, description="edges that train; at most all of them")
    frames: int = Field(ge=8, le=100_000, description="frames of both clips together")
    width: int = Field(ge=64, le=4096, description="pixels across a frame of the made clips")
    coded_width: int = Field(ge=64, le=4096, description="pixels across the frames as they are encoded")
    jpeg_quality: int = Field(ge=1, le=100, description="libjpeg quality of the made frames")
    min_visible: float = Field(
        ge=0, le=1, description="share of a box that must lie inside a crop for the box to be kept"
    )
    validation_share: float = Field(
        gt=0, lt=1, description="share of each edge's frames of a clip that is held out, at its end"
    )
    profile: Literal["siren", "pyramid", "jpeg", "webp", "avif"] = Field(
        description="how the fog represents frames"
    )
    background_psnr: float = Field(ge=10, le=60, description="dB asked of the background")
    object_psnr: float = Field(ge=10, le=60, description="dB asked of the objects")
    background_widths: tuple[int, ...] = Field(
        min_length=1, max_length=32, description="neurons of the five sine layers offered to backgrounds"
    )
    object_widths: tuple[int, ...] = Field(
        min_length=1, max_length=32, description="neurons of the three sine layers offered to objects"
    )
    object_bits: Literal[8, 16] = Field(description="bits a weight of an object's network")
    encode_seconds: float = Field(gt=0, le=1e6, description="seconds that encoding all frames may take")
    imgsz: int = Field(ge=64, le=2048, multiple_of=32, description="side of the training images, pixels")
    batch: int = Field(ge=1, le=1024, description="frames a training step")
    starter_steps: int = Field(ge=1, le=10**7, description="training steps of the starter detector")
    adapt_steps: int = Field(ge=1, le=10**7, description="training steps of each training edge")
    learning_rate: float = Field(gt=0, le=1, description="AdamW's first learning rate")
    gate_min_boxes: int = Field(ge=1, le=10**6, description="validation boxes that the deploy gate asks for")
    timeout_s: float = Field(gt=0, le=1e6, description="seconds after which an unfinished run is stopped")
    classes: tuple[str, ...] = Field(min_length=1, max_length=1000, description="ordered class names")
    clips: tuple[ClipSettings, ...] = Field(min_length=2, max_length=2, description="the two clips")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.trainers > self.edges:
            raise ValueError(f"trainers ({self.trainers}) must not be more than edges ({self.edges})")
        if self.frames < 4 * self.edges:
            raise ValueError(
                f"{self.frames} frames are too few for {self.edges} edges: each needs a frame to train on "
                f"and one held out in both clips, so at least {4 * self.edges} in all"
            )
        if self.clips[0].name == self.clips[1].name:
            raise ValueError(f"both clips are called {self.clips[0].name!r}; give them different names")
        for clip in self.clips:
            for box in clip.boxes:
                if box.name not in self.classes:
                    raise ValueError(f"clip {clip.name!r} has a box {box.name!r}, which is not in classes")
        return self


def load_loopback_scenario(path: Path = SHIPPED) -> LoopbackScenario:
    """Read a scenario file, by default the shipped one.

    Raises:
        ConfigError: The file cannot be read, or holds an unknown key or a bad value.
    """
    return load_settings(path, LoopbackScenario)
