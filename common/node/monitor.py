"""``/health`` and ``/metrics`` of a daemon over HTTP, in threads of their own.

A request asks the daemon's I/O thread for its status and waits for it, so that figures are fresh and a
daemon that hangs is found out; writing the answer to a slow client is no concern of that thread.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from common.node.health import report
from common.node.jobs import Call
from common.node.mailbox import Mailbox
from common.node.metric_families import Families, StatusCollector
from common.node.settings import MonitoringSettings

__all__ = ["Monitor"]

ANSWER_S = 2.0
"""How long the daemon's I/O thread may take to tell its status before it counts as hanging."""

FRESH_S = 0.1
"""Age up to which a status answers another request, so that many requests cost the daemon little."""

_log = logging.getLogger(__name__)


class _Statuses:
    """The daemon's status, asked for from other threads.

    Args:
        mailbox: Takes calls to the I/O thread.
        make: Makes the status, in the I/O thread.
    """

    def __init__(self, mailbox: Mailbox[Call], make: Callable[[], Mapping[str, Any]]) -> None:
        self._mailbox = mailbox
        self._make = make
        self._changed = threading.Condition()
        self._newest: Mapping[str, Any] = {}
        self._made = float("-inf")
        self._asked = False

    def get(self) -> tuple[Mapping[str, Any], float]:
        """(status, its age in seconds); an older or an empty one when the I/O thread does not answer."""
        begun = time.monotonic()
        with self._changed:
            if begun - self._made > FRESH_S:
                # One question at a time: a daemon that hangs for hours has one to answer afterwards.
                if not self._asked:
                    self._asked = True
                    self._mailbox.post(self._answer)
                self._changed.wait_for(lambda: self._made >= begun, ANSWER_S)
            return self._newest, time.monotonic() - self._made

    def _answer(self) -> None:
        try:
            status = self._make()
        finally:
            with self._changed:
                self._asked = False
        with self._changed:
            self._newest, self._made = status, time.monotonic()
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A thread that waits for a slow client ends with its socket, in close().
    block_on_close = False

    def __init__(self, address: tuple[str, int], settings: MonitoringSettings, statuses: _Statuses) -> None:
        self.settings = settings
        self.statuses = statuses
        self.registry = CollectorRegistry()
        self.collector: StatusCollector | None = None
        self.rendering = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is room for one more connection."""
        with self._lock:
            room = len(self._open) < self.settings.connections
            if room:
                self._open[request] = time.monotonic()
        return room

    def service_actions(self) -> None:
        """Called every half second: who has not been served by now is cut off."""
        self._cut(time.monotonic() - self.settings.request_s)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no news; anything else is a defect, and is told."""
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        _log.log(level, "a request to the monitoring address was not answered", exc_info=True)

    def close(self) -> None:
        """Cut off everyone and close."""
        self.shutdown()
        self._cut(float("inf"))
        self.server_close()

    def _cut(self, begun_before: float) -> None:
        with self._lock:
            late = [request for request, begun in self._open.items() if begun < begun_before]
        for request in late:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "residual-inr"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.settings.request_s)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._health()
        elif path == "/metrics":
            self._metrics()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is /health and /metrics here\n")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug("monitoring: " + format, *args)

    def _health(self) -> None:
        status, age = self.server.statuses.get()
        health = dict(status.get("health") or report([]))
        if age > ANSWER_S:
            sentence = f"the daemon has not answered for {max(ANSWER_S, min(age, 1e9)):.0f} s"
            health["failing"] = [{"check": "loop", "sentence": sentence}, *health["failing"]]
            health["healthy"] = False
        known = {key: status.get(key) for key in ("role", "state", "version", "uptime_s")}
        code = HTTPStatus.OK if health["healthy"] else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(code, "application/json", json.dumps(known | health).encode() + b"\n")

    def _metrics(self) -> None:
        status, age = self.server.statuses.get()
        if age > ANSWER_S or self.server.collector is None:
            sentence = b"the daemon does not answer; /health says more\n"
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", sentence)
            return
        try:
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
        except (ValueError, TypeError, IndexError):  # what the library makes of a malformed header
            encode, kind = choose_encoder("")
        with self.server.rendering:
            self.server.collector.status = status
            body = encode(self.server.registry)
        self._answer(HTTPStatus.OK, kind, body)

    def _answer(self, code: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Monitor:
    """The HTTP server of one daemon, if its settings want one.

    A port that is taken does not keep the daemon from its work: it is logged and told in the status.

    Args:
        settings: Where, and its bounds.
        mailbox: Takes calls to the I/O thread.
        status: Makes the status, in the I/O thread.
        families: Makes the metric families of a status.
        registry: Metrics that are counted apart from the status.
    """

    def __init__(
        self,
        settings: MonitoringSettings,
        mailbox: Mailbox[Call],
        *,
        status: Callable[[], Mapping[str, Any]],
        families: Callable[[Mapping[str, Any]], Families],
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._server: _Server | None = None
        self.problem = ""
        """Why there is no server although one was wanted."""
        if settings.port is None:
            return
        try:
            self._server = _Server((settings.host, settings.port), settings, _Statuses(mailbox, status))
        except OSError as error:
            self.problem = f"{settings.host} port {settings.port}: {error.strerror or error}"
            _log.warning(
                "there is no /health and /metrics, because %s; set monitoring.port to a free one, or to null",
                self.problem,
            )
            return
        if registry is not None:
            self._server.registry = registry
        self._server.collector = StatusCollector(families)
        self._server.registry.register(self._server.collector)
        ProcessCollector(registry=self._server.registry)
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()
        _log.info("/health and /metrics are at %s", self.address)

    @property
    def address(self) -> str | None:
        """Where it is, ``http://HOST:PORT``; None without a server."""
        if self._server is None:
            return None
        host, port = self._server.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def close(self) -> None:
        """End it; requests under way are cut off."""
        if self._server is not None:
            self._server.close()
            self._server = None
