"""What arrives at the fog's socket: who sent it, whether it may send so much, and what it says.

The last gate before the state machines. A device that oversteps its bounds loses its connection here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import zmq

from common.errors import MessageError, WireError
from common.node.log_limit import LogLimit
from common.node.logs import about
from common.wire.connections import Connection, Connections
from common.wire.framing import decode
from common.wire.sockets import MOST_PARTS, arrival
from fog_node.health import RIVALS
from fog_node.node import FogNode
from fog_node.sessions import AHEAD
from fog_node.traffic import Traffic

__all__ = ["Reception"]

GRACE_S = 0.2
"""How long the sentence that says why may take to leave before its connection is cut."""

UNREAD_CHECK_S = 0.1
"""Seconds between two looks at what connections hold unread: at 1 Gbit/s they gain 12 MB meanwhile."""

_log = logging.getLogger(__name__)


class Reception:
    """Messages of all peers on their way to the node.

    Args:
        node: Takes them.
        connections: Those of the fog's socket.
        traffic: Bytes of each peer, counted here.
        strangers: Connections that have not said who they are, at most.
        silent_s: Seconds that such a connection may last: one without a word is not cut with its key either.
    """

    def __init__(
        self, node: FogNode, connections: Connections, traffic: Traffic, strangers: int, silent_s: float
    ) -> None:
        self._node = node
        self._strangers = strangers
        self._silent_s = silent_s
        self._rivals: list[str] = []
        self._connections = connections
        self._traffic = traffic
        self._log_limit = LogLimit()
        self._unread_due = 0.0
        self._cuts: list[tuple[float, Connection]] = []
        self.refused_messages = 0
        self.cut_connections = 0

    def received(self, parts: Sequence[zmq.Frame], now: float) -> None:
        """A message was taken from the socket."""
        try:
            message = arrival(parts)
        except WireError as error:
            self._warn("", str(error), now)
            return
        key = message.device
        connection = self._connections.took(message.routing_id, parts[1:], key)
        if connection is not None and connection.cut:
            # Nothing counts any more that was under way when the connection was cut.
            return
        self._traffic.peer(key).up += sum(len(frame) for frame in message.frames)
        if not self._node.state.limits.message(key, now):
            self._cut(connection, f"{key} sends more messages than limits.messages_per_s", now)
            return
        try:
            if len(message.frames) >= MOST_PARTS:
                raise MessageError("a message has 1 or 2 frames, not 3 or more")
            content = decode(message.frames)
        except WireError as error:
            self.refused_messages += 1
            self._warn(key, f"a message of {key} was refused: {error}", now)
            self._node.perform(self._node.state.malformed(message.routing_id, key, error, now))
            if len(message.frames) >= MOST_PARTS:
                self._cut_soon(connection, now)
            return
        self._node.counters.was_received(content)
        self._node.received(message.routing_id, key, content)

    def leaves(self, routing_id: bytes, key: str, frames: Sequence[bytes], now: float) -> bool:
        """Whether a message may leave; a peer that leaves too much untaken is disconnected."""
        if self._connections.takes(routing_id, frames):
            return True
        self._cut(self._connections.at(routing_id), f"{key} takes less than it asks for", now)
        return False

    def check_rights(self, now: float) -> None:
        """The node has looked at the allow list: connections of keys that are not on it end."""
        for connection in self._connections:
            if connection.key and connection.key not in self._node.state.rights and not connection.cut:
                self._cut_soon(connection, now)
        rivals = self._node.state.rivals.keys(now)
        for key in set(rivals) - set(self._rivals):
            self._warn(f"rivals {key}", RIVALS.format(key=key), now)
        self._rivals = rivals
        for key, position in self._node.state.ahead.items():
            last = self._node.last_position
            self._warn(f"ahead {key}", f"{key}: {AHEAD.format(position=position, last=last)}", now)
        self._traffic.keep(self._node.state.rights)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._connections.look()
        due = [connection for at, connection in self._cuts if now >= at]
        self._cuts = [entry for entry in self._cuts if now < entry[0]]
        for connection in due:
            self._connections.cut(connection)
        waiting = self._connections.strangers()
        for connection in waiting[: max(0, len(waiting) - self._strangers)]:
            who = f"the peer at {connection.address}"
            self._cut(connection, f"{who} and limits.strangers others have not said who they are", now)
        for connection in waiting:
            if now - connection.since > self._silent_s:
                self._cut(connection, f"the peer at {connection.address} has not said who it is", now)
        if now >= self._unread_due:
            self._unread_due = now + UNREAD_CHECK_S
            for connection in self._connections.overfull():
                who = connection.key or f"the peer at {connection.address}"
                self._cut(connection, f"{who} sends what is not read as fast, or a message without end", now)

    def status(self) -> dict[str, Any]:
        """The part of the status file."""
        return {
            "rivals": self._rivals,
            "ahead": dict(self._node.state.ahead),
            "connections": len(self._connections),
            "messages_refused": self.refused_messages,
            "connections_cut": self.cut_connections,
        }

    def _cut(self, connection: Connection | None, why: str, now: float) -> None:
        if connection is None or connection.cut:
            return
        self.cut_connections += 1
        self._warn(f"cut {connection.key}", f"{why}; it is disconnected", now)
        self._connections.cut(connection)

    def _cut_soon(self, connection: Connection | None, now: float) -> None:
        if connection is not None and all(connection is not other for _, other in self._cuts):
            self.cut_connections += 1
            self._cuts.append((now + GRACE_S, connection))

    def _warn(self, kind: str, sentence: str, now: float) -> None:
        note = self._log_limit.admit(kind, now)
        if note is not None:
            _log.warning("%s%s", sentence, note, extra=about(device=kind.rpartition(" ")[2] or None))
