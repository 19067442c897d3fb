"""What an edge's daemon and its labelling process say to each other over their pipe (no torch).

A conversation::

    daemon   -> StartLabelling, Look*, Stop
    labeller -> Seen or NotSeen after each Look

One Look is under way at a time. The process reads the detector's file itself and reads it anew when it has
been replaced; a frame's encoded image crosses the pipe, because it is in no store yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, get_args

from common.node.learning_messages import Stop
from common.node.message_maps import message_from_map, message_to_map

__all__ = [
    "LABELLER_MODULE",
    "LabellingMessage",
    "Look",
    "NotSeen",
    "Seen",
    "StartLabelling",
    "from_map",
    "to_map",
]

LABELLER_MODULE = "common.learning.labeller"
"""Module that a daemon starts as ``python -m`` for its labelling process."""


@dataclass(frozen=True, slots=True)
class StartLabelling:
    """First message: with what to look.

    Attributes:
        training: Training settings as a plain map (``TrainingSettings.model_dump(mode="json")``).
        device: Where the detector runs: auto, cpu, cuda or cuda:N.
        threads: CPU threads.
        nice: Niceness of the process.
        least_confidence: Confidence (0..1) below which a detection is not told.
        most_detections: Detections told of one frame at most, the most confident ones.
        frame_pixels, frame_bytes: Largest image decoded.
    """

    kind: ClassVar[str] = "start_labelling"
    training: dict[str, Any]
    device: str
    threads: int
    nice: int
    least_confidence: float
    most_detections: int
    frame_pixels: int
    frame_bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """What is in this frame?

    Attributes:
        ticket: Number of the question.
        detector: Safetensors file of the detector in use.
        image: The encoded image.
    """

    kind: ClassVar[str] = "look"
    ticket: int
    detector: str
    image: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to a Look.

    Attributes:
        ticket: Of the Look.
        detections: (x0, y0, x1, y1, confidence, class index) of each: edges in pixels of the image, inside
            it; the most confident first.
    """

    kind: ClassVar[str] = "seen"
    ticket: int
    detections: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NotSeen:
    """A Look that could not be answered; the process stays ready for the next.

    Attributes:
        ticket: Of the Look.
        reason: One sentence.
    """

    kind: ClassVar[str] = "not_seen"
    ticket: int
    reason: str


LabellingMessage: TypeAlias = StartLabelling | Look | Seen | NotSeen | Stop

_TYPES: dict[str, type[Any]] = {cls.kind: cls for cls in get_args(LabellingMessage)}


def to_map(message: LabellingMessage) -> dict[str, Any]:
    """The message as a plain map with its ``type``, ready for the pipe."""
    return message_to_map(message)


def from_map(value: dict[str, Any]) -> LabellingMessage:
    """The message of a map from the pipe.

    Raises:
        MessageError: Of unknown type, or a field is missing, unknown or of the wrong type.
    """
    message: LabellingMessage = message_from_map(value, _TYPES, "labelling")
    return message
