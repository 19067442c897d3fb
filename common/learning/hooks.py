"""What a caller may do around the steps of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.learning.detector import Detector

__all__ = ["TrainerHooks"]


@dataclass(frozen=True, slots=True)
class TrainerHooks:
    """What happens around training steps.

    Attributes:
        between_batches: Called after every step, for instance to add packets to the store.
        on_step: Called at most every half second with the steps done, the steps planned and the sum of the
            losses of the last step.
        on_epoch: Called after every epoch with its number (from 1) and the averaged detector.
        should_stop: Whether to stop after this step, keeping a checkpoint.
        busy: Whether the daemon needs the machine; asked where ``between_batches`` is not called, because
            the steps are done by other processes.
    """

    between_batches: Callable[[], None] = lambda: None
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None
    on_epoch: Callable[[int, Detector], None] = lambda epoch, detector: None
    should_stop: Callable[[], bool] = lambda: False
    busy: Callable[[], bool] = lambda: False
