"""The fog measures what its links carry by what edges confirm, and believes no absurd report."""

import pytest

from common.planning.links import SHARED_CHANNEL
from common.wire.messages import Report
from fog_node.downlinks import Downlinks
from fog_node.measured import measured_link, measured_node, uniform_rates


def test_a_backlog_tells_the_rate_with_the_overhead_of_its_messages():
    links = Downlinks(overhead_bytes=500)
    links.sent("a", 100, 0.0)
    links.confirmed("a", 50, 200_000, 50, 1.0)
    links.sent("a", 100, 1.0)
    links.confirmed("a", 100, 400_000, 0, 3.0)
    assert links.rate("a") == pytest.approx((600_000 + 150 * 500) / 3.0, rel=0.01)
    assert links.rate("b") is None


def test_packets_that_come_one_by_one_tell_nothing_about_the_link():
    links = Downlinks(500)
    for second in range(100):
        links.sent("a", 1, float(second))
        links.confirmed("a", 1, 4_000, 0, second + 0.01)
    assert links.rate("a") is None


def test_large_content_that_holds_up_its_record_counts_too():
    links = Downlinks(0)
    links.sent("a", 1, 0.0)
    for second in range(1, 11):
        links.fetched("a", 100_000, float(second))
    links.confirmed("a", 1, 0, 0, 10.0)
    assert links.rate("a") == pytest.approx(100_000)
    links.fetched("a", 100_000, 1000.0)
    assert links.rate("a") == pytest.approx(100_000), (
        "nothing was on its way: when it was asked for is unknown"
    )


def test_the_silence_after_a_session_has_ended_does_not_count():
    links = Downlinks(0)
    links.sent("a", 10, 0.0)
    links.confirmed("a", 5, 100_000, 5, 1.0)
    links.gone("a")
    links.sent("a", 5, 1000.0)
    links.confirmed("a", 5, 100_000, 0, 1001.0)
    assert links.rate("a") == pytest.approx(100_000)
    links.forget("a")
    assert links.rate("a") is None


def test_the_fogs_own_measure_is_preferred_and_absurd_figures_are_none():
    report = Report(uplink_bytes_per_second=5e-324, downlink_bytes_per_second=100.0, latency_seconds=1e9)
    link = measured_link(report, None, shared=False)
    assert (link.up, link.down, link.latency_s) == (None, 100.0, 600.0)
    assert measured_link(report, 300.0, shared=True).down == 300.0
    assert measured_link(report, 300.0, shared=True).medium == SHARED_CHANNEL
    assert measured_link(None, None, shared=False) is None


def test_a_rounds_seconds_contain_its_decoding_and_a_rate_does_not():
    by_rate = Report(decode_frames_per_second=100.0, training_seconds=60.0, training_frames_per_second=20.0)
    node = measured_node(by_rate)
    assert (node.decode_frames_per_s, node.training_s, node.training_frames_per_s) == (100.0, None, 20.0)
    whole = measured_node(Report(decode_frames_per_second=100.0, training_seconds=60.0))
    assert (whole.decode_frames_per_s, whole.training_s) == (None, 60.0)
    assert measured_node(Report()) is None
    assert measured_node(None) is None


def test_edges_without_a_report_are_taken_to_be_as_the_slowest():
    slow = Report(decode_frames_per_second=100.0, training_frames_per_second=5.0)
    quick = Report(decode_frames_per_second=300.0, training_frames_per_second=50.0)
    assert uniform_rates([slow, quick]) == (200.0, None, 5.0)
    rounds = [Report(training_seconds=3.0), Report(training_seconds=9.0, decode_frames_per_second=1.0)]
    assert uniform_rates(rounds) == (None, 9.0, None)
    assert uniform_rates([]) == (None, None, None)
