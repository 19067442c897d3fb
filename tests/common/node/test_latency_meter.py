"""Latency of a link: half of the shortest recent round trip of a heartbeat."""

import pytest

from common.node.latency_meter import ROUND_TRIPS, LatencyMeter


def test_there_is_none_before_an_answer():
    meter = LatencyMeter()
    meter.asked(0.0)
    assert meter.seconds() is None
    meter.answered(0.3)
    assert meter.seconds() == pytest.approx(0.15)


def test_the_shortest_recent_round_trip_counts():
    meter = LatencyMeter()
    for start, duration in ((0, 0.2), (10, 5.0), (20, 0.4)):
        meter.asked(start)
        meter.answered(start + duration)
    assert meter.seconds() == pytest.approx(0.1)
    for start in range(100, 100 + ROUND_TRIPS):
        meter.asked(start)
        meter.answered(start + 0.5)
    assert meter.seconds() == pytest.approx(0.25)


def test_a_question_asked_before_the_last_was_answered_is_not_timed():
    meter = LatencyMeter()
    meter.asked(0.0)
    meter.asked(1.0)
    meter.answered(2.0)
    meter.answered(2.1)
    assert meter.seconds() == pytest.approx(1.0)
    meter.asked(3.0)
    meter.answered(3.2)
    assert meter.seconds() == pytest.approx(0.1)


def test_an_answer_of_an_earlier_connection_does_not_count():
    meter = LatencyMeter()
    meter.asked(0.0)
    meter.reset()
    meter.asked(10.0)
    meter.answered(10.2)
    assert meter.seconds() == pytest.approx(0.1)
