"""Real sockets with CURVE: who gets in, and what a hostile peer can do."""

import time
from contextlib import contextmanager

import pytest
import zmq

from common.errors import ConfigError, MessageError, MessageVersionError, WireError
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from common.wire.framing import decode, encode
from common.wire.messages import Hello, Ping, Pong
from common.wire.settings import WireSettings
from common.wire.sockets import arrival, authenticating, edge_socket, fog_socket, port_of

SETTINGS = WireSettings(max_message_bytes=1 << 20, handshake_seconds=1.0, backoff_first_seconds=0.1)


class Fog:
    """A fog socket that answers nothing by itself."""

    def __init__(self, context, folder):
        self.context = context
        self.keys = keys.generate(folder / "fog")
        self.list = AllowList(folder / "allowed.yaml")
        self.socket = fog_socket(context, "tcp://127.0.0.1:0", self.keys, SETTINGS)
        self.endpoint = f"tcp://127.0.0.1:{port_of(self.socket)}"

    def receive(self, seconds=3.0):
        """The next arrival, or None."""
        if not self.socket.poll(int(seconds * 1000)):
            return None
        return arrival(self.socket.recv_multipart(copy=False))

    @contextmanager
    def edge(self, pair, fog_key=None):
        socket = edge_socket(self.context, self.endpoint, pair, fog_key or self.keys.public, SETTINGS)
        try:
            yield socket
        finally:
            socket.close(0)


@pytest.fixture
def fog(tmp_path):
    context = zmq.Context()
    listed = AllowList(tmp_path / "allowed.yaml")
    try:
        with authenticating(context, listed):
            fog = Fog(context, tmp_path)
            yield fog
            fog.socket.close(0)
    finally:
        context.term()


@pytest.fixture
def pair(tmp_path, fog):
    """Keys of an edge on the list."""
    pair = keys.generate(tmp_path / "edge")
    fog.list.add(Device(pair.public, may_upload=True))
    return pair


def send(socket, frames, seconds=3.0):
    """Send once connected; False if that never happens."""
    if not socket.poll(int(seconds * 1000), zmq.POLLOUT):
        return False
    socket.send_multipart(frames, zmq.NOBLOCK)
    return True


def answer_for(seconds, socket, frames, pause=0.0):
    """Send the same again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        socket.send_multipart(frames, zmq.NOBLOCK)
        time.sleep(pause)


def test_a_listed_key_is_let_in_and_known_by_its_key(fog, pair):
    with fog.edge(pair) as edge:
        assert send(edge, encode(Hello(epoch=1, position=0)))
        arrived = fog.receive()
        assert arrived.device == pair.public
        assert decode(arrived.frames) == Hello(epoch=1, position=0)
        fog.socket.send_multipart([arrived.routing_id, *encode(Pong())])
        assert edge.poll(3000)
        assert decode(edge.recv_multipart()) == Pong()


def test_a_key_that_is_not_listed_is_not_let_in(fog, tmp_path):
    stranger = keys.generate(tmp_path / "stranger")
    with fog.edge(stranger) as edge:
        assert not send(edge, encode(Ping()), 0.5)
        assert fog.receive(0.2) is None


def test_a_key_added_to_the_file_is_let_in_without_a_restart(fog, tmp_path):
    late = keys.generate(tmp_path / "late")
    with fog.edge(late) as edge:
        assert not send(edge, encode(Ping()), 0.3)
    AllowList(tmp_path / "allowed.yaml").add(Device(late.public))
    with fog.edge(late) as edge:
        assert send(edge, encode(Ping()))
        assert fog.receive().device == late.public


def test_a_fog_with_another_key_is_not_spoken_to(fog, pair, tmp_path):
    other = keys.generate(tmp_path / "other")
    with fog.edge(pair, fog_key=other.public) as edge:
        assert not send(edge, encode(Ping()), 0.5)
        assert fog.receive(0.2) is None


def test_an_oversized_message_costs_its_sender_the_connection_and_nobody_else(fog, pair, tmp_path):
    good = keys.generate(tmp_path / "good")
    fog.list.add(Device(good.public))
    with fog.edge(pair) as bad, fog.edge(good) as edge:
        assert send(bad, [b"h", bytes(SETTINGS.max_message_bytes + 1)])
        assert send(edge, encode(Ping()))
        assert fog.receive().device == good.public
        assert fog.receive(0.3) is None


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([b"garbage"], MessageError),
        ([b""], MessageError),
        ([b"a", b"b", b"c"], MessageError),
        (encode(Ping(), version=9), MessageVersionError),
    ],
)
def test_garbage_is_refused_by_a_typed_error_and_the_socket_lives(fog, pair, frames, error):
    with fog.edge(pair) as edge:
        assert send(edge, frames)
        with pytest.raises(error):
            decode(fog.receive().frames)
        assert send(edge, encode(Ping()))
        assert decode(fog.receive().frames) == Ping()


def test_a_peer_that_has_gone_is_reported_not_dropped_silently(fog, pair):
    with fog.edge(pair) as edge:
        assert send(edge, encode(Ping()))
        arrived = fog.receive()
    with pytest.raises(zmq.ZMQError, match="Host unreachable"):
        answer_for(3.0, fog.socket, [arrived.routing_id, *encode(Pong())], pause=0.03)


def test_a_full_queue_is_reported_not_dropped_silently(fog, pair):
    with fog.edge(pair) as edge:
        assert send(edge, encode(Ping()))
        arrived = fog.receive()
        with pytest.raises(zmq.Again):
            answer_for(3.0, fog.socket, [arrived.routing_id, b"h", bytes(100_000)])


def test_a_message_outside_of_authentication_has_no_identity():
    with pytest.raises(WireError, match="not authenticated"):
        arrival([zmq.Frame(b"id"), zmq.Frame(b"x")])
    with pytest.raises(WireError, match="without content"):
        arrival([zmq.Frame(b"id")])


def test_a_port_in_use_and_a_bad_endpoint_are_named(fog, pair):
    with pytest.raises(ConfigError, match="cannot listen on"):
        fog_socket(fog.context, fog.endpoint, fog.keys, SETTINGS)
    with pytest.raises(ConfigError, match="tcp://HOST:PORT"):
        edge_socket(fog.context, "nonsense", pair, fog.keys.public, SETTINGS)
