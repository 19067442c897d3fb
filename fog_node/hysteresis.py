"""A choice that does not follow noise: a pure state machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.cost_model import Strategy

__all__ = ["Hysteresis"]


@dataclass(slots=True)
class Hysteresis:
    """Keeps a strategy until another one is clearly cheaper several times in a row.

    While every figure stays within a factor q of its true value, and q * q < 1 / (1 - margin), a strategy
    that is truly the cheapest is never left; and no two changes are closer than ``evaluations``.

    Attributes:
        margin: Share by which another strategy must be cheaper than the kept one, 0 <= margin < 1.
        evaluations: Consecutive evaluations in which the same other one must be so, >= 1.
        kept: The strategy in force; None before the first evaluation, whose cheapest is taken at once.
        rival: The strategy that was cheaper in the last evaluation by the margin, if any.
        held: Evaluations in a row for which it was.
    """

    margin: float
    evaluations: int
    kept: Strategy | None = None
    rival: Strategy | None = None
    held: int = 0

    def decide(self, figures: Mapping[Strategy, float]) -> Strategy:
        """Take one evaluation into account.

        Args:
            figures: Cost of each strategy, >= 0 and in one unit; among equals the first counts as cheapest.

        Returns:
            The strategy in force from now on.
        """
        best = min(figures, key=figures.__getitem__)
        if self.kept is None or self.kept not in figures:
            self.kept = best
        if best is self.kept or figures[best] >= figures[self.kept] * (1 - self.margin):
            self.rival, self.held = None, 0
            return self.kept
        self.held = self.held + 1 if best is self.rival else 1
        self.rival = best
        if self.held >= self.evaluations:
            self.kept, self.rival, self.held = best, None, 0
        return self.kept
