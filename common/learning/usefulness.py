"""Which frames a full store gives up first: recent, hard and rare ones are worth most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.learning.settings import KeepSettings

__all__ = ["BACKGROUND_CLASS", "Usefulness"]

BACKGROUND_CLASS = -1
"""Stands for the class of a frame without boxes, a true negative."""

LOSS_SHARE = 0.5
"""Share of the newest loss in a frame's average: a frame is met once an epoch, and an epoch is long."""


@dataclass(slots=True)
class _Facts:
    classes: tuple[int, ...]
    draw: float
    loss: float | None = None


class Usefulness:
    """What is known of every frame in a store.

    The usefulness of a frame is the weighted sum of three numbers from 0 to 1: its rank by arrival (the
    newest has 1), its rank by loss (the hardest, and those never trained on, have 1), and the share of frames
    without its rarest class. A share of the frames is protected whatever their usefulness: a uniform sample
    of all that ever came (the reservoir sample of Vitter 1985, by a random number drawn for each frame), so
    that what was learned long ago is replayed.

    Args:
        settings: Weights and share.
        seed: Of the random numbers.
    """

    def __init__(self, settings: KeepSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._frames: dict[int, _Facts] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def arrived(self, number: int, classes: Collection[int]) -> None:
        """A frame has come, or its labels were corrected.

        Args:
            number: Of the frame; later frames have greater ones.
            classes: Of its boxes.
        """
        kept = tuple(sorted(set(classes))) or (BACKGROUND_CLASS,)
        known = self._frames.get(number)
        if known is not None:
            known.classes, known.loss = kept, None
            return
        draw = float(np.random.default_rng([self._seed, number]).random())
        self._frames[number] = _Facts(kept, draw)

    def learned(self, losses: Mapping[int, float]) -> None:
        """Losses of frames by number, of the present detector; NaN tells nothing."""
        for number, loss in losses.items():
            facts = self._frames.get(number)
            if facts is not None and np.isfinite(loss):
                before = loss if facts.loss is None else facts.loss
                facts.loss = before + LOSS_SHARE * (loss - before)

    def gone(self, numbers: Sequence[int]) -> None:
        """These frames are no longer in the store."""
        for number in numbers:
            self._frames.pop(number, None)

    def loss(self, number: int) -> float | None:
        """The average loss of a frame; None while it is not known."""
        facts = self._frames.get(number)
        return None if facts is None else facts.loss

    def least(self, count: int) -> list[int]:
        """The ``count`` frames that are worth least, or all there are; protected ones come last."""
        numbers = sorted(self._frames)
        if count >= len(numbers):
            return numbers
        facts = [self._frames[number] for number in numbers]
        worth = self._worth(facts)
        kept = int(self._settings.protected_share * (len(numbers) - count))
        draws = np.array([fact.draw for fact in facts])
        worth[np.argsort(draws)[:kept]] += np.inf
        return [numbers[place] for place in np.argsort(worth, kind="stable")[:count]]

    def _worth(self, facts: Sequence[_Facts]) -> npt.NDArray[np.float64]:
        settings, count = self._settings, len(facts)
        recency = _ranks(np.arange(count, dtype=np.float64))
        known = np.array([fact.loss is not None for fact in facts])
        hardness = np.ones(count)
        hardness[known] = _ranks(np.array([fact.loss for fact in facts if fact.loss is not None], np.float64))
        seen = Counter(name for fact in facts for name in fact.classes)
        rarity = np.array([1 - min(seen[name] for name in fact.classes) / count for fact in facts])
        return settings.recency * recency + settings.hardness * hardness + settings.rarity * rarity


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rank of each value as a share, 0 to 1; equal values share the lower one."""
    if len(values) < 2:
        return np.ones(len(values))
    return np.searchsorted(np.sort(values), values) / (len(values) - 1)
