"""A handshake that is broken off: when that is a fault of the line, and when a wrong key is likely."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

import pytest

from tests.node_processes import Deployment


class Relay:
    """A TCP relay before a fog; when told to, it resets every connection at its first byte."""

    def __init__(self, port):
        self.target = port
        self.resetting = False
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Reset what there is and what comes."""
        self.resetting = True
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.cut()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.resetting:
                    near.recv(1)
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    near.close()
                    self.resets += 1
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


@pytest.fixture
def relay(deployment):
    deployment.start_fog()
    relay = Relay(int(deployment.fog.settings["address"].rsplit(":", 1)[1]))
    yield relay
    relay.close()


def edge_behind(relay, deployment):
    return deployment.edge("one", fog={"address": f"tcp://127.0.0.1:{relay.port}"}).start()


def test_a_line_that_is_cut_after_the_key_was_accepted_throws_no_doubt_on_it(deployment, relay):
    edge = edge_behind(relay, deployment)
    edge.wait_for(lambda s: s["connection"] == "open", "a session")
    relay.cut()
    edge.wait_for(lambda s: "broke off the handshake; it is tried again" in s["problem"], "the sentence", 40)
    end = time.monotonic() + 40
    while relay.resets < 3 and time.monotonic() < end:
        time.sleep(0.02)
    assert relay.resets >= 3
    assert "public_key" not in edge.text()
    relay.resetting = False
    edge.wait_for(lambda s: s["connection"] == "open" and not s["problem"], "a session again", 40)


def test_the_first_handshake_that_is_cut_throws_no_doubt_and_the_next_does(deployment, relay):
    relay.resetting = True
    edge = edge_behind(relay, deployment)
    edge.wait_for_log("broke off the handshake; it is tried again", 40)
    edge.wait_for(lambda s: "check that fog.public_key" in s["problem"], "the sentence", 40)
    assert edge.text().count("check that fog.public_key") == 1
