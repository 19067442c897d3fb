"""Settings of labels that the deployed detector makes (no torch)."""

from __future__ import annotations

from typing import Self

import pydantic
from pydantic import Field

from common.config import Settings
from common.node.labelling_messages import LABELLER_MODULE
from common.wire.fields import MAX_BOXES

__all__ = ["LabellingSettings"]


class LabellingSettings(Settings):
    """How frames of sources with ``labels: detector`` get their boxes."""

    confidence: float = Field(
        0.6, gt=0, lt=1, description="confidence (0..1) from which a detection becomes a box"
    )
    doubt: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="confidence (0..1) from which a detection that becomes no box leaves its frame "
        "unlabelled, lest training takes an object for background; equal to confidence: it is passed over",
    )
    max_boxes: int = Field(
        100, ge=1, le=MAX_BOXES, description="boxes of a frame at most; a frame with more stays unlabelled"
    )
    negatives: bool = Field(
        False,
        description="whether a frame in which the detector sees nothing counts as labelled without boxes; "
        "else it stays unlabelled",
    )
    tries: int = Field(
        3,
        ge=1,
        le=100,
        description="labelling processes that may die, hang or fail to start over one frame before it is "
        "recorded unlabelled",
    )
    timeout_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="seconds a frame waits for its boxes, the start of the process included, before that "
        "counts as hung",
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="where to run: auto, cpu, cuda or cuda:N"
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of the labelling process")
    nice: int = Field(5, ge=0, le=19, description="niceness of the labelling process")
    module: str = Field(LABELLER_MODULE, description="Python module of the labelling process")

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.doubt > self.confidence:
            raise ValueError(f"doubt ({self.doubt}) must not be above confidence ({self.confidence})")
        return self
