"""The fog daemon: the I/O thread that owns the socket, the timers and the end of a fog node.

Encoding and training run in child processes; nothing in this process imports torch.
"""

from __future__ import annotations

import errno
import logging
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zmq

from common import __version__
from common.errors import StoreError
from common.node.child import stop_children
from common.node.health import report
from common.node.jobs import Call
from common.node.log_limit import LogLimit
from common.node.mailbox import Mailbox
from common.node.monitor import Monitor
from common.node.node_status import node_status
from common.node.open_files import allow_open_files
from common.node.settings import resolve
from common.node.status_file import write_status
from common.store import open_fog_store
from common.store.records import INLINE_LIMIT_BYTES
from common.wire import keys
from common.wire.allow_list import AllowList
from common.wire.connections import Connections
from common.wire.framing import encode
from common.wire.messages import Chunk, Message, RecordMessage
from common.wire.sockets import Reader, authenticating, fog_socket, port_of
from fog_node.health import fog_findings
from fog_node.last_backup import last_backup
from fog_node.metrics import fog_families
from fog_node.node import FogNode
from fog_node.reception import Reception
from fog_node.settings import FogSettings
from fog_node.state import MAX_FETCHES
from fog_node.traffic import Traffic

__all__ = ["FogDaemon"]

RECEIVE_AT_ONCE = 64
"""Messages taken from the socket before everything else gets its turn."""

TICK_MS = 50
"""Longest sleep of the I/O thread, milliseconds: the precision of every timer here."""

LINGER_MS = 500
"""How long the last acknowledgements may take to leave; edges send again what they miss."""

ENCODER_STOP_S = 0.5
"""How long an encoder may take to end by itself: a batch under way is encoded again after the next start."""

HANDSHAKES = 2
"""A peer says who it is as soon as it is let in: after twice the time for that it counts as silent."""

OWN_FILES = 200
"""Files that a fog opens beside its peers' connections: its store, its children, and what it reads."""

_log = logging.getLogger(__name__)


class FogDaemon:
    """A fog node with its socket.

    Args:
        settings: Its settings.
        base: Folder that relative paths start from.

    Raises:
        ConfigError: Keys or the allow list cannot be used, or the address cannot be bound.
        StoreError: The store cannot be opened.
    """

    def __init__(self, settings: FogSettings, base: Path) -> None:
        self._settings = settings
        self._folder = resolve(base, settings.store)
        self._started = time.monotonic()
        self._traffic = Traffic()
        self._log_limit = LogLimit()
        self._stopping = False
        self._last_status: dict[str, Any] = {}
        self._unwritable = ""
        self._mailbox: Mailbox[Call] = Mailbox()
        limits = settings.limits
        allow_open_files(limits.peers + limits.strangers + OWN_FILES)
        pair = keys.load(resolve(base, settings.keys))
        allow = AllowList(resolve(base, settings.allow_list))
        with ExitStack() as resources:
            resources.callback(self._mailbox.close)
            store = resources.enter_context(open_fog_store(self._folder, settings.storage))
            context: zmq.Context[zmq.Socket[bytes]] = resources.enter_context(zmq.Context())
            resources.enter_context(authenticating(context, allow))
            self._socket = fog_socket(context, settings.address, pair, settings.wire, Connections.EVENTS)
            resources.callback(lambda: self._socket.close(LINGER_MS))
            unread = max(settings.limits.unread_bytes, 2 * settings.wire.max_message_bytes)
            window = (
                settings.wire.window_bytes + MAX_FETCHES * settings.wire.chunk_bytes + 2 * INLINE_LIMIT_BYTES
            )
            unsent = max(settings.limits.unsent_bytes, window)
            connections = Connections(self._socket, unread, unsent)
            resources.callback(connections.close)
            self.port = port_of(self._socket)
            self.node = FogNode(
                settings,
                key=pair.public,
                folder=self._folder,
                store=store,
                allow=allow,
                mailbox=self._mailbox,
                send=self._send,
            )
            resources.callback(self.node.close)
            self._monitor = Monitor(
                settings.monitoring,
                self._mailbox,
                status=lambda: self._status("stopping" if self._stopping else "serving"),
                families=fog_families,
                registry=self.node.counters.registry,
            )
            resources.callback(self._monitor.close)
            self._reader = Reader(self._socket)
            self._reception = Reception(
                self.node,
                connections,
                self._traffic,
                settings.limits.strangers,
                HANDSHAKES * settings.wire.handshake_seconds,
            )
            _log.info(
                "fog node %s with key %s listens on port %d; log position %d, %d frames wait to be encoded",
                __version__,
                pair.public,
                self.port,
                self.node.last_position,
                store.pending_count,
            )
            self._resources = resources.pop_all()

    def run(self) -> int:
        """Serve until SIGTERM or Ctrl-C, then drain; returns the exit code 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._mailbox.post(self._ask_to_stop))
        with self._resources:
            try:
                self._serve()
                self._drain()
            finally:
                for child in [*self.node.encoders, *self.node.trainers]:
                    child.terminate(signal.SIGKILL)
        self._write_status("stopped")
        _log.info("fog node has stopped; log position %d", self.node.last_position)
        return 0

    def _serve(self) -> None:
        poller = self._poller()
        due = {"rights": 0.0, "plan": 0.0, "status": 0.0}
        settings = self._settings
        while not self._stopping:
            poller.poll(TICK_MS)
            self._turn()
            now = time.monotonic()
            self.node.tick(now)
            self._reception.tick(now)
            if now >= due["rights"]:
                due["rights"] = now + settings.allow_check_s
                self.node.check_rights()
                self._reception.check_rights(now)
            if now >= due["plan"]:
                due["plan"] = now + settings.planner.interval_s
                self.node.plan()
            if now >= due["status"]:
                due["status"] = now + settings.status_s
                self._write_status("serving")

    def _drain(self) -> None:
        """What edges have sent is committed and acknowledged, what is encoded is written."""
        _log.info("stopping; commits under way are finished")
        self._write_status("stopping")
        self.node.stop()
        poller = self._poller()
        end = time.monotonic() + self._settings.drain_s
        while time.monotonic() < end and not self.node.settled:
            poller.poll(TICK_MS)
            self._turn()
        self.node.farewell()
        limits = self._settings.children
        stop = {"type": "stop"}
        stop_children(
            self.node.encoders,
            stop,
            stop_s=min(ENCODER_STOP_S, limits.stop_s),
            terminate_s=limits.terminate_s,
        )
        stop_children(self.node.trainers, stop, stop_s=limits.stop_s, terminate_s=limits.terminate_s)

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._mailbox.fileno(), zmq.POLLIN)
        return poller

    def _ask_to_stop(self) -> None:
        self._stopping = True

    def _turn(self) -> None:
        """Take what has arrived: outcomes of jobs and children first, then messages."""
        self._take_outcomes()
        for _ in range(RECEIVE_AT_ONCE):
            try:
                parts = self._reader.receive()
            except zmq.Again:
                return
            self._reception.received(parts, time.monotonic())
            # The disk would idle until the group of uploads that it has written is followed by the next.
            if self._mailbox.waiting:
                self._take_outcomes()

    def _take_outcomes(self) -> None:
        for call in self._mailbox.drain():
            call()

    def _send(self, routing_id: bytes, key: str, message: Message) -> bool:
        frames = encode(message)
        if not self._reception.leaves(routing_id, key, frames, time.monotonic()):
            return False
        try:
            self._socket.send_multipart([routing_id, *frames], zmq.NOBLOCK)
        except zmq.Again:
            note = self._log_limit.admit(key, time.monotonic())
            if note is not None:
                _log.warning("edge %s does not take what it asked for; its session ends%s", key, note)
            return False
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            raise
        self.node.counters.was_sent(message)
        traffic = self._traffic.peer(key)
        traffic.down += sum(len(frame) for frame in frames)
        if isinstance(message, RecordMessage) and message.kind == "packet":
            traffic.packets_down += len(message.payload)
        elif isinstance(message, Chunk) and message.total > INLINE_LIMIT_BYTES:
            traffic.weights_down += len(message.payload)
        return True

    def _write_status(self, state: str) -> None:
        self._unwritable = write_status(self._folder, self._status(state))

    def _status(self, state: str) -> dict[str, Any]:
        # Once stopped the store is closed: only what the last status told can be told.
        if state != "stopped":
            with suppress(StoreError):
                self._last_status = self.node.status()
                peers = self._last_status["peers"]
                for key, traffic in self._traffic.peers.items():
                    peer = peers.setdefault(key, {"connected": False})
                    peer |= {f"bytes_{name}": value for name, value in asdict(traffic).items()}
        status = {**self._last_status, "wire": self._reception.status()}
        status["log_position"] = self.node.last_position
        status |= node_status(self._folder, self._unwritable, self._monitor)
        status["last_backup"] = last_backup(self._folder)
        head = {
            "role": "fog",
            "state": state,
            "version": __version__,
            "address": self._settings.address,
            "port": self.port,
            "uptime_s": time.monotonic() - self._started,
            "time": time.time(),
        }
        status = {**head, **status}
        return {**status, "health": report(fog_findings(status, self._settings) if self._last_status else [])}
