"""One direction of one connection through the proxy: rate, delay, jitter, stall, flipped bits."""

from __future__ import annotations

import asyncio
import math
import random
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulations.impairment.bucket import Bucket
from simulations.impairment.settings import DirectionSettings

__all__ = ["Flow", "Way"]


@dataclass(slots=True)
class Way:
    """One direction of one link; all connections of the link share it.

    Attributes:
        settings: Delay, jitter and chance of flipped bits; may be replaced at any time.
        bucket: Its rate.
        shared: The medium's bucket, if it shares one.
        random: Of jitter and flipped bits.
        open: Set unless the direction is stalled.
        taken: Bytes read from senders.
        passed: Bytes handed on.
        held: Bytes read and not handed on.
        flipped: Bits flipped.
        flips: Offsets in the sum of bytes taken at which a bit is to be flipped, in order.
    """

    settings: DirectionSettings
    bucket: Bucket
    shared: Bucket | None
    random: random.Random
    open: asyncio.Event = field(default_factory=asyncio.Event)
    taken: int = 0
    passed: int = 0
    held: int = 0
    flipped: int = 0
    flips: list[int] = field(default_factory=list)
    _next_random: int | None = None

    def __post_init__(self) -> None:
        self.open.set()

    def damaged(self, data: bytes) -> bytes:
        """Count bytes that were read and flip the bits that are due in them."""
        begin, self.taken = self.taken, self.taken + len(data)
        places = [offset - begin for offset in self.flips if offset < self.taken]
        self.flips = [offset for offset in self.flips if offset >= self.taken]
        places += [place - begin for place in self._random_flips(begin)]
        if not places:
            return data
        changed = bytearray(data)
        for place in places:
            if place >= 0:
                changed[place] ^= 1 << self.random.randrange(8)
                self.flipped += 1
        return bytes(changed)

    def _random_flips(self, begin: int) -> list[int]:
        chance = self.settings.flip_probability
        if not chance:
            self._next_random = None
            return []
        places = []
        if self._next_random is None:
            self._next_random = begin + self._gap(chance)
        while self._next_random < self.taken:
            places.append(self._next_random)
            self._next_random += 1 + self._gap(chance)
        return places

    def _gap(self, chance: float) -> int:
        """Bytes before the next that is hit: geometric."""
        if chance >= 1:
            return 0
        return int(math.log(1 - self.random.random()) / math.log1p(-chance))


class Flow:
    """Carries bytes of one connection in one direction until their sender ends.

    Bytes wait for the rate one chunk at a time, and for the delay in a line of at most ``buffer_bytes``;
    everything else waits in the sender's own socket.

    Args:
        source: Where bytes come from, non-blocking.
        sink: Where they go, non-blocking.
        way: The direction that they share with other connections of the link.
        chunk_bytes: Bytes read at once.
        buffer_bytes: Bytes held at most.
    """

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        way: Way,
        *,
        chunk_bytes: int,
        buffer_bytes: int,
    ) -> None:
        self._source = source
        self._sink = sink
        self._way = way
        self._chunk = chunk_bytes
        self._buffer = buffer_bytes
        self._line: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Carry bytes until the sender has ended and everything has been handed on.

        Raises:
            ExceptionGroup: One of the sockets has failed (OSError).
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take())
                tasks.create_task(self._hand_on())
        finally:
            # What a lost connection leaves behind is on no link any more.
            self._way.held -= self._held

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        way, last = self._way, 0.0
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._held < self._buffer)
            await way.open.wait()
            data = await loop.sock_recv(self._source, min(self._chunk, self._buffer - self._held))
            # A stall holds back what was under way when it began.
            await way.open.wait()
            if data:
                self._held += len(data)
                way.held += len(data)
                data = way.damaged(data)
                await _sleep_until(self._pass_at(len(data)))
                delay = way.settings.delay_s + way.random.random() * way.settings.jitter_s
                last = max(last, loop.time() + delay)
            async with self._changed:
                if data:
                    self._line.append((last, data))
                else:
                    self._ended = True
                self._changed.notify_all()
            if not data:
                return

    def _pass_at(self, size: int) -> float:
        now = asyncio.get_running_loop().time()
        way = self._way
        buckets: Sequence[Bucket] = [way.bucket] if way.shared is None else [way.bucket, way.shared]
        return max(bucket.take(size, now) for bucket in buckets)

    async def _hand_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._line or self._ended)
                if not self._line:
                    break
                due, data = self._line.popleft()
            await _sleep_until(due)
            await self._way.open.wait()
            await loop.sock_sendall(self._sink, data)
            self._way.passed += len(data)
            self._way.held -= len(data)
            async with self._changed:
                self._held -= len(data)
                self._changed.notify_all()
        self._sink.shutdown(socket.SHUT_WR)


async def _sleep_until(time: float) -> None:
    left = time - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)
