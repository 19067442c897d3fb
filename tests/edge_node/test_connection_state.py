"""When the edge connects, says hello and gives a session up; the measured rate; without a socket."""

import random

import pytest

from common.node.rate_meter import RateMeter
from common.wire.settings import WireSettings
from edge_node.connection import Connection, Phase, Step


@pytest.fixture
def connection():
    settings = WireSettings(
        heartbeat_seconds=1.0,
        liveness=5,
        handshake_seconds=10.0,
        backoff_first_seconds=1.0,
        backoff_last_seconds=32.0,
    )
    return Connection(settings, random.Random(1))


def open_session(connection, now=0.0, heartbeat=1.0):
    assert connection.tick(now) == [Step.OPEN]
    assert connection.tick(now) == [Step.HELLO]
    connection.greeted(now)
    connection.welcomed(heartbeat, now)


def test_hello_is_tried_until_the_socket_takes_it(connection):
    assert connection.tick(0.0) == [Step.OPEN]
    assert connection.tick(1.0) == [Step.HELLO]
    assert connection.tick(2.0) == [Step.HELLO]
    connection.greeted(2.0)
    assert connection.tick(3.0) == []
    connection.welcomed(1.0, 3.0)
    assert connection.phase is Phase.OPEN


def test_a_fog_that_does_not_answer_is_left_and_tried_again(connection):
    connection.tick(0.0)
    connection.greeted(1.0)
    assert connection.tick(10.9) == []
    assert connection.tick(11.0) == [Step.CLOSE]
    assert Step.OPEN in [*connection.tick(11.0), *connection.tick(12.0)]


def test_waits_between_attempts_grow_and_are_bounded(connection):
    now, longest = 0.0, 0.0
    for _ in range(40):
        while connection.tick(now) != [Step.OPEN]:
            now += 0.1
        assert connection.failed(now) == [Step.CLOSE]
        began = now
        while connection.phase is Phase.CLOSED and connection.tick(now) == []:
            now += 0.1
        connection.failed(now)
        longest = max(longest, now - began)
    assert 8 < longest < 33


def test_silence_is_broken_by_a_ping_and_ends_the_session_when_it_lasts(connection):
    open_session(connection)
    assert connection.tick(0.9) == []
    assert connection.tick(1.0) == [Step.PING]
    connection.sent(1.0)
    assert connection.tick(1.5) == []
    connection.heard(3.0)
    connection.sent(7.9)
    assert connection.tick(7.9) == []
    assert connection.tick(8.0) == [Step.CLOSE]


@pytest.mark.parametrize(("own", "fog"), [(10.0, 1.0), (1.0, 10.0)])
def test_nodes_of_different_heartbeats_ping_at_the_quicker_and_wait_for_the_slower(own, fog):
    connection = Connection(WireSettings(heartbeat_seconds=own, liveness=5))
    open_session(connection, heartbeat=fog)
    assert connection.tick(0.9) == []
    assert connection.tick(1.0) == [Step.PING]
    connection.sent(49.5)
    assert connection.tick(49.9) == []
    connection.sent(50.0)
    assert connection.tick(50.0) == [Step.CLOSE]


def test_a_lost_session_is_opened_again_on_the_same_connection(connection):
    open_session(connection)
    connection.session_lost(5.0)
    assert connection.tick(5.0) == [Step.HELLO]


def test_a_stopped_connection_stays_closed(connection):
    open_session(connection)
    assert connection.stop() == [Step.CLOSE]
    assert connection.tick(1000.0) == []


def test_pauses_between_transfers_do_not_count():
    meter = RateMeter()
    meter.begin(0.0)
    meter.add(1000, 2.0)
    meter.end()
    meter.add(1000, 100.0)
    assert meter.bytes_per_second() == 500
    meter.begin(100.0)
    meter.add(1000, 100.25)
    assert meter.bytes_per_second() == pytest.approx(2000 / 2.25, rel=0.01)
    assert meter.total_bytes == 3000


def test_a_changed_link_is_believed_after_a_few_half_lives():
    meter = RateMeter(half_life_s=10.0)
    meter.begin(0.0)
    for second in range(1, 201):
        meter.add(1_000_000 if second <= 100 else 1000, float(second))
    assert meter.bytes_per_second() == pytest.approx(1000, rel=1.1)


def test_what_takes_as_long_as_its_answer_says_nothing_about_the_link():
    meter = RateMeter(least_bytes=10_000)
    for start in range(10):
        meter.begin(float(start))
        meter.add(100, start + 0.02)
        meter.end()
    assert meter.bytes_per_second() is None
    meter.begin(20.0)
    meter.add(20_000, 20.02)
    assert meter.bytes_per_second() == pytest.approx(1_000_000)


def test_no_rate_before_any_traffic():
    assert RateMeter().bytes_per_second() is None
