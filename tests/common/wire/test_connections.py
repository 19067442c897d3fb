"""Connections behind the fog's socket: what they hold unread, and the end of one of them."""

import os
import sys
import time

import pytest
import zmq

from common.wire import keys
from common.wire.allow_list import AllowList, Device
from common.wire.connections import Connections, _received
from common.wire.settings import WireSettings
from common.wire.sockets import MOST_PARTS, Reader, arrival, authenticating, edge_socket, fog_socket, port_of

BOUND = 4 << 20

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's")


class Setting:
    """A fog socket, and edges."""

    def __init__(self, folder, context):
        self.folder, self.context = folder, context
        self.allow = AllowList(folder / "allow.yaml")
        self.keys = keys.generate(folder / "fog")
        self.socket = fog_socket(context, "tcp://127.0.0.1:0", self.keys, events=Connections.EVENTS)
        self.connections = Connections(self.socket, BOUND, BOUND)
        self.reader = Reader(self.socket)
        self.edges = []

    def edge(self, settings=None):
        pair = keys.generate(self.folder / f"edge{len(self.edges)}")
        self.allow.add(Device(pair.public))
        endpoint = f"tcp://127.0.0.1:{port_of(self.socket)}"
        socket = edge_socket(self.context, endpoint, pair, self.keys.public, settings, zmq.EVENT_DISCONNECTED)
        assert socket.poll(5000, zmq.POLLOUT)
        self.edges.append(socket)
        return socket

    def take(self):
        """Take the next message: its connection and its parts."""
        assert self.socket.poll(5000)
        parts = self.reader.receive()
        return self.connections.took(parts[0].bytes, parts[1:], arrival(parts).device), [
            part.bytes for part in parts[1:]
        ]

    def close(self):
        self.connections.close()
        self.socket.close(0)
        for socket in self.edges:
            monitor = socket.get_monitor_socket()
            socket.disable_monitor()
            monitor.close(0)
            socket.close(0)


@pytest.fixture
def setting(tmp_path):
    with zmq.Context() as context, authenticating(context, AllowList(tmp_path / "allow.yaml")):
        setting = Setting(tmp_path, context)
        yield setting
        setting.close()


def after_drops(setting, expected):
    """Take messages until the expected one comes; its connection."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            connection, parts = setting.take()
        except zmq.Again:
            continue
        if parts == expected:
            return connection
    raise AssertionError(f"{expected} did not come")


def overfull(setting, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        setting.connections.look()
        found = setting.connections.overfull()
        if found:
            return found
        time.sleep(0.02)
    return []


def test_a_connection_is_known_by_the_key_of_its_messages(setting):
    edge = setting.edge()
    edge.send_multipart([b"one", bytes(1000)])
    connection, parts = setting.take()
    assert parts == [b"one", bytes(1000)]
    assert connection.key == setting.allow.devices[0].key
    assert [entry.key for entry in setting.connections] == [connection.key]


def test_a_connection_that_has_just_gone_holds_nothing(setting):
    """ZeroMQ closes a connection in a thread of its own, at any moment before the event is looked at."""
    edge = setting.edge()
    edge.send_multipart([b"one", b""])
    connection, _ = setting.take()
    monitor = edge.get_monitor_socket()
    edge.disable_monitor()
    monitor.close(0)
    edge.close(0)
    setting.edges.clear()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.fstat(connection.descriptor)
        except OSError:
            break
        time.sleep(0.005)
    else:
        raise AssertionError("the connection was not closed")
    assert len(setting.connections) == 1, "it was not looked"
    assert setting.connections.overfull() == []
    setting.connections.cut(connection)


@linux
def test_what_was_read_is_counted_to_the_byte(setting):
    edge = setting.edge()
    for sizes in ([0], [222], [223], [100, 70_000], [5], [300_000]):
        edge.send_multipart([bytes(size) for size in sizes])
        connection, _ = setting.take()
    for _ in range(100):
        edge.send_multipart([b"x" * 10, bytes(60_000)])
        setting.take()
    assert setting.connections.overfull() == []
    before = connection.read
    assert 6_300_000 < before < 6_500_000


@linux
def test_a_message_that_grows_and_grows_is_noticed_before_it_fills_the_memory(setting):
    edge, other = setting.edge(), setting.edge()
    # A sender of this library keeps the parts back until the last one.
    edge.send_multipart([bytes(1 << 20)] * 8)
    (connection,) = overfull(setting, 5.0)
    setting.connections.cut(connection)
    assert edge.get_monitor_socket().poll(5000), "its peer is disconnected"
    other.send_multipart([b"hello"])
    # The large message may have come whole before its connection was cut.
    taken = after_drops(setting, [b"hello"])
    assert not taken.cut


@linux
def test_unread_messages_count_like_one_that_never_ends(setting):
    edge = setting.edge()
    for _ in range(80):
        edge.send_multipart([bytes(100_000)])
    assert len(overfull(setting, 5.0)) == 1
    for _ in range(80):
        setting.take()
    assert setting.connections.overfull() == []


def test_of_a_message_of_a_million_parts_the_first_are_read_and_the_next_message_comes(setting):
    edge = setting.edge()
    for _ in range(30_000):
        edge.send(b"x", zmq.SNDMORE)
    edge.send(b"end")
    edge.send_multipart([b"next"])
    _, parts = setting.take()
    assert parts == [b"x"] * MOST_PARTS
    after_drops(setting, [b"next"])


def test_a_cut_connection_is_forgotten_and_cut_once(setting):
    edge = setting.edge()
    edge.send_multipart([b"one"])
    connection, _ = setting.take()
    setting.connections.cut(connection)
    setting.connections.cut(connection)
    assert edge.get_monitor_socket().poll(5000)
    end = time.monotonic() + 5
    while connection in list(setting.connections):
        setting.connections.look()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_descriptor_that_belongs_to_another_by_now_is_left_alone(setting):
    edge = setting.edge()
    edge.send_multipart([b"one"])
    connection, _ = setting.take()
    connection.address = ("192.0.2.1", 9)
    setting.connections.cut(connection)
    edge.send_multipart([b"two"])
    assert setting.take()[1] == [b"two"]


def test_a_connection_whose_event_was_lost_is_known_by_its_first_message(setting):
    edge = setting.edge()
    setting.connections.look()
    setting.connections._open.clear()
    edge.send_multipart([b"one"])
    connection, _ = setting.take()
    assert list(setting.connections) == [connection]
    assert setting.connections.overfull() == []
    setting.connections.cut(connection)
    assert edge.get_monitor_socket().poll(5000)


@linux
def test_what_a_peer_does_not_take_is_bounded_and_taking_it_makes_room(setting):
    edge = setting.edge(WireSettings(receive_queue_messages=2))
    edge.send(b"hello")
    connection, _ = setting.take()
    message = [bytes(100_000)]
    given, still = 0, time.monotonic()
    # Until nothing more has been taken for a while.
    while time.monotonic() - still < 0.5:
        if setting.connections.takes(connection.route, message):
            setting.socket.send_multipart([connection.route, *message])
            given, still = given + 1, time.monotonic()
        else:
            time.sleep(0.01)
    # Beside the bound the systems of both ends hold some, which counts as taken.
    assert BOUND < given * 100_000 < BOUND + (16 << 20)
    assert not setting.connections.takes(connection.route, message)
    assert setting.connections.at(connection.route) is connection
    for _ in range(given):
        assert edge.poll(5000)
        edge.recv()
    assert setting.connections.takes(connection.route, message)


@linux
def test_an_honest_peer_is_never_short_of_room_however_much_it_takes(setting):
    edge = setting.edge()
    edge.send(b"hello")
    connection, _ = setting.take()
    for size in (10, 300, 70_000):
        for _ in range(100):
            assert setting.connections.takes(connection.route, [b"head", bytes(size)])
            setting.socket.send_multipart([connection.route, b"head", bytes(size)])
            assert edge.poll(5000)
            edge.recv_multipart()
    assert connection.sent > BOUND
    edge.send_multipart([b"more", bytes(1000)])
    setting.take()
    # Counted are the bytes on the wire, so nothing adds up over time: what differs is the handshake.
    assert 0 <= _received(connection.descriptor) - connection.read < 2000


def test_a_connection_that_has_ended_is_forgotten(setting):
    edge = setting.edge()
    edge.send(b"hello")
    connection, _ = setting.take()
    setting.connections.cut(connection)
    end = time.monotonic() + 5
    while setting.connections.at(connection.route) is not None and time.monotonic() < end:
        setting.connections.look()
        time.sleep(0.02)
    assert setting.connections.at(connection.route) is None
    assert setting.connections.takes(connection.route, [b"late"])


def test_where_the_system_does_not_count_bytes_that_is_said_and_nobody_is_cut(setting, monkeypatch, caplog):
    edge = setting.edge()
    edge.send_multipart([b"one", bytes(1000)])
    setting.take()
    monkeypatch.setattr(sys, "platform", "darwin")
    with setting.context.socket(zmq.ROUTER) as other:
        Connections(other, 1, 1).close()
    assert "unread_bytes and unsent_bytes bound nothing here" in caplog.text
    edge.send_multipart([b"two", bytes(1000)])
    connection, parts = setting.take()
    assert parts[0] == b"two"
    assert connection is not None
    assert setting.connections.overfull() == []
