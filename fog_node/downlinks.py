"""What the fog's links to its edges carry, by what the edges confirm."""

from __future__ import annotations

from common.node.rate_meter import RateMeter

__all__ = ["Downlinks"]

LEAST_BYTES = 65_536
"""Bytes that must be under way together for their time to tell the link's rate: packets that come one by one,
as the encoders finish them, tell how quick those are."""


class Downlinks:
    """Measures each edge's downlink while records are on their way to it; the edge's disk is part of it.

    Args:
        overhead_bytes: Bytes of a record's message beside its payload.
    """

    def __init__(self, overhead_bytes: float) -> None:
        self._overhead = overhead_bytes
        self._meters: dict[str, RateMeter] = {}

    def sent(self, key: str, records_in_flight: int, now: float) -> None:
        """Records may have been sent to the edge ``key``: so many are on their way now."""
        if records_in_flight:
            self._meter(key).begin(now)

    def confirmed(
        self, key: str, records: int, payload_bytes: int, records_in_flight: int, now: float
    ) -> None:
        """The edge has stored so many records; so many are still on their way."""
        meter = self._meter(key)
        if records > 0:
            meter.add(payload_bytes + round(records * self._overhead), now)
        if not records_in_flight:
            meter.end()

    def fetched(self, key: str, size: int, now: float) -> None:
        """A piece of large content goes to the edge, which holds up the record that names it."""
        self._meter(key).add(size, now)

    def gone(self, key: str) -> None:
        """The edge's session has ended: what is on its way will be sent again."""
        if key in self._meters:
            self._meters[key].end()

    def forget(self, key: str) -> None:
        """The edge is no longer allowed: what was measured is dropped."""
        self._meters.pop(key, None)

    def rate(self, key: str) -> float | None:
        """Bytes a second to the edge, or None before enough was sent at once."""
        meter = self._meters.get(key)
        return None if meter is None else meter.bytes_per_second()

    def _meter(self, key: str) -> RateMeter:
        return self._meters.setdefault(key, RateMeter(least_bytes=LEAST_BYTES))
