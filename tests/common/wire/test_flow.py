"""Heartbeats, back-off and credit windows: decisions without clocks or sockets."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire.backoff import Backoff
from common.wire.credits import ReceiveWindow, SendWindow
from common.wire.heartbeat import Heartbeat


class TestHeartbeat:
    def test_a_ping_is_due_after_an_interval_of_own_silence(self):
        beat = Heartbeat(100.0, interval=1.0, patience=5.0)
        assert not beat.ping_due(100.9)
        assert beat.ping_due(101.0)
        beat.sent(101.0)
        assert not beat.ping_due(101.9)

    def test_a_silent_peer_is_lost_when_patience_ends(self):
        beat = Heartbeat(100.0, interval=1.0, patience=5.0)
        assert not beat.lost(104.9)
        assert beat.lost(105.0)

    def test_any_word_of_the_peer_counts(self):
        beat = Heartbeat(100.0, interval=1.0, patience=5.0)
        beat.heard(104.0)
        assert not beat.lost(108.9)
        assert beat.lost(109.0)

    def test_sending_does_not_keep_a_silent_peer_alive(self):
        beat = Heartbeat(0.0)
        for now in range(1, 6):
            beat.sent(float(now))
        assert beat.lost(5.0)

    def test_waiting_ends_when_an_answer_can_change(self):
        beat = Heartbeat(100.0, interval=1.0, patience=5.0)
        assert beat.wait(100.25) == 0.75
        beat.sent(104.5)
        assert beat.wait(104.5) == 0.5
        assert beat.wait(200.0) == 0.0


class TestBackoff:
    def test_waits_double_up_to_the_last_and_stay_there(self):
        class Longest(random.Random):
            def uniform(self, a, b):
                return b

        backoff = Backoff(1.0, 32.0, Longest())
        waits = [backoff.failed(0.0) for _ in range(1_100)]
        assert waits[:7] == [1, 2, 4, 8, 16, 32, 32]
        assert waits[-1] == 32

    def test_full_jitter_spreads_from_nothing_to_the_longest(self):
        source = random.Random(1)
        waits = []
        for _ in range(500):
            backoff = Backoff(1.0, 32.0, source)
            for _ in range(4):
                wait = backoff.failed(0.0)
            waits.append(wait)
        assert min(waits) < 0.5
        assert 7.5 < max(waits) <= 8.0
        assert 3.5 < sum(waits) / len(waits) < 4.5

    def test_it_is_ready_when_the_wait_is_over(self):
        backoff = Backoff(1.0, 32.0, random.Random(2))
        assert backoff.ready(0.0)
        wait = backoff.failed(10.0)
        assert not backoff.ready(10.0)
        assert backoff.wait(10.0) == pytest.approx(wait)
        assert backoff.ready(10.0 + wait)

    def test_a_success_starts_over(self):
        backoff = Backoff(1.0, 32.0, random.Random(3))
        for _ in range(9):
            backoff.failed(0.0)
        backoff.succeeded()
        assert backoff.ready(0.0)
        assert backoff.failed(0.0) <= 1.0


class TestSendWindow:
    def test_nothing_is_sent_before_the_first_pull(self):
        assert SendWindow(5).room() == (0, 0)

    def test_what_is_in_flight_takes_room_until_it_is_confirmed(self):
        window = SendWindow(5)
        window.pulled(5, 3, 100)
        assert window.room() == (3, 100)
        window.sent(6, 40)
        window.sent(9, 50)
        assert window.room() == (1, 10)
        assert window.through == 9
        window.pulled(6, 3, 100)
        assert window.room() == (2, 50)
        window.pulled(9, 3, 100)
        assert (window.room(), window.held, window.records_in_flight) == ((3, 100), 9, 0)

    def test_a_record_above_the_window_goes_alone(self):
        window = SendWindow()
        window.pulled(0, 10, 100)
        window.sent(1, 500)
        assert window.room() == (0, 0)
        window.pulled(1, 10, 0)
        assert window.room() == (10, 1)

    def test_a_repeated_or_late_pull_does_no_harm(self):
        window = SendWindow()
        window.pulled(0, 10, 100)
        for position in (1, 2, 3):
            window.sent(position, 10)
        window.pulled(2, 10, 100)
        window.pulled(2, 10, 100)
        window.pulled(1, 10, 100)
        assert (window.held, window.room()) == (2, (9, 90))

    def test_what_a_filter_left_out_is_passed(self):
        window = SendWindow()
        window.pulled(0, 10, 100)
        window.passed(50)
        assert window.through == 50
        window.pulled(50, 10, 100)
        assert window.held == 50

    def test_a_smaller_window_is_kept_to(self):
        window = SendWindow()
        window.pulled(0, 10, 100)
        window.sent(1, 10)
        window.pulled(0, 0, 0)
        assert window.room() == (0, 0)


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    records=st.integers(1, 8),
    payload_bytes=st.integers(1, 400),
    data=st.data(),
)
def test_every_record_arrives_once_within_the_window(sizes, records, payload_bytes, data):
    """Fog and edge against each other, the edge applying any number of what is in flight at a time."""
    send, receive = SendWindow(), ReceiveWindow(records, payload_bytes)
    flight, applied = [], []
    while len(applied) < len(sizes):
        if receive.due():
            send.pulled(len(applied), receive.records, receive.payload_bytes)
            receive.pulled()
        while send.through < len(sizes) and send.room()[0]:
            flight.append((send.through + 1, sizes[send.through]))
            send.sent(*flight[-1])
        assert 0 < len(flight) <= records
        but_the_last = sum(sizes[send.held : send.through - 1])
        assert but_the_last < payload_bytes or send.through - send.held == 1
        for _ in range(data.draw(st.integers(1, len(flight)))):
            position, size = flight.pop(0)
            applied.append(position)
            receive.applied(size)
    assert applied == list(range(1, len(sizes) + 1))
