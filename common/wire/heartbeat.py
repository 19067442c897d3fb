"""When to send a Ping and when a peer counts as lost: a pure state machine."""

from __future__ import annotations

__all__ = ["Heartbeat"]


class Heartbeat:
    """Silence in both directions of one connection. Times are seconds of a monotonic clock.

    Args:
        now: Present time.
        interval: Silence towards the peer after which a Ping is due, seconds.
        patience: Silence of the peer after which it is lost, seconds.
    """

    def __init__(self, now: float, interval: float = 1.0, patience: float = 5.0) -> None:
        self._interval = interval
        self._patience = patience
        self._heard = now
        self._sent = now

    def heard(self, now: float) -> None:
        """Anything arrived from the peer."""
        self._heard = max(self._heard, now)

    def sent(self, now: float) -> None:
        """Anything was sent to the peer."""
        self._sent = max(self._sent, now)

    def ping_due(self, now: float) -> bool:
        """Whether to send a Ping now (then report it by :meth:`sent`)."""
        return now - self._sent >= self._interval

    def lost(self, now: float) -> bool:
        """Whether the peer has been silent for too long."""
        return now - self._heard >= self._patience

    def wait(self, now: float) -> float:
        """Seconds until either answer can change, at least 0."""
        return max(0.0, min(self._sent + self._interval, self._heard + self._patience) - now)
