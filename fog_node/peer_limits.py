"""How much one device may send in a second: a pure state machine, by authenticated key."""

from __future__ import annotations

from common.wire.token_bucket import TokenBucket
from fog_node.settings import LimitSettings

__all__ = ["PeerLimits"]

BURST_S = 2.0
"""What a device may send at once after a rest, seconds of its rate."""


class _Peer:
    def __init__(self, settings: LimitSettings) -> None:
        def bucket(rate: float | None) -> TokenBucket:
            return TokenBucket(rate, 0.0 if rate is None else max(1.0, rate * BURST_S))

        self.messages = bucket(settings.messages_per_s)
        self.uploads = bucket(settings.uploads_per_s)
        self.upload_bytes = bucket(settings.upload_bytes_per_s)


class PeerLimits:
    """Messages, uploads and bytes of each device; a new connection does not start a new budget.

    Args:
        settings: The bounds.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._peers: dict[str, _Peer] = {}

    def message(self, key: str, now: float) -> bool:
        """Whether a message that has come is within the device's rate; one beyond is not looked at."""
        bucket = self._peer(key).messages
        if not bucket.ready(now):
            return False
        bucket.take(1, now)
        return True

    def upload(self, key: str, size: int, now: float) -> float:
        """Seconds to wait before an upload of ``size`` bytes is taken; 0: it is taken now."""
        peer = self._peer(key)
        wait = max(peer.uploads.wait(now), peer.upload_bytes.wait(now))
        if wait <= 0:
            peer.uploads.take(1, now)
            peer.upload_bytes.take(size, now)
        return wait

    def forget(self, key: str) -> None:
        """The device is no longer allowed."""
        self._peers.pop(key, None)

    def _peer(self, key: str) -> _Peer:
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(self._settings)
        return peer
