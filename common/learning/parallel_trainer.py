"""The trainer of one process among several: Ultralytics' distributed training, fed from its own store.

Importing this module imports Ultralytics, which reads its rank from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from ultralytics.utils import RANK

from common.errors import LearningError
from common.learning.resident_loader import ResidentLoader
from common.learning.resident_trainer import ResidentTrainer
from common.learning.sampler import EpochSampler
from common.learning.views import NO_AUGMENTATION

__all__ = ["ParallelTrainer", "RankSampler"]

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others."""


class RankSampler(EpochSampler):
    """A process's share of every batch of :class:`EpochSampler`: together the shares are the batch.

    Of a batch with fewer frames than processes, some get the same frame: each must have one.

    Args:
        whole: The batches that are shared out.
        rank: Which process this is, from 0.
        ranks: How many there are.
    """

    def __init__(self, whole: EpochSampler, rank: int, ranks: int) -> None:
        super().__init__(whole.store, whole.batch, whole.seed, whole.replay_share)
        self._rank, self._ranks = rank, ranks

    def epoch(self, epoch: int) -> Iterator[Tensor]:
        """This process's frame numbers of each batch of one epoch."""
        for frames in super().epoch(epoch):
            share = frames[self._rank :: self._ranks]
            yield share if len(share) else frames[self._rank % len(frames)][None]


class ParallelTrainer(ResidentTrainer):
    """As :class:`ResidentTrainer`, in step with the other processes.

    Args:
        arguments: Those of :class:`ResidentTrainer`.
        devices: The device of each process.
    """

    def __init__(self, *arguments: Any, devices: Sequence[str]) -> None:
        self._ranks = len(devices)
        gpus = [name.removeprefix("cuda:") for name in devices if name != "cpu"]
        self.device_override = {"device": ",".join(gpus)} if gpus else {}
        super().__init__(*arguments)
        self.world_size = self._ranks

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> ResidentLoader:
        """This process's share of each batch."""
        settings = self.settings
        whole = EpochSampler(self.frames, settings.batch, settings.seed, settings.replay_share)
        augmentation = settings.augmentation if mode == "train" else NO_AUGMENTATION
        sampler = RankSampler(whole, max(0, RANK), self._ranks)
        last_mosaic = self.epochs - augmentation.close_mosaic
        return ResidentLoader(sampler, settings, augmentation, self.decode, last_mosaic)

    def count_step(self) -> None:
        """All processes stop after the same step: the first one decides."""
        super().count_step()
        flags = torch.tensor([self.stop, self.interrupted], dtype=torch.int32, device=self.device)
        dist.broadcast(flags, 0)
        self.stop, self.interrupted = (bool(flag) for flag in flags.tolist())

    def _setup_ddp(self) -> None:
        if self.device.type == "cpu":
            dist.init_process_group("gloo", rank=RANK, world_size=self._ranks, timeout=TIMEOUT)
        else:
            super()._setup_ddp()

    def _setup_train(self) -> None:
        self._compare_stores()
        if self.device.type != "cpu":
            super()._setup_train()
            return
        # Ultralytics knows distributed training on accelerators only; on the CPU it is for trying things out.
        self.world_size = 1
        super()._setup_train()
        self.world_size = self._ranks
        self.model = DistributedDataParallel(self.model, find_unused_parameters=True)

    def _compare_stores(self) -> None:
        """Processes with other frames would wait for each other for ever."""
        mine = (self.frames.numbers.tolist(), self.frames.new_from, self.frames.boxes)
        others: list[Any] = [None] * self._ranks
        dist.all_gather_object(others, mine)
        if any(other != mine for other in others):
            raise LearningError(
                "the processes of the training hold different frames, since labels or packets changed while "
                "they read them; start the training again"
            )
