"""What a daemon and its trainer process say to each other over their pipe (no torch).

A conversation::

    daemon  -> Start, (Position | Busy)*, Train | Judge | Check, ..., Stop
    trainer -> Ready after Start; Progress* while it works; Result or Failed after each Train or Judge,
               Checked or Failed after each Check

The trainer reads packets and validation originals from the node's store itself, by log position; no
pixel and no weight crosses the pipe. One Train, Judge or Check is under way at a time; Position and Busy
may arrive at any moment. After a crash the daemon starts a new trainer and sends Start and the last
Position again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from common.node.message_maps import message_from_map, message_to_map

__all__ = [
    "TRAINER_MODULE",
    "Busy",
    "Check",
    "Checked",
    "Failed",
    "Judge",
    "LearningMessage",
    "Position",
    "Progress",
    "Ready",
    "Result",
    "Start",
    "Stop",
    "Train",
    "from_map",
    "to_map",
]

TRAINER_MODULE = "common.learning.worker"
"""Module that a daemon starts as ``python -m`` for its trainer process."""

Role: TypeAlias = Literal["edge", "fog"]


@dataclass(frozen=True, slots=True)
class Start:
    """First message: where everything is.

    Attributes:
        role: Whether the node is an edge or the fog.
        store: Path of the node's store, for ``open_training_view``.
        work_dir: Folder for checkpoints and weights, kept over restarts.
        settings: Training settings as a plain map (``TrainingSettings.model_dump(mode="json")``).
    """

    kind: ClassVar[str] = "start"
    role: Role
    store: str
    work_dir: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Position:
    """The node's store now holds every record up to this log position."""

    kind: ClassVar[str] = "position"
    position: int


@dataclass(frozen=True, slots=True)
class Train:
    """Train one round, then compare with the detector in use.

    Attributes:
        reason: Why now, one phrase for the log.
        start_weights: Safetensors file of the detector in use: the round starts from it and the gate
            compares with it. None: start from ``settings.model``; there is nothing to compare with.
    """

    kind: ClassVar[str] = "train"
    reason: str
    start_weights: str | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Compare received weights with the detector in use, by the gate, without training.

    Attributes:
        reason: Where the weights come from, one phrase for the log.
        weights: Safetensors file to judge.
        current: Safetensors file of the detector in use, or None.
    """

    kind: ClassVar[str] = "judge"
    reason: str
    weights: str
    current: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """See whether the detector in use still does what it is in use for.

    Attributes:
        detector: Its safetensors file.
        previous: File of the detector that it replaced, or None.
    """

    kind: ClassVar[str] = "check"
    detector: str
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """Whether the daemon has something more urgent to do than training: uploads wait."""

    kind: ClassVar[str] = "busy"
    busy: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """End: save a checkpoint if a round is under way, and exit with code 0."""

    kind: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class Ready:
    """The resident store has been built.

    Attributes:
        position: Log position that it holds.
        frames: Frames that can be trained on (labelled, not validation).
        validation_boxes: Boxes on the validation originals at hand.
    """

    kind: ClassVar[str] = "ready"
    position: int = 0
    frames: int = 0
    validation_boxes: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a round is.

    Attributes:
        step, steps: Optimizer steps done and planned.
        loss: Sum of the detector's loss items of the last step; None before the first step, and while it is
            NaN or infinite.
        metrics: Other figures by name.
    """

    kind: ClassVar[str] = "progress"
    step: int
    steps: int
    loss: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a round or a judgement.

    Attributes:
        deploy: Whether the gate lets the weights become the detector in use.
        reason: The gate's decision, one sentence.
        weights: Safetensors file that was trained or judged; it stays until the next Train.
        metrics: Figures by name: map50, map50_95, baseline_map50, baseline_map50_95, images,
            validation_boxes, seconds, steps, ...
    """

    kind: ClassVar[str] = "result"
    deploy: bool
    reason: str
    weights: str
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """The end of a Check.

    Attributes:
        roll_back: Whether the previous detector is, with confidence, better on the validation frames now.
        reason: Why, one sentence.
        agreement: Share (0..1) of the labelled boxes of the newest frames that the detector in use finds at
            IoU 0.5; None when they have no boxes.
        metrics: Figures of the previous detector by name, as in Result.
    """

    kind: ClassVar[str] = "checked"
    roll_back: bool
    reason: str
    agreement: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """A round or a judgement that could not be done; the trainer stays ready for the next.

    Attributes:
        reason: One sentence.
    """

    kind: ClassVar[str] = "failed"
    reason: str


LearningMessage: TypeAlias = (
    Start | Position | Busy | Train | Judge | Check | Stop | Ready | Progress | Result | Checked | Failed
)

_TYPES: dict[str, type[Any]] = {cls.kind: cls for cls in get_args(LearningMessage)}


def to_map(message: LearningMessage) -> dict[str, Any]:
    """The message as a plain map with its ``type``, ready for the pipe."""
    return message_to_map(message)


def from_map(value: dict[str, Any]) -> LearningMessage:
    """The message of a map from the pipe.

    Raises:
        MessageError: Of unknown type, or a field is missing, unknown or of the wrong type.
    """
    message: LearningMessage = message_from_map(value, _TYPES, "trainer")
    return message
