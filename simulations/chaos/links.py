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

    def address(self, edge: str) -> str:
        """HOST:PORT at which an edge finds the fog."""

    def command(self, place: str) -> Sequence[str]:
        """What to put before the command of a node."""

    def cut(self, edge: str) -> None:
        """No byte passes."""

    def mend(self, edge: str) -> None:
        """Undo :meth:`cut`."""

    def close(self) -> None:
        """Take them down."""


class ProxyLinks:
    """Links through the impairment proxy, all nodes on one address.

    Args:
        edges: Names.
        port: Of the fog.
        seed: Of jitter and flipped bits.
    """

    host = "127.0.0.1"

    def __init__(self, edges: Sequence[str], port: int, seed: int) -> None:
        links = [{"name": name, "target_port": port} for name in edges]
        self._proxy = ImpairmentProxy(ImpairmentSettings.model_validate({"links": links, "seed": seed}))
        self._lock = threading.Lock()

    def address(self, edge: str) -> str:
        """The proxy's port of this edge."""
        return f"127.0.0.1:{self._proxy.port(edge)}"

    def command(self, place: str) -> Sequence[str]:
        """Nothing: all nodes run side by side."""
        return ()

    def cut(self, edge: str) -> None:
        """Reset every connection, new ones too."""
        with self._lock:
            self._proxy.cut(edge)

    def mend(self, edge: str) -> None:
        """Take connections again."""
        with self._lock:
            self._proxy.mend(edge)

    def reset(self, edge: str) -> None:
        """End the present connections by RST."""
        with self._lock:
            self._proxy.reset(edge)

    def stall(self, edge: str, direction: Directions) -> None:
        """Keep connections and forward nothing."""
        with self._lock:
            self._proxy.stall(edge, direction)

    def resume(self, edge: str) -> None:
        """Forward again."""
        with self._lock:
            self._proxy.resume(edge)

    def change(self, edge: str, **values: float | None) -> None:
        """Other settings of both directions."""
        with self._lock:
            for direction in ("up", "down"):
                self._proxy.change(edge, "up" if direction == "up" else "down", **values)

    def close(self) -> None:
        """End the proxy."""
        self._proxy.close()


class DirectLinks:
    """Every edge on the fog's own port."""

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self._port = port

    def address(self, edge: str) -> str:
        """The fog's."""
        return f"127.0.0.1:{self._port}"

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

    def address(self, edge: str) -> str:
        """The fog at the other end of the edge's cable."""
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
