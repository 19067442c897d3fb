"""The links between the edges and the fog of a chaos run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from common.errors import DeploymentError
from simulations.impairment.proxy import Directions, ImpairmentProxy
from simulations.impairment.settings import ImpairmentSettings
from simulations.namespaces import CableSettings, Namespaces

__all__ = ["CableLinks", "DirectLinks", "Links", "ProxyLinks"]


class Links(Protocol):
    """Links by the names of the edges; safe to use from several threads.

    Attributes:
        host: Address that the fog binds.
    """

    host: str

    def address(self, edge: str, fog: int = 0) -> str:
        """HOST:PORT at which an edge finds the fog of this number."""

    def command(self, place: str) -> Sequence[str]:
        """What to put before the command of a node."""

    def cut(self, edge: str) -> None:
        """No byte passes."""

    def mend(self, edge: str) -> None:
        """Undo :meth:`cut`."""

    def close(self) -> None:
        """Take them down."""


class ProxyLinks:
    """Links through the impairment proxy, all nodes on one address; a fault of an edge strikes all its links.

    Args:
        edges: Names.
        ports: Of the fogs.
        seed: Of jitter and flipped bits.
    """

    host = "127.0.0.1"

    def __init__(self, edges: Sequence[str], ports: Sequence[int], seed: int) -> None:
        self._names = {edge: [_link(edge, fog) for fog in range(len(ports))] for edge in edges}
        links = [
            {"name": name, "target_port": port}
            for names in self._names.values()
            for name, port in zip(names, ports, strict=True)
        ]
        self._proxy = ImpairmentProxy(ImpairmentSettings.model_validate({"links": links, "seed": seed}))
        self._lock = threading.Lock()

    def address(self, edge: str, fog: int = 0) -> str:
        """The proxy's port of this link."""
        return f"127.0.0.1:{self._proxy.port(_link(edge, fog))}"

    def command(self, place: str) -> Sequence[str]:
        """Nothing: all nodes run side by side."""
        return ()

    def cut(self, edge: str) -> None:
        """Reset every connection, new ones too."""
        with self._lock:
            for name in self._names[edge]:
                self._proxy.cut(name)

    def mend(self, edge: str) -> None:
        """Take connections again."""
        with self._lock:
            for name in self._names[edge]:
                self._proxy.mend(name)

    def reset(self, edge: str) -> None:
        """End the present connections by RST."""
        with self._lock:
            for name in self._names[edge]:
                self._proxy.reset(name)

    def stall(self, edge: str, direction: Directions) -> None:
        """Keep connections and forward nothing."""
        with self._lock:
            for name in self._names[edge]:
                self._proxy.stall(name, direction)

    def resume(self, edge: str) -> None:
        """Forward again."""
        with self._lock:
            for name in self._names[edge]:
                self._proxy.resume(name)

    def change(self, edge: str, **values: float | None) -> None:
        """Other settings of both directions."""
        with self._lock:
            for name in self._names[edge]:
                for direction in ("up", "down"):
                    self._proxy.change(name, "up" if direction == "up" else "down", **values)

    def close(self) -> None:
        """End the proxy."""
        self._proxy.close()


def _link(edge: str, fog: int) -> str:
    return f"{edge}-{fog + 1}"


class DirectLinks:
    """Every edge on the fogs' own ports."""

    host = "127.0.0.1"

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports

    def address(self, edge: str, fog: int = 0) -> str:
        """The fog's."""
        return f"127.0.0.1:{self._ports[fog]}"

    def command(self, place: str) -> Sequence[str]:
        """Nothing: all nodes run side by side."""
        return ()

    def cut(self, edge: str) -> None:
        """There is nothing between the two that can be cut."""
        raise DeploymentError(f"the link of {edge} cannot be cut: it is none of the proxy's")

    def mend(self, edge: str) -> None:
        """Nothing was cut."""

    def close(self) -> None:
        """Nothing to take down."""


class CableLinks:
    """Cables between network namespaces: separate addresses, a rate that the kernel keeps.

    Args:
        edges: Names.
        port: Of the fog.
        bytes_per_s: Rate of each cable and direction, headers of packets included.
    """

    host = "0.0.0.0"

    def __init__(self, edges: Sequence[str], port: int, bytes_per_s: float) -> None:
        self._port = port
        self._spaces = Namespaces([CableSettings(name, bytes_per_s, bytes_per_s) for name in edges])

    def address(self, edge: str, fog: int = 0) -> str:
        """The fog at the other end of the edge's cable; there is one."""
        return f"{self._spaces.fog_address(edge)}:{self._port}"

    def command(self, place: str) -> Sequence[str]:
        """Into the node's namespace."""
        return self._spaces.command(place)

    def cut(self, edge: str) -> None:
        """Unplug the cable."""
        self._spaces.plug(edge, False)

    def mend(self, edge: str) -> None:
        """Plug it in again."""
        self._spaces.plug(edge, True)

    def close(self) -> None:
        """Remove the namespaces."""
        self._spaces.close()
