"""Links between the fog and its edges: cables of the kernel, or the impairment proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from simulations.impairment.proxy import ImpairmentProxy
from simulations.impairment.settings import ImpairmentSettings
from simulations.namespaces import FRAMING_BYTES, SEGMENT_BYTES, CableSettings, Namespaces

__all__ = ["CableLinks", "Carried", "Links", "ProxyLinks"]


@dataclass(frozen=True)
class Carried:
    """Bytes of one link so far.

    Attributes:
        up, down: Of the connections, without TCP and IP headers.
        raw_up, raw_down: With them, where the link sees them.
    """

    up: int
    down: int
    raw_up: int | None = None
    raw_down: int | None = None


class Links(Protocol):
    """Links of one deployment, by the names of its edges."""

    kind: str
    goodput: float
    bind: str

    def start(self, port: int) -> None:
        """The fog listens on this port."""

    def command(self, place: str) -> Sequence[str]:
        """What to put before the command of a node, "fog" or an edge."""

    def address(self, edge: str) -> str:
        """HOST:PORT at which an edge finds the fog."""

    def carried(self) -> dict[str, Carried]:
        """Bytes of each link so far."""

    def close(self) -> None:
        """Take the links down."""


class ProxyLinks:
    """Links through the impairment proxy; rates are of a connection's bytes. None: without a limit."""

    kind = "proxy"
    goodput = 1.0
    bind = "tcp://127.0.0.1:0"

    def __init__(self, edges: Sequence[str], rate: float | None) -> None:
        self._edges = edges
        self._rate = rate
        self._proxy: ImpairmentProxy | None = None

    def start(self, port: int) -> None:
        """Connect the links to the fog."""
        way = {"bytes_per_s": self._rate}
        links = [{"name": name, "target_port": port, "up": way, "down": way} for name in self._edges]
        self._proxy = ImpairmentProxy(ImpairmentSettings.model_validate({"links": links}))

    def command(self, place: str) -> Sequence[str]:
        """Nothing: all nodes run side by side."""
        return ()

    def address(self, edge: str) -> str:
        """The proxy's port of this edge."""
        return f"127.0.0.1:{self._started().port(edge)}"

    def carried(self) -> dict[str, Carried]:
        """As the proxy counts."""
        counters = self._started().counters()
        return {name: Carried(c.bytes_up, c.bytes_down) for name, c in counters.items()}

    def close(self) -> None:
        """End the proxy."""
        if self._proxy is not None:
            self._proxy.close()

    def _started(self) -> ImpairmentProxy:
        if self._proxy is None:
            raise RuntimeError("the proxy starts once the fog's port is known")
        return self._proxy


class CableLinks:
    """Cables between network namespaces; rates are of packets with their headers."""

    kind = "namespaces"
    goodput = SEGMENT_BYTES / (SEGMENT_BYTES + FRAMING_BYTES)
    bind = "tcp://0.0.0.0:0"

    def __init__(self, edges: Sequence[str], rate: float) -> None:
        self._spaces = Namespaces([CableSettings(name, rate, rate) for name in edges])
        self._port = 0

    def start(self, port: int) -> None:
        """Remember the port."""
        self._port = port

    def command(self, place: str) -> Sequence[str]:
        """Into the node's namespace."""
        return self._spaces.command(place)

    def address(self, edge: str) -> str:
        """The fog at the other end of the edge's cable."""
        return f"{self._spaces.fog_address(edge)}:{self._port}"

    def carried(self) -> dict[str, Carried]:
        """As the kernel counts."""
        return {
            name: Carried(c.content_up, c.content_down, c.bytes_up, c.bytes_down)
            for name, c in self._spaces.counters().items()
        }

    def close(self) -> None:
        """Remove the namespaces."""
        self._spaces.close()
