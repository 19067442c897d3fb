"""A fog and its edges in network namespaces of Linux: real TCP over links whose rate the kernel limits.

Each edge's namespace has one virtual cable (veth) into the fog's namespace, with a token bucket (tbf) at
either end. The machine's own network is not touched. It needs root, ``ip`` and ``tc``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from common.errors import DeploymentError

__all__ = ["FRAMING_BYTES", "SEGMENT_BYTES", "CableCounters", "CableSettings", "Namespaces", "why_not"]

MTU = 1500
"""Bytes of an IP packet at most."""

FRAMING_BYTES = 14 + 20 + 32
"""Ethernet, IPv4 and TCP (with timestamps) headers of a packet."""

SEGMENT_BYTES = MTU - 20 - 32
"""Bytes of a connection that a full packet carries."""

BURST_BYTES = 16_384
"""Bytes that a cable lets through at once after a pause: more than pass in a tick of the kernel's clock."""

QUEUE_BYTES = 131_072
"""Bytes that wait for a cable before packets are lost, as in a router."""

SEND_BUFFERS = "4096 65536 65536"
"""tcp_wmem: a connection cannot fill a cable's queue, so nothing is lost and no acknowledgement grows by a
list of what came out of order. Losses belong to the impairment proxy, where they follow a seed."""

PREFIX = "rinr"
"""Names of namespaces begin so, followed by the process that made them."""


@dataclass(frozen=True, slots=True)
class CableSettings:
    """The cable of one edge.

    Attributes:
        name: Of the edge: letters, digits, - and _.
        up_bytes_per_s, down_bytes_per_s: Rates towards the fog and from it, B/s, headers of packets included.
    """

    name: str
    up_bytes_per_s: float
    down_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class CableCounters:
    """What one cable has carried, Ethernet, IP and TCP headers included.

    Attributes:
        bytes_up, bytes_down: Bytes.
        packets_up, packets_down: Packets.
    """

    bytes_up: int
    bytes_down: int
    packets_up: int
    packets_down: int

    @property
    def content_up(self) -> int:
        """Bytes of the connections alone, up to some tens for each connection that is made."""
        return self.bytes_up - FRAMING_BYTES * self.packets_up

    @property
    def content_down(self) -> int:
        """The same downwards."""
        return self.bytes_down - FRAMING_BYTES * self.packets_down


def why_not() -> str | None:
    """Why namespaces cannot be used here, in one sentence without a full stop; None: they can."""
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    if missing:
        return f"the program {missing[0]} is not installed"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    try:
        with Namespaces([CableSettings("probe", 1e6, 1e6)]):
            return None
    except DeploymentError as error:
        return str(error)


class Namespaces:
    """Namespaces of a fog and its edges; leaving the ``with`` block removes them.

    Stop what runs in them first.

    Args:
        cables: One an edge, at most 250.

    Raises:
        DeploymentError: The kernel or the rights of this user do not allow it; the sentence says what failed.
    """

    def __init__(self, cables: Sequence[CableSettings]) -> None:
        self._cables = tuple(cables)
        self._names = {place: f"{PREFIX}-{os.getpid()}-{place}" for place in ("fog", *map(_name, cables))}
        _remove_leftovers()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def command(self, place: str) -> tuple[str, ...]:
        """What to put before a command for it to run at ``place``: "fog" or the name of an edge."""
        return ("ip", "netns", "exec", self._names[place])

    def fog_address(self, edge: str) -> str:
        """IPv4 address of the fog as this edge sees it."""
        return _addresses([_name(cable) for cable in self._cables].index(edge))[0]

    def counters(self) -> dict[str, CableCounters]:
        """What each cable has carried so far, by the edge's name."""
        devices = json.loads(_run("ip", "-n", self._names["fog"], "-s", "-j", "link", "show"))
        by_name = {device["ifname"]: device["stats64"] for device in devices if "stats64" in device}
        counters = {}
        for index, cable in enumerate(self._cables):
            stats = by_name[f"edge{index}"]
            rx, tx = stats["rx"], stats["tx"]
            counters[_name(cable)] = CableCounters(rx["bytes"], tx["bytes"], rx["packets"], tx["packets"])
        return counters

    def plug(self, edge: str, plugged: bool) -> None:
        """Plug an edge's cable in, or pull it out; connections stay, and nothing passes meanwhile."""
        index = [_name(cable) for cable in self._cables].index(edge)
        _run("ip", "-n", self._names["fog"], "link", "set", f"edge{index}", "up" if plugged else "down")

    def close(self) -> None:
        """Remove the namespaces, and with them their cables."""
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make(self) -> None:
        fog = self._names["fog"]
        for name in self._names.values():
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            tell = f"echo {SEND_BUFFERS} > /proc/sys/net/ipv4/tcp_wmem"
            _run("ip", "netns", "exec", name, "sh", "-c", tell)
        for index, cable in enumerate(self._cables):
            edge, near, far = self._names[cable.name], f"edge{index}", "fog"
            _run("ip", "link", "add", near, "netns", fog, "type", "veth", "peer", "name", far, "netns", edge)
            ends = (
                (fog, near, _addresses(index)[0], cable.down_bytes_per_s),
                (edge, far, _addresses(index)[1], cable.up_bytes_per_s),
            )
            for place, device, address, rate in ends:
                _run("ip", "-n", place, "address", "add", f"{address}/30", "dev", device)
                _run("ip", "-n", place, "link", "set", device, "mtu", str(MTU), "up")
                bucket = (
                    "rate",
                    f"{round(8 * rate)}bit",
                    "burst",
                    str(BURST_BYTES),
                    "limit",
                    str(QUEUE_BYTES),
                )
                _run("tc", "-n", place, "qdisc", "add", "dev", device, "root", "tbf", *bucket)


def _name(cable: CableSettings) -> str:
    return cable.name


def _addresses(index: int) -> tuple[str, str]:
    """IPv4 addresses of the fog and of the edge at the ends of a cable."""
    return f"10.231.{index}.1", f"10.231.{index}.2"


def _remove_leftovers() -> None:
    """Namespaces of processes that were killed before they could remove them."""
    for name in re.findall(rf"^({PREFIX}-\d+-\S+)", _run("ip", "netns", "list"), re.MULTILINE):
        try:
            os.kill(int(name.split("-")[1]), 0)
        except ProcessLookupError:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _run(*command: str) -> str:
    """Run a command and return its stdout.

    Raises:
        DeploymentError: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().split("\n")[-1] or f"exit code {done.returncode}"
        raise DeploymentError(f"network namespaces cannot be used here: '{' '.join(command)}' says: {words}")
    return done.stdout
