"""Keys that two nodes use at once, such as those of a copied memory card: a pure state machine."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["Rivals"]

PERIOD_S = 60.0
"""Time in which returns are counted, seconds."""

RETURNS = 5
"""Returns in a period that one node would not make: it speaks on one connection at a time, but what it said
on a lost one may be read late."""

REMEMBERED = 8
"""Connections of a key that lost their session, remembered to know them again."""


@dataclass(slots=True)
class _Key:
    lost: deque[bytes] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))


class Rivals:
    """Finds keys whose session goes to and fro between connections that both live.

    Each Hello ends the session of the same key on another connection, and that one then says Hello again.
    """

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}

    def took(self, key: str, loser: bytes, winner: bytes, now: float) -> None:
        """A Hello on the connection ``winner`` has ended the session on the connection ``loser``."""
        entry = self._keys.setdefault(key, _Key())
        if winner in entry.lost:
            entry.lost.remove(winner)
            entry.returns.append(now)
        if loser not in entry.lost:
            entry.lost.append(loser)

    def keys(self, now: float) -> list[str]:
        """Keys that two nodes use, in order."""
        return sorted(
            key
            for key, entry in self._keys.items()
            if len(entry.returns) == RETURNS and now - entry.returns[0] <= PERIOD_S
        )

    def forget(self, key: str) -> None:
        """The key is no longer allowed."""
        self._keys.pop(key, None)
