"""Whoever has no key, or asks for more than it takes, keeps nothing from the others."""

import resource
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from common.frame import Frame, FrameIdentity, content_digest
from common.images import encode_jpeg
from common.node.jobs import Jobs
from common.node.mailbox import Mailbox
from common.node.open_files import allow_open_files
from common.store import open_fog_store
from common.store.records import RecordKind
from common.wire.allow_list import Device
from common.wire.framing import encode
from common.wire.messages import Accepted, Fetch, Hello, Ping, Pong, Pull
from common.wire.settings import WireSettings
from common.wire.sockets import edge_socket
from fog_node.downlinks import Downlinks
from fog_node.instructions import ReadBlob, ReadLog
from fog_node.log_reader import LogReader
from fog_node.settings import FogSettings
from fog_node.state import FogState
from tests.node_processes import Deployment
from tests.raw_peer import Peer

KEY = "1" * 40


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def open_files(deployment):
    return len(list(Path(f"/proc/{deployment.fog.process.pid}/fd").iterdir()))


def test_connections_without_a_key_use_up_no_more_than_their_bound(deployment, photo):
    deployment.start_fog(limits={"strangers": 20}, wire={"heartbeat_seconds": 5.0})
    jpeg = encode_jpeg(photo, 90)
    good = Peer(deployment)
    before, port = open_files(deployment), deployment.fog.status()["port"]
    strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        end = time.monotonic() + 5
        while open_files(deployment) > before + 25 and time.monotonic() < end:
            time.sleep(0.02)
        assert open_files(deployment) <= before + 25
        assert good.upload(0, jpeg) == Accepted(7, (0,)), "who is known stays"
        late = Peer(deployment)
        assert late.upload(0, jpeg) == Accepted(7, (0,)), "and who has a key gets in"
        late.close()
        assert deployment.fog.text().count("have not said who they are") <= 6
    finally:
        for stranger in strangers:
            stranger.close()
        good.close()


def test_the_fog_may_open_as_many_files_as_its_peers_need(deployment):
    deployment.start_fog(limits={"peers": 1500})
    lines = Path(f"/proc/{deployment.fog.process.pid}/limits").read_text().splitlines()
    soft, hard = next(line for line in lines if line.startswith("Max open files")).split()[3:5]
    assert int(soft) >= min(1500 + 500, int(hard))


def test_a_limit_that_the_system_sets_is_logged(caplog):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_open_files(1) >= 1
    assert not caplog.records
    most = allow_open_files(1 << 40)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert most < 1 << 40
    assert "raise the limit of the system (ulimit -n" in caplog.text


class CountingStore:
    """A store that counts what is read of it."""

    def __init__(self, store):
        self._store = store
        self.reads = 0

    def __getattr__(self, name):
        if name in ("read", "blob", "blob_size"):
            self.reads += 1
        return getattr(self._store, name)


def test_what_an_ended_session_asked_for_is_not_read(tmp_path):
    """Hello and Pull in a loop would else queue a page for each, and all others behind them."""
    mailbox = Mailbox()
    with open_fog_store(tmp_path / "store") as real:
        identity = FrameIdentity(KEY, 7, 0)
        real.commit_frames([Frame("frame", b"image", 64, 48, True, (), identity)])
        real.finish(identity, RecordKind.PACKET, {}, b"packet")
        rights = {KEY: Device(KEY, may_subscribe=("*",))}
        state = FogState(FogSettings(), fog_key="F" * 40, log_id=9, last_position=1, rights=rights)
        store, reads = CountingStore(real), Jobs("reader", mailbox)
        done = []
        reader = LogReader(state, store, reads, Downlinks(0.0), done.extend)

        def ask():
            state.received(b"id", KEY, Hello(epoch=7, position=0, log_id=9, devices=("*",)), 0.0)
            asked = [*state.received(b"id", KEY, Pull(0, 10, 10_000), 0.0)]
            return [*asked, *state.received(b"id", KEY, Fetch(bytes(32), 0, 10), 0.0)]

        asked = [request for _ in range(50) for request in ask()]
        assert len(asked) == 100
        for request in asked:
            match request:
                case ReadLog():
                    reader.read_log(request)
                case ReadBlob():
                    reader.read_blob(request)
        reads.close()
        for call in mailbox.drain():
            call()
    mailbox.close()
    assert store.reads == 2, "of the session that lives: its page, and that there is no such content"
    assert [type(entry.message).__name__ for entry in done if hasattr(entry, "message")] == [
        "RecordMessage",
        "Error",
    ]


def test_an_edge_that_asks_for_content_and_never_reads_it_fills_no_memory(deployment, photo):
    deployment.start_fog(wire={"heartbeat_seconds": 30.0})
    good = Peer(deployment)
    rng = np.random.default_rng(0)
    large = encode_jpeg(rng.integers(0, 256, (900, 1200, 3), np.uint8), 95)
    assert good.upload(0, large, 1200, 900, validation=True) == Accepted(7, (0,))
    fetch = encode(Fetch(content_digest(large), 0, 1 << 18))
    hostile = [Peer(deployment, wire=WireSettings(receive_queue_messages=2)) for _ in range(4)]
    statm = Path(f"/proc/{deployment.fog.process.pid}/statm")
    before = most = int(statm.read_text().split()[1]) * 4096
    try:
        for _ in range(40):
            for peer in hostile:
                for _ in range(8):
                    if peer.socket.poll(0, zmq.POLLOUT):
                        peer.socket.send_multipart(fetch, zmq.NOBLOCK)
            time.sleep(0.05)
            most = max(most, int(statm.read_text().split()[1]) * 4096)
        assert most - before < 4 * (15 << 20), "each would hold 50 MB without the bound"
        deployment.fog.wait_for_log("takes less than it asks for; it is disconnected")
        assert good.upload(1, encode_jpeg(photo, 90)) == Accepted(7, (1,))
    finally:
        for peer in [*hostile, good]:
            peer.close()


def test_figures_of_a_device_go_with_its_entry_on_the_list(deployment):
    deployment.start_fog()
    peers = [Peer(deployment) for _ in range(3)]
    keys = {peer.node.keys.public for peer in peers}
    deployment.fog.wait_for(lambda s: keys <= s["peers"].keys(), "figures of each")
    for peer in peers:
        peer.close()
    deployment.allow.path.write_text("devices: []\n")
    deployment.fog.wait_for(lambda s: not s["peers"], "their end")


def test_a_peer_that_is_let_in_and_says_nothing_does_not_stay(deployment):
    """Its key could be taken off the list, and nobody would know which connection to cut."""
    deployment.start_fog(wire={"handshake_seconds": 0.5, "heartbeat_seconds": 5.0})
    good = Peer(deployment)
    node = deployment.edge("silent")
    context = zmq.Context()
    silent = edge_socket(
        context,
        deployment.fog.settings["address"],
        node.keys,
        deployment.fog.keys.public,
        events=zmq.EVENT_DISCONNECTED,
    )
    try:
        assert silent.poll(5000, zmq.POLLOUT), "it is let in"
        assert silent.get_monitor_socket().poll(5000), "and cut"
        deployment.fog.wait_for_log("has not said who it is; it is disconnected")
        good.send(Ping())
        good.answer(Pong)
    finally:
        context.destroy(0)
        good.close()
