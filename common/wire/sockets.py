"""The sockets of both nodes with all the options they need, and who sent what."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import zmq
from zmq.auth.thread import ThreadAuthenticator

from common.errors import ConfigError, WireError, reason
from common.wire.allow_list import AllowList
from common.wire.keys import KeyPair, check_public_key
from common.wire.settings import WireSettings

__all__ = [
    "MOST_PARTS",
    "ZAP_DOMAIN",
    "Arrival",
    "Reader",
    "arrival",
    "authenticating",
    "edge_socket",
    "fog_socket",
    "port_of",
]

ZAP_DOMAIN = "residual-inr"
"""Domain of authentication, named: ``"*"`` would match an empty domain only."""

MOST_PARTS = 3
"""Parts of a message that are read after the routing id: one more than any message has."""

PARTS_AT_ONCE = 10_000
"""Parts dropped at one call, a few milliseconds."""

KEEPALIVE_SECONDS = 60
"""Idle time before TCP probes: a fog drops peers that lost power while nothing was sent."""

NOT_HERE = "this machine has no such address; name one of its own, or 0.0.0.0 for all"

BIND_HINTS = {
    errno.EADDRINUSE: "another program uses the port; stop that one or name another port",
    errno.EADDRNOTAVAIL: NOT_HERE,
    errno.ENODEV: NOT_HERE,
    errno.EACCES: "ports below 1024 need the rights of root; name a greater one",
}
"""What to do about an address that cannot be bound."""

S = TypeVar("S", bound="zmq.Socket[Any]")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as the fog's socket received it.

    Attributes:
        routing_id: Where to send the answer; given by the socket, new at each connection.
        device: The sender's public key as authenticated by CURVE: the only identity to rely on.
        frames: For :func:`common.wire.framing.decode`.
    """

    routing_id: bytes
    device: str
    frames: list[bytes] = field(repr=False)


class Reader:
    """Takes messages from a fog socket, and never more than a few parts of one.

    Args:
        socket: Its ROUTER.
    """

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._socket = socket
        self._dropping = False

    def receive(self) -> list[zmq.Frame]:
        """The next message: routing id, then 1 to 3 parts; of a message of more the first 3.

        What is behind those is dropped, a bounded number of parts at each call, so that a message of a
        million parts holds up nobody for long.

        Raises:
            zmq.Again: There is none now.
        """
        if self._dropping:
            self._drop()
        parts: list[zmq.Frame] = []
        while len(parts) <= MOST_PARTS:
            parts.append(self._socket.recv(zmq.NOBLOCK, copy=False))
            if not parts[-1].more:
                return parts
        self._dropping = True
        return parts

    def _drop(self) -> None:
        for _ in range(PARTS_AT_ONCE):
            if not self._socket.recv(zmq.NOBLOCK, copy=False).more:
                self._dropping = False
                return
        raise zmq.Again


def arrival(parts: Sequence[zmq.Frame]) -> Arrival:
    """Read the parts of ``Reader.receive`` or ``socket.recv_multipart(copy=False)`` on a fog socket.

    Raises:
        WireError: The sender is not authenticated.
    """
    if len(parts) < 2:
        raise WireError("a message without content arrived")
    try:
        device = str(parts[1].get("User-Id"))
    except zmq.ZMQError as error:
        raise WireError("a message of a peer that is not authenticated arrived") from error
    return Arrival(parts[0].bytes, device, [part.bytes for part in parts[1:]])


@contextmanager
def authenticating(context: zmq.Context[Any], allow_list: AllowList) -> Iterator[None]:
    """Let in the keys on the list, on fog sockets made within, and nobody else.

    ZeroMQ asks at the handshake only: of a device taken off the list later, the fog itself must
    ignore the messages.

    Args:
        context: The context of the fog socket; one of ``zmq.asyncio`` will do.
        allow_list: Read again at each handshake if its file changed.
    """
    authenticator = ThreadAuthenticator(zmq.Context.shadow(context.underlying))
    authenticator.start()
    try:
        authenticator.configure_curve_callback(ZAP_DOMAIN, _Credentials(allow_list))
        yield
    finally:
        authenticator.stop()


class _Credentials:
    """What pyzmq asks about each key."""

    def __init__(self, allow_list: AllowList) -> None:
        self._allow_list = allow_list

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the key (Z85) is on the list; a malformed new list leaves the old one standing."""
        with suppress(ConfigError):
            self._allow_list.reload()
        return self._allow_list.get(key.decode("ascii")) is not None


def fog_socket(
    context: zmq.Context[S],
    endpoint: str,
    keys: KeyPair,
    settings: WireSettings | None = None,
    events: int = 0,
) -> S:
    """A bound ROUTER. Make it inside :func:`authenticating`: without it nobody is let in.

    Sending raises ``zmq.Again`` (queue full; use NOBLOCK) or ``zmq.ZMQError`` with EHOSTUNREACH (the
    peer has gone): nothing is dropped silently.

    Args:
        context: Its socket type is returned.
        endpoint: Such as ``tcp://*:5555``; port 0 for any, see :func:`port_of`.
        keys: The fog's.
        settings: Bounds.
        events: Events of interest, for ``socket.get_monitor_socket()``; watched from before the first
            connection.

    Raises:
        ConfigError: The endpoint cannot be bound.
    """
    settings = settings or WireSettings()
    socket = context.socket(zmq.ROUTER)
    try:
        _bound(socket, keys, settings)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if events:
            socket.get_monitor_socket(events)
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        _close(socket, events)
        hint = BIND_HINTS.get(error.errno or 0, "name another address")
        raise ConfigError(f"cannot listen on {endpoint}: {zmq.strerror(error.errno or 0)}; {hint}") from error
    return socket


def edge_socket(
    context: zmq.Context[S],
    endpoint: str,
    keys: KeyPair,
    fog_key: str,
    settings: WireSettings | None = None,
    events: int = 0,
) -> S:
    """A DEALER that connects to the fog with this key; queues only while connected.

    It connects again by itself with growing waits; each connection needs a new Hello. Only after a
    refusal of its key (handshake status 400) it does not try again: make a new socket.

    Args:
        context: Its socket type is returned.
        endpoint: Such as ``tcp://fog.example:5555``.
        keys: The edge's.
        fog_key: The fog's public key: another fog is not spoken to.
        settings: Bounds.
        events: Events of interest, for ``socket.get_monitor_socket()``; watched from before the first
            attempt to connect, which can fail at once.

    Raises:
        ConfigError: The endpoint or the fog's key is malformed.
    """
    settings = settings or WireSettings()
    fog_key = check_public_key(fog_key)
    socket = context.socket(zmq.DEALER)
    try:
        _bound(socket, keys, settings)
        socket.setsockopt(zmq.CURVE_SERVERKEY, fog_key.encode("ascii"))
        # Messages are queued for a completed connection only, so none waits for a dead fog.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, int(settings.backoff_first_seconds * 1000))
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, int(settings.backoff_last_seconds * 1000))
        if events:
            socket.get_monitor_socket(events)
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        _close(socket, events)
        raise ConfigError(
            f"cannot connect to {endpoint}: {reason(error)}; expected tcp://HOST:PORT"
        ) from error
    return socket


def port_of(socket: zmq.Socket[Any]) -> int:
    """TCP port that a bound socket listens on."""
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rsplit(":", 1)[1])


def _close(socket: zmq.Socket[Any], events: int) -> None:
    """Close a socket and its monitor, for which the end of its context would wait for ever."""
    if events:
        monitor = socket.get_monitor_socket(events)
        socket.disable_monitor()
        monitor.close(0)
    socket.close(0)


def _bound(socket: zmq.Socket[Any], keys: KeyPair, settings: WireSettings) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
    socket.setsockopt(zmq.SNDHWM, settings.send_queue_messages)
    socket.setsockopt(zmq.RCVHWM, settings.receive_queue_messages)
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(settings.handshake_seconds * 1000))
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_SECONDS)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode("ascii"))
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))
