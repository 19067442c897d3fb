"""What :class:`common.node.training_rounds.TrainingRounds` asks of its daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from common.node.learning_messages import LearningMessage

__all__ = ["Adopt", "StartTrainer", "Tell", "TrainingInstruction"]


@dataclass(frozen=True, slots=True)
class StartTrainer:
    """Instruction: start the trainer process; call ``started`` or, later, ``lost``."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Instruction: send this to the trainer."""

    message: LearningMessage


@dataclass(frozen=True, slots=True)
class Adopt:
    """Instruction: the end of a round or of a judgement, to be written to the history.

    Call ``decided`` or ``undecided`` afterwards. Until ``decided``, no round or judgement begins and nothing
    else is adopted: all of that depends on the detector in use.

    Attributes:
        deploy: Whether the weights become the detector in use.
        source: Whether they were trained here, received, or in use before.
        weights: Path of the safetensors file; empty when there is none.
        reason: Why, one sentence.
        metrics: Figures by name.
        frames: Frames known when the round began.
        digest: Content hash in hex of received weights.
    """

    deploy: bool
    source: Literal["trained", "received", "rolled_back"]
    weights: str
    reason: str
    metrics: Mapping[str, Any]
    frames: int
    digest: str = ""


TrainingInstruction: TypeAlias = StartTrainer | Tell | Adopt
