"""The edge daemon: the I/O thread that owns the sockets, the timers and the end of an edge node.

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

from common import __version__
from common.errors import StoreError
from common.node.child import stop_children
from common.node.health import report
from common.node.jobs import Call
from common.node.mailbox import Mailbox
from common.node.monitor import Monitor
from common.node.node_status import node_status
from common.node.settings import resolve
from common.node.status_file import write_status
from common.store import open_edge_store
from common.wire import keys
from common.wire.messages import Message
from edge_node.connection import Phase
from edge_node.fog_link import FogLink
from edge_node.fogs import FogPart, known_fogs, parts
from edge_node.health import edge_findings
from edge_node.metrics import edge_families
from edge_node.node import EdgeNode
from edge_node.settings import EdgeSettings

__all__ = ["EdgeDaemon"]

TICK_MS = 50
"""Longest sleep of the I/O thread, milliseconds: the precision of every timer here."""

_log = logging.getLogger(__name__)


class EdgeDaemon:
    """An edge node with its sockets.

    Args:
        settings: Its settings.
        base: Folder that relative paths start from.

    Raises:
        ConfigError: Keys cannot be used, or two fogs have one key.
        StoreError: The store cannot be opened.
    """

    def __init__(self, settings: EdgeSettings, base: Path) -> None:
        self._settings = settings
        self._folder = resolve(base, settings.store)
        self._started = time.monotonic()
        self._stopping = False
        self._keys = keys.load(resolve(base, settings.keys))
        fogs = parts(self._keys.public, known_fogs(settings, base), settings.subscription)
        self._last_status: dict[str, Any] = {}
        self._unwritable = ""
        self._mailbox: Mailbox[Call] = Mailbox()
        self._poller = zmq.Poller()
        self._poller.register(self._mailbox.fileno(), zmq.POLLIN)
        self._links: dict[str, FogLink] = {}
        with ExitStack() as resources:
            resources.callback(self._mailbox.close)
            store = resources.enter_context(
                open_edge_store(self._folder, self._keys.public, settings.storage)
            )
            context: zmq.Context[zmq.Socket[bytes]] = resources.enter_context(zmq.Context())
            self.node = EdgeNode(
                settings,
                base=base,
                folder=self._folder,
                store=store,
                mailbox=self._mailbox,
                parts=fogs,
                send=self._send,
            )
            resources.callback(self.node.close)
            for session in self.node.sessions:
                link = FogLink(session, self._keys, settings.wire, context, self._poller)
                self._links[session.part.fog.key] = link
                resources.callback(link.close)
            self._monitor = Monitor(
                settings.monitoring,
                self._mailbox,
                status=lambda: self._status("stopping" if self._stopping else "running"),
                families=edge_families,
            )
            resources.callback(self._monitor.close)
            _log.info(
                "edge node %s with key %s, %d frames wait for the fog at %s, log position %d",
                __version__,
                self._keys.public,
                store.outbox_state().waiting,
                self.node.own.part.fog.address,
                self.node.own.position,
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

    @property
    def _own(self) -> FogLink:
        return self._links[self.node.own.part.fog.key]

    def _serve(self) -> None:
        started = time.monotonic()
        report = dict.fromkeys(self._links, started + self._settings.report_s)
        status = 0.0
        while not self._stopping:
            self._turn()
            now = time.monotonic()
            self.node.tick(now)
            for key, link in self._links.items():
                if now >= report[key] and link.phase is Phase.OPEN:
                    report[key] = now + self._settings.report_s
                    link.report(self.node.report(link.session))
            if now >= status:
                status = now + self._settings.status_s
                self._write_status("running")

    def _drain(self) -> None:
        """Uploads under way are answered, records received are stored; the rest waits on disk."""
        _log.info("stopping; uploads under way are finished")
        self._write_status("stopping")
        end = time.monotonic() + self._settings.drain_s
        self.node.stop(self._settings.drain_s)
        while time.monotonic() < end and self._connected and not self.node.settled:
            self._turn()
        for link in self._links.values():
            link.stop()
        self.node.learner.stop()
        limits = self._settings.children
        stop_children(
            self.node.children, {"type": "stop"}, stop_s=limits.stop_s, terminate_s=limits.terminate_s
        )

    @property
    def _connected(self) -> bool:
        return any(link.phase is Phase.OPEN for link in self._links.values())

    def _ask_to_stop(self) -> None:
        self._stopping = True

    def _turn(self) -> None:
        self._poller.poll(TICK_MS)
        for call in self._mailbox.drain():
            call()
        for link in self._links.values():
            link.turn()

    def _send(self, part: FogPart, message: Message) -> None:
        self._links[part.fog.key].send(message)

    def _write_status(self, state: str) -> None:
        self._unwritable = write_status(self._folder, self._status(state))

    def _status(self, state: str) -> dict[str, Any]:
        if state != "stopped":
            with suppress(StoreError):
                self._last_status = self.node.status()
                self._last_status["fogs"] = [
                    {**link.status(), **link.session.status()} for link in self._links.values()
                ]
        own = self._own.status()
        status = {
            "role": "edge",
            "state": state,
            "version": __version__,
            "key": self._keys.public,
            "fog": own["fog"],
            "connection": own["connection"],
            "problem": own["problem"],
            "uptime_s": time.monotonic() - self._started,
            "time": time.time(),
            "bytes_up": sum(link.bytes_up for link in self._links.values()),
            "bytes_down": sum(link.bytes_down for link in self._links.values()),
        }
        status |= node_status(self._folder, self._unwritable, self._monitor)
        status |= self._last_status
        return {
            **status,
            "health": report(edge_findings(status, self._settings) if self._last_status else []),
        }
