"""One link of the proxy: a listening socket, its connections, and what is wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from common.errors import ConfigError, reason
from simulations.impairment.bucket import Bucket
from simulations.impairment.flow import Flow, Way
from simulations.impairment.settings import (
    Direction,
    DirectionSettings,
    ImpairmentSettings,
    LinkImpairment,
)

__all__ = ["Link"]

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket that is closed by RST."""


class Link:
    """Connections from one listening port to one target.

    Args:
        settings: Of the link.
        limits: Of the proxy.
        shared: Bucket of its medium, if it has one.
        start: When the proxy began, by the clock of the event loop, seconds.
    """

    def __init__(
        self, settings: LinkImpairment, limits: ImpairmentSettings, shared: Bucket | None, start: float
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._ways: dict[Direction, Way] = {
            "up": _way(settings.up, shared, start, f"{limits.seed} {settings.name} up"),
            "down": _way(settings.down, shared, start, f"{limits.seed} {settings.name} down"),
        }
        self._pairs: dict[asyncio.Task[None], tuple[socket.socket, socket.socket]] = {}
        self._refusing = False
        self._connected = 0
        self._accepting: asyncio.Task[None] | None = None
        self._listener = self._listening()

    @property
    def port(self) -> int:
        """Port to connect to."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Accept connections."""
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Close everything."""
        tasks = [*self._pairs, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    def counters(self) -> dict[str, Any]:
        """Bytes handed on in each direction, bytes on their way, flipped bits, connections so far and now."""
        up, down = self._ways["up"], self._ways["down"]
        return {
            "bytes_up": up.passed,
            "bytes_down": down.passed,
            "held_up": up.held,
            "held_down": down.held,
            "flipped": up.flipped + down.flipped,
            "connections": self._connected,
            "open": len(self._pairs),
        }

    def stall(self, directions: Iterable[Direction]) -> None:
        """Forward nothing, and keep the connections."""
        for direction in directions:
            self._ways[direction].open.clear()

    def resume(self, directions: Iterable[Direction]) -> None:
        """Undo :meth:`stall`."""
        for direction in directions:
            self._ways[direction].open.set()

    def flip(self, direction: Direction, offset: int) -> None:
        """Flip one bit of the byte that is ``offset`` bytes after the next to be read."""
        way = self._ways[direction]
        way.flips = sorted([*way.flips, way.taken + offset])

    def change(self, direction: Direction, values: Mapping[str, Any], now: float) -> None:
        """Give a direction other settings; those not named stay.

        Raises:
            ConfigError: There is no such setting, or its value is out of range.
        """
        way = self._ways[direction]
        whole = {**way.settings.model_dump(), **values}
        try:
            way.settings = DirectionSettings.model_validate(whole)
        except ValueError as error:
            raise ConfigError(
                f"the link {self._settings.name!r} cannot take {dict(values)}: {error}"
            ) from error
        if "bytes_per_s" in values:
            way.bucket.change(way.settings.bytes_per_s, now)

    async def reset(self) -> None:
        """End every connection by RST at both ends."""
        await self._end(at_once=True)

    async def drop(self) -> None:
        """Close every connection at both ends; what was on its way is lost."""
        await self._end(at_once=False)

    async def cut(self) -> None:
        """Reset every connection and each new one until :meth:`mend`."""
        self._refusing = True
        await self.reset()

    def mend(self) -> None:
        """Take connections again."""
        self._refusing = False

    async def _end(self, *, at_once: bool) -> None:
        tasks = list(self._pairs)
        for task in tasks:
            for end in self._pairs[task]:
                with contextlib.suppress(OSError):
                    if at_once:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                    else:
                        # Closing with bytes unread would be a reset.
                        end.shutdown(socket.SHUT_WR)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _listening(self) -> socket.socket:
        settings = self._settings
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets take the buffers of the listening one.
            self._bound_buffers(listener)
            listener.bind((settings.listen, settings.port))
            listener.listen(64)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"the link {settings.name!r} cannot listen on {settings.listen}:{settings.port}: "
                f"{reason(error)}; choose another port, or 0 for any"
            ) from error
        return listener

    def _bound_buffers(self, end: socket.socket) -> None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, self._limits.socket_buffer_bytes)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._listener)
            if self._refusing or len(self._pairs) >= self._limits.connections:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                near.close()
                continue
            near.setblocking(False)
            far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            far.setblocking(False)
            self._bound_buffers(far)
            self._connected += 1
            task = asyncio.create_task(self._carry(near, far))
            self._pairs[task] = near, far
            task.add_done_callback(self._pairs.pop)

    async def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """One connection from its beginning to its end; a failure at one end ends the other too."""
        loop = asyncio.get_running_loop()
        bounds = {"chunk_bytes": self._limits.chunk_bytes, "buffer_bytes": self._limits.buffer_bytes}
        with near, far:
            try:
                await loop.sock_connect(far, (self._settings.target, self._settings.target_port))
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(Flow(near, far, self._ways["up"], **bounds).run())
                    tasks.create_task(Flow(far, near, self._ways["down"], **bounds).run())
            except* OSError:
                # The peers see it: that is what a link does.
                for end in (near, far):
                    with contextlib.suppress(OSError):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)


def _way(settings: DirectionSettings, shared: Bucket | None, start: float, seed: str) -> Way:
    steps = [(start + step.at_s, step.bytes_per_s) for step in settings.steps]
    bucket = Bucket(settings.bytes_per_s, settings.burst_bytes, steps)
    return Way(settings, bucket, shared, random.Random(seed))
