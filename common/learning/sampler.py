"""The order of training frames: uniform without replacement, every frame once an epoch, seeded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
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
    """

    def __init__(self, store: ResidentStore, batch: int, seed: int) -> None:
        self.store = store
        self.batch = batch
        self.seed = seed

    def __len__(self) -> int:
        """Frames of an epoch that would begin now."""
        return len(self.store)

    @property
    def batches(self) -> int:
        """Batches of an epoch that would begin now."""
        return -(-len(self) // self.batch)

    def order(self, epoch: int) -> Tensor:
        """(F,) int64: every resident frame once, shuffled for this epoch."""
        generator = np.random.default_rng([self.seed, epoch])
        return torch.from_numpy(generator.permutation(self.store.numbers.numpy()))

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
