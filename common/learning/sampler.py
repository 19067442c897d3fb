"""The order of training frames: uniform without replacement, every frame once an epoch, seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.learning.resident import ResidentStore

__all__ = ["EpochSampler"]


class EpochSampler:
    """Batches of frame numbers.

    A batch is a uniform draw whatever the sizes of its networks: grouping happens inside a batch. The order
    depends on the seed, the epoch and the frames resident when the epoch begins; frames added later wait for
    the next epoch, frames evicted meanwhile are left out.

    Args:
        store: Where the frames are.
        batch: Frames a batch; the last one of an epoch may be smaller.
        seed: Seed of all epochs together.
        replay_share: Share of an epoch that is drawn anew from the frames before ``store.new_from``, beside
            all later ones; None: every frame of the store.
    """

    def __init__(
        self, store: ResidentStore, batch: int, seed: int, replay_share: float | None = None
    ) -> None:
        self.store = store
        self.batch = batch
        self.seed = seed
        self.replay_share = replay_share

    def __len__(self) -> int:
        """Frames of an epoch that would begin now."""
        old, new = self._parts()
        return self._replayed(old, new) + len(new)

    @property
    def batches(self) -> int:
        """Batches of an epoch that would begin now."""
        return -(-len(self) // self.batch)

    def order(self, epoch: int) -> Tensor:
        """(F,) int64: the frames of this epoch once each, shuffled for it."""
        generator = np.random.default_rng([self.seed, epoch])
        old, new = self._parts()
        replayed = self._replayed(old, new)
        if replayed < len(old):
            old = generator.permutation(old)[:replayed]
        return torch.from_numpy(generator.permutation(np.concatenate([old, new])))

    def _parts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Frames of earlier rounds, and those that came since."""
        numbers = self.store.numbers.numpy()
        first = int(np.searchsorted(numbers, self.store.new_from))
        return numbers[:first], numbers[first:]

    def _replayed(self, old: npt.NDArray[np.int64], new: npt.NDArray[np.int64]) -> int:
        """How many of the old frames an epoch takes; all of them when there is nothing new."""
        if self.replay_share is None or not len(new):
            return len(old)
        return min(len(old), math.ceil(len(new) * self.replay_share / (1 - self.replay_share)))

    def set_epoch(self, epoch: int) -> None:
        """Asked of samplers in distributed training; epochs are numbered by whoever iterates."""

    def resident(self, frames: Tensor) -> Tensor:
        """Which (N,) bool of the frames (N,) int64 have not been evicted."""
        return self.store.resident(frames)

    def epoch(self, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch: frame numbers (B,) int64."""
        order = self.order(epoch)
        for at in range(0, len(order), self.batch):
            frames = order[at : at + self.batch]
            resident = self.resident(frames)
            if bool(resident.any()):
                yield frames[resident]
