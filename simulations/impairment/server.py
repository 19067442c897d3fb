"""The proxy's process: links, and commands on stdin with an answer each on stdout, as lines of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any

from common.errors import ConfigError, ResidualInrError, UsageError
from simulations.impairment.bucket import Bucket
from simulations.impairment.link import Link
from simulations.impairment.settings import Direction, ImpairmentSettings

__all__ = ["COMMANDS", "Server", "serve"]

COMMANDS = ("counters", "stall", "resume", "reset", "drop", "cut", "mend", "flip", "change", "rate")
"""What may be asked for, under "do"; all but counters and rate name a "link"."""


class Server:
    """All links of a proxy; made inside a running event loop.

    Args:
        settings: Of the proxy.

    Raises:
        ConfigError: A port cannot be listened on.
    """

    def __init__(self, settings: ImpairmentSettings) -> None:
        start = asyncio.get_running_loop().time()
        self._media = {
            medium.name: Bucket(
                medium.bytes_per_s,
                medium.burst_bytes,
                [(start + step.at_s, step.bytes_per_s) for step in medium.steps],
            )
            for medium in settings.media
        }
        self._links = {
            link.name: Link(link, settings, self._media[link.medium] if link.medium else None, start)
            for link in settings.links
        }

    @property
    def ports(self) -> dict[str, int]:
        """Port of each link by its name."""
        return {name: link.port for name, link in self._links.items()}

    def start(self) -> None:
        """Accept connections."""
        for link in self._links.values():
            link.start()

    async def close(self) -> None:
        """Close everything."""
        for link in self._links.values():
            await link.close()

    async def perform(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says; returns its answer.

        Raises:
            UsageError: There is no such command or link, or it lacks a value.
            ConfigError: A new value is out of range.
        """
        verb = command.get("do")
        now = asyncio.get_running_loop().time()
        if verb == "counters":
            return {name: link.counters() for name, link in self._links.items()}
        if verb == "rate":
            self._bucket(command).change(_positive(command.get("bytes_per_s")), now)
            return {}
        if verb not in COMMANDS:
            raise UsageError(f"there is no command {verb!r}; use one of {', '.join(COMMANDS)}")
        link = self._links.get(str(command.get("link")))
        if link is None:
            known = ", ".join(self._links)
            raise UsageError(f"there is no link {command.get('link')!r}; the links are {known}")
        directions = _directions(command.get("direction", "both"))
        match verb:
            case "stall":
                link.stall(directions)
            case "resume":
                link.resume(directions)
            case "reset":
                await link.reset()
            case "drop":
                await link.drop()
            case "cut":
                await link.cut()
            case "mend":
                link.mend()
            case "flip":
                offset = command.get("offset", 0)
                if type(offset) is not int or offset < 0:
                    raise UsageError(f"flip needs an offset of at least 0, not {offset!r}")
                for direction in directions:
                    link.flip(direction, offset)
            case _:
                for direction in directions:
                    link.change(direction, dict(command.get("values") or {}), now)
        return {}

    def _bucket(self, command: dict[str, Any]) -> Bucket:
        name = str(command.get("medium"))
        if name not in self._media:
            known = ", ".join(self._media) or "there is none"
            raise UsageError(f"there is no medium {name!r}; the media are: {known}")
        return self._media[name]


async def serve(settings: ImpairmentSettings) -> None:
    """Tell the ports, then do what stdin says until it ends.

    Raises:
        ConfigError: A port cannot be listened on.
    """
    server = Server(settings)
    server.start()
    try:
        _answer({"ports": server.ports})
        async for line in _lines():
            try:
                command = json.loads(line)
                if not isinstance(command, dict):
                    raise UsageError("a command is one JSON object a line")
                _answer({"ok": True, "answer": await server.perform(command)})
            except ResidualInrError as error:
                _answer({"ok": False, "error": str(error)})
            except ValueError as error:
                _answer({"ok": False, "error": f"a command is no JSON: {error}"})
    finally:
        await server.close()


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=1 << 16)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _directions(name: object) -> Iterable[Direction]:
    if name == "both":
        return ("up", "down")
    if name == "up":
        return ("up",)
    if name == "down":
        return ("down",)
    raise UsageError(f"a direction is up, down or both, not {name!r}")


def _positive(value: object) -> float:
    if isinstance(value, int | float) and 0 < value <= 1e12:
        return float(value)
    raise ConfigError(f"a rate needs to be above 0 and at most 1e12 bytes a second, not {value!r}")
