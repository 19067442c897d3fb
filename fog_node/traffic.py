"""Bytes to and from each edge, as they cross the socket: headers and payloads, without TCP's own."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

__all__ = ["PeerTraffic", "Traffic"]


@dataclass(slots=True)
class PeerTraffic:
    """One edge's counters since the daemon started.

    Attributes:
        up, down: Bytes from and to the edge.
        packets_down: Packet payload bytes among ``down``.
        weights_down: Bytes of large payloads (weights, mostly) and originals among ``down``.
    """

    up: int = 0
    down: int = 0
    packets_down: int = 0
    weights_down: int = 0


@dataclass(slots=True)
class Traffic:
    """Counters by the edge's key; a key gets an entry only once it was authenticated."""

    peers: dict[str, PeerTraffic] = field(default_factory=dict)

    def peer(self, key: str) -> PeerTraffic:
        """The counters of one edge."""
        return self.peers.setdefault(key, PeerTraffic())

    def keep(self, listed: Container[str]) -> None:
        """Forget devices that are not on the list, so that there are never more than those."""
        for key in [key for key in self.peers if key not in listed]:
            del self.peers[key]
