"""The TCP connections behind a bound socket: what they hold unread and unsent, and how one is ended.

ZeroMQ bounds the queues of a peer in whole messages, and hands over none of a multipart message before its
last part: a peer that never ends its message, or asks for content and never reads it, could fill the memory.
And it has no call to disconnect one peer. All that is done here by the connection's file descriptor, which
the socket's monitor and messages tell.
"""

from __future__ import annotations

import logging
import os
import socket as tcp
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

__all__ = ["Connection", "Connections"]

_log = logging.getLogger(__name__)

CURVE_BYTES = 33
"""Bytes that CURVE adds to a frame: command name, nonce, authenticator, flags (RFC 26)."""

SHORT_FRAME_BYTES = 255
"""Longest body of a frame whose header has 2 bytes; that of a longer one has 9 (RFC 23)."""

TCP_INFO_BYTES = 256
BYTES_ACKED_OFFSET = 120
BYTES_RECEIVED_OFFSET = 128
"""Places of ``tcpi_bytes_acked`` and ``tcpi_bytes_received`` in Linux's ``struct tcp_info``, 64 bit; there
since kernel 4.1."""


@dataclass(slots=True)
class Connection:
    """One TCP connection.

    Attributes:
        descriptor: Its file descriptor.
        address: Of the peer, as the system gives it.
        key: The peer's authenticated key; empty before its first message.
        route: Its routing id; empty before its first message.
        read: Bytes on the wire of what was taken from the socket.
        sent: Bytes on the wire of what was given to the socket for it.
        taken: Bytes that the peer had confirmed to have at the last look.
        since: When it was first seen, seconds of the monotonic clock.
        cut: Whether it was ended from here.
    """

    descriptor: int
    address: Any
    key: str = ""
    route: bytes = b""
    read: int = 0
    sent: int = 0
    taken: int = 0
    since: float = field(default_factory=time.monotonic)
    cut: bool = False


class Connections:
    """Follows the connections of one bound socket.

    Args:
        socket: Bound with a monitor of :data:`EVENTS`.
        unread_bytes: A connection may hold so much that was not taken from the socket yet, bytes.
        unsent_bytes: It may hold so much that its peer has not taken yet, bytes.
    """

    EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
    """Events that the socket's monitor must tell."""

    def __init__(self, socket: zmq.Socket[Any], unread_bytes: int, unsent_bytes: int) -> None:
        if not _tells():
            _log.warning(
                "this system does not tell what a connection has received and taken: unread_bytes and "
                "unsent_bytes bound nothing here, and a listed peer that never ends its message can fill the "
                "memory; run fogs on Linux"
            )
        self._socket = socket
        self._unsent_bytes = unsent_bytes
        self._routes: dict[bytes, Connection] = {}
        self._monitor: zmq.Socket[Any] = socket.get_monitor_socket(self.EVENTS)
        self._unread_bytes = unread_bytes
        self._open: dict[int, Connection] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Watch no longer."""
        self._socket.disable_monitor()
        self._monitor.close(0)

    def took(self, routing_id: bytes, parts: Sequence[zmq.Frame], key: str) -> Connection | None:
        """A message of an authenticated peer was taken from the socket; None once its connection has gone.

        Args:
            routing_id: Where answers go.
            parts: As received, after the routing id.
            key: The peer's key.
        """
        try:
            descriptor = int(parts[0].get(zmq.SRCFD))
        except zmq.ZMQError:
            return None
        connection = self._open.get(descriptor)
        if connection is None:
            self.look()
            connection = self._open.get(descriptor) or self._missed(descriptor)
        if connection is not None:
            connection.key = key
            connection.read += sum(_on_the_wire(len(part)) for part in parts)
            connection.route = routing_id
            self._routes[routing_id] = connection
        return connection

    def takes(self, routing_id: bytes, frames: Sequence[bytes]) -> bool:
        """Whether a message may be given to the socket, whose peer has not left too many bytes untaken.

        Always so where the system does not tell how much a peer has taken (other than Linux).
        """
        connection = self._routes.get(routing_id)
        if connection is None:
            return True
        size = sum(_on_the_wire(len(frame)) for frame in frames)
        if connection.sent + size - connection.taken > self._unsent_bytes:
            taken = _counted(connection.descriptor, BYTES_ACKED_OFFSET)
            connection.taken = connection.sent if taken is None else taken
            if connection.sent + size - connection.taken > self._unsent_bytes:
                return False
        connection.sent += size
        return True

    def at(self, routing_id: bytes) -> Connection | None:
        """The connection that answers to this routing id go to."""
        return self._routes.get(routing_id)

    def _missed(self, descriptor: int) -> Connection | None:
        """A connection whose event was lost: a monitor drops events when very many come at once."""
        address = _peer(descriptor)
        if address is None:
            return None
        connection = Connection(descriptor, address, read=_received(descriptor) or 0)
        self._open[descriptor] = connection
        return connection

    def look(self) -> None:
        """Learn of connections made and ended."""
        while True:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            descriptor = int(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                address = _peer(descriptor)
                if address is not None:
                    self._open[descriptor] = Connection(descriptor, address)
            else:
                self._forget(self._open.pop(descriptor, None))

    def _forget(self, gone: Connection | None) -> None:
        if gone is not None and self._routes.get(gone.route) is gone:
            del self._routes[gone.route]

    def overfull(self) -> list[Connection]:
        """Connections that hold more unread bytes than they may, such as a message that never ends.

        Always empty where the system does not tell how much a connection has received (other than Linux).
        """
        found = []
        for connection in self._open.values():
            received = 0 if connection.cut else _received(connection.descriptor) or 0
            if received - connection.read > self._unread_bytes:
                found.append(connection)
        return found

    def strangers(self) -> list[Connection]:
        """Connections from which no message of an authenticated peer has come yet, the oldest first."""
        return [connection for connection in self._open.values() if not connection.key and not connection.cut]

    def cut(self, connection: Connection) -> None:
        """End a connection; its peer may connect again, if its key is still on the list."""
        if connection.cut or self._open.get(connection.descriptor) is not connection:
            return
        connection.cut = True
        # The number may belong to another connection, or another file, by now: the peer's address tells.
        if _peer(connection.descriptor) != connection.address:
            return
        try:
            with tcp.socket(fileno=os.dup(connection.descriptor)) as handle:
                handle.shutdown(tcp.SHUT_RDWR)
        except OSError:
            return


def _tells() -> bool:
    """Whether the system counts a connection's bytes as Linux does; others have other structures, or none."""
    return sys.platform.startswith("linux")


def _on_the_wire(size: int) -> int:
    body = size + CURVE_BYTES
    return body + (2 if body <= SHORT_FRAME_BYTES else 9)


def _peer(descriptor: int) -> Any:
    """The address at the other end, or None if this is no connection (any more)."""
    try:
        handle = tcp.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        return handle.getpeername()
    except OSError:
        return None
    finally:
        # It is ZeroMQ's to close.
        handle.detach()


def _received(descriptor: int) -> int | None:
    """Bytes that a connection has received; None if it has gone or the kernel does not tell."""
    return _counted(descriptor, BYTES_RECEIVED_OFFSET)


def _counted(descriptor: int, offset: int) -> int | None:
    """A 64-bit count of ``TCP_INFO``; None if the connection has gone or the kernel does not tell."""
    if not _tells():
        return None
    try:
        handle = tcp.socket(tcp.AF_INET, tcp.SOCK_STREAM, fileno=descriptor)
    except OSError:
        # ZeroMQ has closed it, and the event that tells so has not been looked at yet.
        return None
    try:
        info = handle.getsockopt(tcp.IPPROTO_TCP, tcp.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return None
    finally:
        handle.detach()
    if len(info) < offset + 8:
        return None
    return int(struct.unpack_from("=Q", info, offset)[0])
