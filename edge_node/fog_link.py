"""The socket of an edge towards one fog: connecting, greeting, heartbeats, and what the handshake tells."""

from __future__ import annotations

import logging
import time
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from common.errors import UnknownMessageError, WireError
from common.node.log_limit import LogLimit
from common.wire.framing import decode, encode
from common.wire.keys import KeyPair
from common.wire.messages import Error, ErrorCode, Message, Ping, Pong, Report, Welcome
from common.wire.settings import WireSettings
from common.wire.sockets import edge_socket
from edge_node.connection import Connection, Phase, Step
from edge_node.fog_session import FogSession

__all__ = ["FogLink"]

RECEIVE_AT_ONCE = 64
"""Messages taken from the socket before everything else gets its turn."""

REFUSED_STATUS = 400
"""Status of ZAP (RFC 27) in the handshake of a key that is not on the fog's allow list."""

LIKELY_WRONG, LIKELY_CHANGED = 2, 8
"""Handshakes broken off, one after the other, after which the fog's key is likely not the one that is
configured: where it was never accepted, and where it was."""

EVENTS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CONNECTED
)
"""What the socket's monitor is asked for."""

_log = logging.getLogger(__name__)


class FogLink:
    """The connection of one edge to one fog; every method runs in the daemon's I/O thread.

    Args:
        session: What is said over it.
        keys: The edge's.
        settings: Bounds, heartbeats and back-off.
        context: Makes the sockets.
        poller: Told of the sockets that there are.

    Attributes:
        bytes_up, bytes_down: Bytes of messages so far.
        problem: The present problem in one sentence; empty when there is none.
    """

    def __init__(
        self,
        session: FogSession,
        keys: KeyPair,
        settings: WireSettings,
        context: zmq.Context[zmq.Socket[bytes]],
        poller: zmq.Poller,
    ) -> None:
        self.session = session
        self.bytes_up = self.bytes_down = 0
        self.problem = ""
        self._fog = session.part.fog
        self._keys = keys
        self._settings = settings
        self._context = context
        self._poller = poller
        self._connection = Connection(settings)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._reached = False
        self._broken_off = 0
        self._key_is_right = False
        self._log_limit = LogLimit(lines=1, seconds=3600.0)

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._connection.phase

    def turn(self) -> None:
        """Take what has come and do what is due."""
        self._look_at_handshake()
        self._receive()
        self._perform(self._connection.tick(time.monotonic()))

    def send(self, message: Message) -> None:
        """Send in the open session; a fog that takes nothing more is given up, and all is sent anew.

        Raises:
            MessageError: The message is beyond its schema.
        """
        if self.phase is not Phase.OPEN:
            return
        if not self._try(message):
            self._complain(f"the fog at {self._fog.address} takes no messages any more")
            self._fail()

    def report(self, report: Report) -> None:
        """Send what this node has measured."""
        # A report has no answer, and counts as life: without a question the fog would seem dead.
        self._ping()
        self.send(report)

    def stop(self) -> None:
        """Close for good."""
        self._perform(self._connection.stop())

    def close(self) -> None:
        """Close the socket, whatever goes on."""
        if self._socket is None:
            return
        self._poller.unregister(self._socket)
        if self._monitor is not None:
            self._poller.unregister(self._monitor)
        self._socket.disable_monitor()
        self._socket.close(0)
        self._socket = self._monitor = None

    def status(self) -> dict[str, Any]:
        """The link's part of the status file."""
        return {
            "fog": self._fog.address,
            "fog_key": self._fog.key,
            "connection": self.phase.value,
            "problem": self.problem,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
        }

    def _receive(self) -> None:
        for _ in range(RECEIVE_AT_ONCE):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            size = sum(len(frame) for frame in frames)
            self.bytes_down += size
            self._connection.heard(time.monotonic())
            try:
                self._received(decode(frames), size)
            except UnknownMessageError as error:
                note = self._log_limit.admit(str(error), time.monotonic())
                if note is not None:
                    _log.info(
                        "the fog at %s is newer than this node and sent what is passed over here: %s%s",
                        self._fog.address,
                        error,
                        note,
                    )
            except WireError as error:
                self._complain(f"the fog at {self._fog.address} sent what it must not: {error}")
                self._fail()

    def _received(self, message: Message, size: int) -> None:
        if isinstance(message, Welcome):
            if self.phase is Phase.GREETING:
                self._connection.welcomed(message.heartbeat_seconds, time.monotonic())
                self.problem = ""
                self._broken_off, self._key_is_right = 0, True
                _log.info("connected to the fog at %s", self._fog.address)
                self.session.welcomed(message)
            return
        if isinstance(message, Error) and message.digest is None:
            match message.code:
                case ErrorCode.NO_SESSION:
                    # Answers to what was sent before the session was lost come late: one Hello is enough.
                    if self.phase is Phase.OPEN:
                        self.session.disconnected()
                        self._connection.session_lost(time.monotonic())
                    return
                case (
                    ErrorCode.NOT_ALLOWED
                    | ErrorCode.BAD_VERSION
                    | ErrorCode.STOPPING
                    | ErrorCode.FULL
                    | ErrorCode.INTERNAL
                ):
                    self._complain(f"the fog at {self._fog.address} says: {message.sentence}")
                    self._fail()
                    return
        if self.phase is Phase.OPEN:
            if isinstance(message, Pong):
                self.session.latency.answered(time.monotonic())
            self.session.received(message, size)

    def _perform(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Step.OPEN:
                    self._open()
                case Step.HELLO:
                    if self._try(self.session.hello()):
                        self._connection.greeted(time.monotonic())
                case Step.PING:
                    self._ping()
                case Step.CLOSE:
                    self.close()
                    self.session.disconnected()

    def _ping(self) -> None:
        self.session.latency.asked(time.monotonic())
        self.send(Ping())

    def _try(self, message: Message) -> bool:
        if self._socket is None:
            return False
        frames = encode(message)
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self.bytes_up += sum(len(frame) for frame in frames)
        self.session.counters.was_sent(message)
        self._connection.sent(time.monotonic())
        return True

    def _fail(self) -> None:
        was_open = self.phase is Phase.OPEN
        self._perform(self._connection.failed(time.monotonic()))
        if was_open:
            _log.warning("the connection to the fog at %s has ended", self._fog.address)

    def _open(self) -> None:
        self.close()
        self._socket = edge_socket(
            self._context, self._fog.address, self._keys, self._fog.key, self._settings, EVENTS
        )
        self._monitor = self._socket.get_monitor_socket()
        self._reached = False
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def _look_at_handshake(self) -> None:
        """Turn what the socket's monitor tells into one sentence for a person."""
        address = self._fog.address
        while self._monitor is not None:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            match event["event"]:
                case zmq.EVENT_CONNECTED:
                    self._reached = True
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH if event["value"] == REFUSED_STATUS:
                    right = " --may-upload" if self.session.part.own else ""
                    self._complain(
                        f"the fog at {address} does not know this node; run there: "
                        f"fog-node allow '{self._keys.public}'{right}"
                    )
                    self._fail()
                case (
                    zmq.EVENT_HANDSHAKE_FAILED_AUTH
                    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                ):
                    self._broken_off += 1
                    self._complain(self._handshake_problem())
                    self._fail()
                case zmq.EVENT_CONNECT_RETRIED if not self._reached:
                    self._complain(f"no fog answers at {address}; it is tried again")
                case _:
                    pass

    def _handshake_problem(self) -> str:
        """A connection that is cut looks like a wrong key: only one after the other make that likely."""
        sentence = f"the fog at {self._fog.address} broke off the handshake"
        if self._broken_off < (LIKELY_CHANGED if self._key_is_right else LIKELY_WRONG):
            return f"{sentence}; it is tried again"
        return (
            f"{sentence} again and again; check that fog.public_key in the configuration, or its entry of "
            "fogs, is that fog's public.key"
        )

    def _complain(self, sentence: str) -> None:
        """Log a problem once, not at each attempt."""
        if sentence != self.problem:
            _log.warning("%s", sentence)
        self.problem = sentence
