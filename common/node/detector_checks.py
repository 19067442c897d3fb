"""When the detector in use is looked at again, and whether it has fallen behind: decisions only."""

from __future__ import annotations

__all__ = ["DetectorChecks"]


class DetectorChecks:
    """Checks of one detector after the other.

    Agreement is the share of labelled boxes of the newest frames that the detector in use finds. It has
    dropped when it lies further below the best one since the deployment than it may.

    Args:
        interval_s: Seconds between two checks; None: never.
        drop: By how much agreement (0..1) may fall.
    """

    def __init__(self, interval_s: float | None, drop: float) -> None:
        self._interval_s = interval_s
        self._drop = drop
        self._next_at: float | None = None
        self._frames = 0
        self._best: float | None = None
        self._agreement: float | None = None

    @property
    def agreement(self) -> float | None:
        """The newest one, 0..1; None before the first check since the deployment."""
        return self._agreement

    @property
    def dropped(self) -> bool:
        """Whether the detector has fallen behind."""
        return (
            self._agreement is not None
            and self._best is not None
            and self._agreement < self._best - self._drop
        )

    def due(self, now: float, frames: int) -> bool:
        """Whether it is time, and there are frames that were not there at the check before."""
        if self._interval_s is None:
            return False
        if self._next_at is None:
            self._next_at = now + self._interval_s
        return now >= self._next_at and frames > self._frames

    def asked(self, now: float, frames: int) -> None:
        """A check begins, with this many frames known."""
        self._frames = frames
        self._next_at = now + (self._interval_s or 0.0)

    def answered(self, agreement: float | None) -> None:
        """A check has ended; None: there was nothing to compare with."""
        if agreement is not None:
            self._agreement = agreement
            self._best = agreement if self._best is None else max(self._best, agreement)

    def deployed(self) -> None:
        """Another detector is in use, or a round has just been trained on everything: count anew."""
        self._best = self._agreement = None
