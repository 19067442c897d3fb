"""A stopped edge costs the others nothing, and the fog no memory."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from common.frame import Frame, FrameIdentity
from common.images import encode_jpeg
from common.wire.framing import encode
from common.wire.messages import Accepted, Ping, Pull, Upload
from tests.node_processes import Deployment
from tests.raw_peer import Peer


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def memory(node):
    """Resident bytes."""
    return int(Path(f"/proc/{node.process.pid}/statm").read_text().split()[1]) * 4096


def seconds_for(edges, count, upload):
    """Upload frames until every edge has so many packets more."""
    before = [edge.status()["inbox"]["packet"] for edge in edges]
    since = time.monotonic()
    upload(count)
    for edge, had in zip(edges, before, strict=True):
        edge.wait_for(lambda s, n=had + count: s["inbox"]["packet"] >= n, "the packets", 60)
    return time.monotonic() - since


def test_the_others_go_on_at_their_rate_while_one_edge_is_stopped(deployment, photo):
    # Nobody is forgotten during the test: what is on the way to the stopped edge stays there.
    deployment.start_fog(wire={"liveness": 100, "heartbeat_seconds": 1.0}, workers={"wait_s": 0.0})
    edges = [deployment.edge(f"edge{number}", wire={"liveness": 100}).start() for number in range(4)]
    for edge in edges:
        edge.wait_for(lambda s: s["connection"] == "open", "a session")
    writer = Peer(deployment)
    images = [encode_jpeg(photo, quality) for quality in range(50, 95)]
    number = 0

    def upload(count):
        nonlocal number
        identity = FrameIdentity(writer.node.keys.public, 7, 0)
        for _ in range(count):
            # A frame with "large" in its name becomes a record that is fetched in chunks.
            frame = Frame(f"{number}", images[number % len(images)], 96, 72, True, (), identity)
            message = Upload.of(frame)
            fields = {name: getattr(message, name) for name in message.__slots__}
            writer.send(Upload(**{**fields, "number": number}))
            number += 1
            assert isinstance(writer.answer(Accepted), Accepted)

    stopped, others = edges[0], edges[1:]
    seconds_for(edges, 20, upload)
    free = min(seconds_for(edges, 60, upload) for _ in range(2))
    before = memory(deployment.fog)
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        held = min(seconds_for(others, 60, upload) for _ in range(2))
        assert held < free / 0.6 + 0.3, "a figure of its own is in benchmarks: here machines are shared"
        assert memory(deployment.fog) - before < 32 << 20
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    stopped.wait_for(lambda s: s["inbox"]["packet"] == number, "what it missed", 60)
    writer.close()


def test_a_client_that_asks_for_everything_and_never_reads_does_not_grow_the_fog(deployment, photo):
    deployment.start_fog(wire={"liveness": 100, "heartbeat_seconds": 1.0}, workers={"wait_s": 0.0})
    writer, silent = Peer(deployment), Peer(deployment)
    image = encode_jpeg(photo, 90)
    for number in range(100):
        assert writer.upload(number, image) == Accepted(7, (number,))
    deployment.fog.wait_for(lambda s: s["log_position"] == 100, "the log")
    before = memory(deployment.fog)
    for _ in range(2_000):
        # Each Pull asks for the whole log from its beginning; the window stays as it is.
        if silent.socket.poll(1000, 2):
            silent.socket.send_multipart(encode(Pull(0, 1_000_000, 1 << 40)))
            silent.socket.send_multipart(encode(Ping()))
    assert writer.upload(100, image) == Accepted(7, (100,))
    deployment.fog.wait_for(lambda s: s["log_position"] == 101, "the next record")
    assert memory(deployment.fog) - before < 32 << 20
    silent.close()
    writer.close()
