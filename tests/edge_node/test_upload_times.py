"""How long acknowledgements take: of the newest uploads, each from its sending to the fog's word."""

import pytest

from edge_node.upload_times import UploadTimes


def test_median_and_95th_percentile_are_of_the_seconds_from_sending_to_acknowledgement():
    times = UploadTimes()
    assert times.status() == {"count": 0, "median_s": None, "p95_s": None}
    for number in range(101):
        times.sent(number, 10.0)
    times.accepted([0], 10.0)
    assert times.status() == {"count": 1, "median_s": 0.0, "p95_s": 0.0}
    for number in range(1, 101):
        times.accepted([number], 10.0 + number)
    status = times.status()
    assert (status["count"], status["median_s"]) == (101, 50.0)
    assert status["p95_s"] == pytest.approx(95.0)


def test_old_uploads_are_forgotten():
    times = UploadTimes(newest=10)
    for number in range(30):
        times.sent(number, 0.0)
        times.accepted([number], 100.0 if number < 20 else 1.0)
    assert times.status() == {"count": 10, "median_s": 1.0, "p95_s": 1.0}


def test_a_frame_that_was_refused_or_cut_off_counts_from_when_it_is_sent_again():
    times = UploadTimes()
    times.sent(1, 0.0)
    times.forget(1)
    times.sent(2, 0.0)
    times.closed()
    times.accepted([1, 2, 3], 50.0)
    assert times.status()["count"] == 0, "none of them was under way"
    times.sent(1, 60.0)
    times.sent(2, 60.0)
    times.accepted([1, 2], 61.0)
    assert times.status() == {"count": 2, "median_s": 1.0, "p95_s": 1.0}
