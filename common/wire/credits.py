"""Windows of records and bytes in flight from fog to edge: pure state machines.

The edge's Pull states a position and a window beyond it. Both ends derive everything else, so a
repeated or late Pull does no harm.
"""

from __future__ import annotations

from collections import deque

__all__ = ["ReceiveWindow", "SendWindow"]


class SendWindow:
    """The fog's side, one for each session.

    Args:
        position: Position up to which the edge holds its subscription (from Hello).
    """

    def __init__(self, position: int = 0) -> None:
        self._held = position
        self._sent: deque[tuple[int, int]] = deque()
        self._through = position
        self._records = 0
        self._bytes = 0
        self._bytes_in_flight = 0

    @property
    def through(self) -> int:
        """Position up to which everything was sent (or filtered out): read the log after it."""
        return self._through

    @property
    def held(self) -> int:
        """Position that the edge confirmed to hold."""
        return self._held

    @property
    def records_in_flight(self) -> int:
        """Records sent and not confirmed."""
        return len(self._sent)

    @property
    def bytes_in_flight(self) -> int:
        """Their payload bytes."""
        return self._bytes_in_flight

    def pulled(self, position: int, records: int, payload_bytes: int) -> None:
        """A Pull arrived."""
        self._records, self._bytes = records, payload_bytes
        if position < self._held:
            return
        self._held = position
        while self._sent and self._sent[0][0] <= position:
            self._bytes_in_flight -= self._sent.popleft()[1]
        self._through = max(self._through, position)

    def room(self) -> tuple[int, int]:
        """(records, payload bytes) that may be sent now; (0, 0) for none.

        While there is room the next record goes whatever its size (as ``FogStore.read`` gives at
        least one): the window is exceeded by less than one record, and never stands still.
        """
        records = self._records - len(self._sent)
        size = self._bytes - self._bytes_in_flight
        if records <= 0 or (size <= 0 and self._sent):
            return 0, 0
        return records, max(size, 1)

    def sent(self, position: int, size: int) -> None:
        """A record was sent, with this many payload bytes (0 for a large one)."""
        self._sent.append((position, size))
        self._bytes_in_flight += size
        self._through = max(self._through, position)

    def passed(self, position: int) -> None:
        """The log holds nothing else for this edge up to this position."""
        self._through = max(self._through, position)


class ReceiveWindow:
    """The edge's side: when to send the next Pull.

    Args:
        records: Records in flight at most.
        payload_bytes: Payload bytes in flight at most.
    """

    def __init__(self, records: int, payload_bytes: int) -> None:
        self.records = records
        self.payload_bytes = payload_bytes
        self._records = 0
        self._bytes = 0
        self._pulled = False

    def applied(self, size: int) -> None:
        """A record with this many payload bytes was stored."""
        self._records += 1
        self._bytes += size

    def due(self) -> bool:
        """Whether to Pull: at first, and each time half a window was stored."""
        return not self._pulled or 2 * self._records >= self.records or 2 * self._bytes >= self.payload_bytes

    def pulled(self) -> None:
        """A Pull was sent."""
        self._records = self._bytes = 0
        self._pulled = True
