"""Where the time of a training goes, epoch by epoch, whatever feeds the trainer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from decoding.waits import wait

__all__ = ["Epoch", "Stopwatch"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Seconds of one epoch.

    Attributes:
        total: All of it.
        waiting: Until a batch was there, all batches together.
        network: The rest: forward, loss, backward, optimizer, averaged weights.
        processor: Processor time of this process, all threads.
    """

    total: float
    waiting: float
    processor: float = 0.0

    @property
    def network(self) -> float:
        """Seconds in the steps themselves."""
        return self.total - self.waiting


class Stopwatch:
    """Times the epochs of an Ultralytics trainer.

    Args:
        trainer: Before its training.
        device: Where it trains; work still under way there counts at the end of an epoch.

    Attributes:
        epochs: Those that are over.
    """

    def __init__(self, trainer: Any, device: torch.device) -> None:
        self.epochs: list[Epoch] = []
        self._device = device
        self._begin = self._asked = self._waiting = self._processor = 0.0
        for event in ("on_train_epoch_start", "on_train_batch_start", "on_train_batch_end"):
            trainer.add_callback(event, getattr(self, event[3:]))
        trainer.add_callback("on_train_epoch_end", self.train_epoch_end)

    def train_epoch_start(self, trainer: object) -> None:
        """An epoch begins."""
        wait(self._device)
        self._begin = self._asked = time.perf_counter()
        self._processor = time.process_time()
        self._waiting = 0.0

    def train_batch_start(self, trainer: object) -> None:
        """A batch is there."""
        self._waiting += time.perf_counter() - self._asked

    def train_batch_end(self, trainer: object) -> None:
        """A step is done: the next batch is asked for."""
        self._asked = time.perf_counter()

    def train_epoch_end(self, trainer: object) -> None:
        """An epoch is over."""
        wait(self._device)
        total, processor = time.perf_counter() - self._begin, time.process_time() - self._processor
        self.epochs.append(Epoch(total, self._waiting, processor))
