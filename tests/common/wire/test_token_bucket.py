"""A rate with a burst, told the time."""

import pytest

from common.node.log_limit import LogLimit
from common.wire.token_bucket import TokenBucket


def test_without_a_rate_everything_passes():
    bucket = TokenBucket(None, 0)
    bucket.take(1e12, 0.0)
    assert bucket.ready(0.0)


def test_the_burst_passes_at_once_and_then_the_rate():
    bucket = TokenBucket(10, 5)
    passed = []
    for step in range(2001):
        now = step / 100
        while bucket.ready(now) and len(passed) < 10_000:
            bucket.take(1, now)
            passed.append(now)
    assert sum(at == 0 for at in passed) == 6
    assert len(passed) == pytest.approx(5 + 10 * 20, abs=2)


def test_a_piece_larger_than_the_burst_passes_and_is_paid_for_afterwards():
    bucket = TokenBucket(100, 50)
    assert bucket.ready(0.0)
    bucket.take(1050, 0.0)
    assert bucket.wait(0.0) == pytest.approx(10.0)
    assert not bucket.ready(9.9)
    assert bucket.ready(10.001)


def test_a_rest_fills_no_more_than_the_burst():
    bucket = TokenBucket(10, 5)
    bucket.take(5, 0.0)
    bucket.take(6, 1000.0)
    assert bucket.wait(1000.0) == pytest.approx(0.1)


def test_a_clock_that_steps_back_gives_nothing_away():
    bucket = TokenBucket(10, 0)
    bucket.take(10, 100.0)
    assert bucket.wait(50.0) == pytest.approx(1.0)
    assert bucket.wait(100.5) == pytest.approx(0.5)


class TestLogLimit:
    def test_the_first_lines_of_a_kind_are_written_and_the_rest_counted(self):
        limit = LogLimit(lines=2, seconds=10)
        assert [limit.admit("a", 0.0) for _ in range(4)] == ["", "", None, None]
        assert limit.admit("b", 0.0) == ""
        assert limit.admit("a", 10.0) == " (2 more like this were not written)"
        assert limit.admit("a", 10.1) == ""

    def test_the_kinds_remembered_are_bounded(self):
        limit = LogLimit(lines=1)
        for number in range(5_000):
            limit.admit(str(number), 0.0)
        assert len(limit._kinds) <= 1_000
