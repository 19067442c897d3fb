"""The edge daemon: the I/O thread that owns the socket, the timers and the end of an edge node.

Training runs in a child process; nothing in this process imports torch.
"""

from __future__ import annotations

import logging
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from common import __version__
from common.errors import ConfigError, StoreError, UnknownMessageError, WireError
from common.node.child import stop_children
from common.node.jobs import Call
from common.node.mailbox import Mailbox
from common.node.settings import resolve
from common.node.status_file import write_status
from common.store import open_edge_store
from common.wire import keys
from common.wire.framing import decode, encode
from common.wire.messages import Error, ErrorCode, Message, Ping, Pong, Welcome
from common.wire.sockets import edge_socket
from edge_node.connection import Connection, Phase, Step
from edge_node.node import EdgeNode
from edge_node.settings import EdgeSettings

__all__ = ["EdgeDaemon", "fog_key"]

RECEIVE_AT_ONCE = 64
"""Messages taken from the socket before everything else gets its turn."""

TICK_MS = 50
"""Longest sleep of the I/O thread, milliseconds: the precision of every timer here."""

REFUSED_STATUS = 400
"""Status of ZAP (RFC 27) in the handshake of a key that is not on the fog's allow list."""

_log = logging.getLogger(__name__)


class EdgeDaemon:
    """An edge node with its socket.

    Args:
        settings: Its settings.
        base: Folder that relative paths start from.

    Raises:
        ConfigError: Keys cannot be used.
        StoreError: The store cannot be opened.
    """

    def __init__(self, settings: EdgeSettings, base: Path) -> None:
        self._settings = settings
        self._folder = resolve(base, settings.store)
        self._started = time.monotonic()
        self._stopping = False
        self._keys = keys.load(resolve(base, settings.keys))
        self._fog_key = fog_key(settings, base)
        self._connection = Connection(settings.wire)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._bytes_up = self._bytes_down = 0
        self._reached = False
        self._complaint = ""
        self._last_status: dict[str, Any] = {}
        self._mailbox: Mailbox[Call] = Mailbox()
        self._poller = zmq.Poller()
        self._poller.register(self._mailbox.fileno(), zmq.POLLIN)
        with ExitStack() as resources:
            resources.callback(self._mailbox.close)
            store = resources.enter_context(
                open_edge_store(self._folder, self._keys.public, settings.storage)
            )
            self._context: zmq.Context[zmq.Socket[bytes]] = resources.enter_context(zmq.Context())
            resources.callback(self._close_socket)
            self.node = EdgeNode(
                settings,
                base=base,
                folder=self._folder,
                store=store,
                mailbox=self._mailbox,
                send=self._send,
            )
            resources.callback(self.node.close)
            _log.info(
                "edge node %s with key %s, %d frames wait for the fog, log position %d",
                __version__,
                self._keys.public,
                store.outbox_state().waiting,
                store.position,
            )
            self._resources = resources.pop_all()

    def run(self) -> int:
        """Run until SIGTERM or Ctrl-C, then drain; returns the exit code 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._mailbox.post(self._ask_to_stop))
        with self._resources:
            try:
                self.node.start()
                self._serve()
                self._drain()
            finally:
                for child in self.node.children:
                    child.terminate(signal.SIGKILL)
        self._write_status("stopped")
        _log.info("edge node has stopped")
        return 0

    def _serve(self) -> None:
        report = time.monotonic() + self._settings.report_s
        status = 0.0
        while not self._stopping:
            self._turn()
            now = time.monotonic()
            self.node.tick(now)
            if now >= report and self._connection.phase is Phase.OPEN:
                report = now + self._settings.report_s
                # A report has no answer, and counts as life: without a question the fog would seem dead.
                self._ping()
                self._send(self.node.report())
            if now >= status:
                status = now + self._settings.status_s
                self._write_status("running")

    def _drain(self) -> None:
        """Uploads under way are answered, records received are stored; the rest waits on disk."""
        _log.info("stopping; uploads under way are finished")
        self._write_status("stopping")
        end = time.monotonic() + self._settings.drain_s
        self.node.stop(self._settings.drain_s)
        while time.monotonic() < end and self._connection.phase is Phase.OPEN and not self.node.settled:
            self._turn()
        self._perform(self._connection.stop())
        self.node.learner.stop()
        limits = self._settings.children
        stop_children(
            self.node.children, {"type": "stop"}, stop_s=limits.stop_s, terminate_s=limits.terminate_s
        )

    def _ask_to_stop(self) -> None:
        self._stopping = True

    def _turn(self) -> None:
        self._poller.poll(TICK_MS)
        for call in self._mailbox.drain():
            call()
        self._look_at_handshake()
        self._receive()
        self._perform(self._connection.tick(time.monotonic()))

    def _receive(self) -> None:
        for _ in range(RECEIVE_AT_ONCE):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            size = sum(len(frame) for frame in frames)
            self._bytes_down += size
            self._connection.heard(time.monotonic())
            try:
                self._received(decode(frames), size)
            except UnknownMessageError as error:
                _log.info("the fog is newer than this node and sent what is passed over here: %s", error)
            except WireError as error:
                self._complain(f"the fog sent what it must not: {error}")
                self._fail()

    def _received(self, message: Message, size: int) -> None:
        if isinstance(message, Welcome):
            if self._connection.phase is Phase.GREETING:
                self._connection.welcomed(message.heartbeat_seconds, time.monotonic())
                self._complaint = ""
                _log.info("connected to the fog at %s", self._settings.fog.address)
                self.node.welcomed(message)
            return
        if isinstance(message, Error) and message.digest is None:
            match message.code:
                case ErrorCode.NO_SESSION:
                    # Answers to what was sent before the session was lost come late: one Hello is enough.
                    if self._connection.phase is Phase.OPEN:
                        self.node.disconnected()
                        self._connection.session_lost(time.monotonic())
                    return
                case (
                    ErrorCode.NOT_ALLOWED
                    | ErrorCode.BAD_VERSION
                    | ErrorCode.STOPPING
                    | ErrorCode.FULL
                    | ErrorCode.INTERNAL
                ):
                    self._complain(f"the fog at {self._settings.fog.address} says: {message.sentence}")
                    self._fail()
                    return
        if self._connection.phase is Phase.OPEN:
            if isinstance(message, Pong):
                self.node.latency.answered(time.monotonic())
            self.node.received(message, size)

    def _perform(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Step.OPEN:
                    self._open_socket()
                case Step.HELLO:
                    if self._try(self.node.hello()):
                        self._connection.greeted(time.monotonic())
                case Step.PING:
                    self._ping()
                case Step.CLOSE:
                    self._close_socket()
                    self.node.disconnected()

    def _send(self, message: Message) -> None:
        """Send in the open session; a fog that takes nothing more is given up, and all is sent anew.

        Raises:
            MessageError: The message is beyond its schema.
        """
        if self._connection.phase is not Phase.OPEN:
            return
        if not self._try(message):
            self._complain(f"the fog at {self._settings.fog.address} takes no messages any more")
            self._fail()

    def _ping(self) -> None:
        self.node.latency.asked(time.monotonic())
        self._send(Ping())

    def _try(self, message: Message) -> bool:
        if self._socket is None:
            return False
        frames = encode(message)
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._bytes_up += sum(len(frame) for frame in frames)
        self._connection.sent(time.monotonic())
        return True

    def _fail(self) -> None:
        was_open = self._connection.phase is Phase.OPEN
        self._perform(self._connection.failed(time.monotonic()))
        if was_open:
            _log.warning("the connection to the fog at %s has ended", self._settings.fog.address)

    def _open_socket(self) -> None:
        self._close_socket()
        events = (
            zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_CONNECT_RETRIED
            | zmq.EVENT_CONNECTED
        )
        self._socket = edge_socket(
            self._context,
            self._settings.fog.address,
            self._keys,
            self._fog_key,
            self._settings.wire,
            events,
        )
        self._monitor = self._socket.get_monitor_socket()
        self._reached = False
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def _close_socket(self) -> None:
        if self._socket is None:
            return
        self._poller.unregister(self._socket)
        if self._monitor is not None:
            self._poller.unregister(self._monitor)
        self._socket.disable_monitor()
        self._socket.close(0)
        self._socket = self._monitor = None

    def _look_at_handshake(self) -> None:
        """Turn what the socket's monitor tells into one sentence for a person."""
        address = self._settings.fog.address
        while self._monitor is not None:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            match event["event"]:
                case zmq.EVENT_CONNECTED:
                    self._reached = True
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH if event["value"] == REFUSED_STATUS:
                    self._complain(
                        f"the fog at {address} does not know this node; run there: "
                        f"fog-node allow '{self._keys.public}' --may-upload"
                    )
                    self._fail()
                case (
                    zmq.EVENT_HANDSHAKE_FAILED_AUTH
                    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                ):
                    self._complain(
                        f"the fog at {address} broke off the handshake; check that fog.public_key in the "
                        "configuration is that fog's public.key"
                    )
                    self._fail()
                case zmq.EVENT_CONNECT_RETRIED if not self._reached:
                    self._complain(f"no fog answers at {address}; it is tried again")
                case _:
                    pass

    def _complain(self, sentence: str) -> None:
        """Log a problem once, not at each attempt."""
        if sentence != self._complaint:
            _log.warning("%s", sentence)
        self._complaint = sentence

    def _write_status(self, state: str) -> None:
        if state != "stopped":
            with suppress(StoreError):
                self._last_status = self.node.status()
        status = {
            "role": "edge",
            "state": state,
            "version": __version__,
            "key": self._keys.public,
            "fog": self._settings.fog.address,
            "connection": self._connection.phase.value,
            "problem": self._complaint,
            "uptime_s": time.monotonic() - self._started,
            "time": time.time(),
            "bytes_up": self._bytes_up,
            "bytes_down": self._bytes_down,
        }
        write_status(self._folder, {**status, **self._last_status})


def fog_key(settings: EdgeSettings, base: Path) -> str:
    """The fog's public key: the setting itself, or what the file of this name holds.

    Raises:
        ConfigError: It is neither.
    """
    text = settings.fog.public_key
    if keys.KEY_PATTERN.fullmatch(text):
        return text
    path = resolve(base, text)
    try:
        return keys.check_public_key(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise ConfigError(
            f"fog.public_key is {text!r}, which is no key of 40 characters and no readable file ({error}); "
            "copy the fog's public.key to this machine and name it there"
        ) from error
