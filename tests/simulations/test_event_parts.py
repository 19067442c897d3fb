"""The parts of the event simulator: capacity over time, links, shared media, arrivals, distributions."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ConfigError
from common.node.training_rounds import RoundRules
from simulations.events.arrivals import arrival_times
from simulations.events.capacity import Capacity, capacities, read_trace
from simulations.events.channel import Medium, OwnLane, SharedLane
from simulations.events.engine import Engine
from simulations.events.figures import Histogram
from simulations.events.learner import Learner
from simulations.events.link_settings import ChangeSettings, LinkSettings, Outage, Step
from simulations.events.scenario import ArrivalSettings

LINK = LinkSettings(uplink_bytes_per_s=1000, downlink_bytes_per_s=500)

steps = st.lists(
    st.tuples(st.floats(0.1, 10), st.sampled_from([0.0, 0.25, 1.0, 3.0])), min_size=1, max_size=6
).map(lambda gaps: [(sum(g for g, _ in gaps[: i + 1]), share) for i, (_, share) in enumerate(gaps)])


def events_of(engine):
    seen = []
    return seen, lambda now, value: seen.append((now, value))


def test_events_run_in_order_of_time_and_then_of_their_making():
    engine = Engine()
    seen, note = events_of(engine)
    for time, value in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b"), (math.inf, "never"), (9.0, "late")):
        engine.at(time, note, value)
    engine.run(5.0)
    assert [value for _, value in seen] == ["a", "b", "c", "d"]
    assert engine.events == 4


def test_ticks_end_when_nothing_else_is_to_happen():
    engine = Engine()
    seen, note = events_of(engine)
    engine.every(1.0, note)
    engine.every(1.5, note)
    engine.at(3.2, note, "work")
    engine.run(1e9)
    assert max(now for now, _ in seen) <= 6.0
    assert [now for now, value in seen if value == "work"] == [3.2]


@settings(max_examples=60, deadline=None)
@given(steps, st.floats(0, 80), st.booleans())
def test_a_capacity_and_its_inverse_agree(changes, time, repeats):
    capacity = Capacity(changes, changes[-1][0] + 1.0 if repeats else None)
    carried = capacity.carried(time)
    when = capacity.when(carried)
    assert capacity.carried(when) == pytest.approx(carried, abs=1e-6)
    # The earliest such time, but for rounding at the end of a span without bandwidth.
    assert capacity.carried(max(0.0, when - 1e-3)) <= carried + 1e-9
    later = capacity.when(carried + 0.5)
    assert later == math.inf or capacity.carried(later) == pytest.approx(carried + 0.5, abs=1e-6)


def test_a_daily_window_carries_only_inside_it():
    daily = Capacity([(0, 0), (100, 1), (110, 0)], 1000)
    assert daily.carried(50) == 0
    assert daily.carried(105) == pytest.approx(5)
    assert daily.carried(2105) == pytest.approx(25)
    assert daily.when(12) == pytest.approx(1102)
    assert daily.share(3105) == 1
    assert daily.share(3115) == 0


def test_outages_cut_a_link_and_can_repeat():
    changes = ChangeSettings(outages=(Outage(from_s=2, to_s=4),), repeat_s=10)
    up, down = capacities(changes, LINK, Path(), "the link of group 'x'")
    assert up.carried(5) == pytest.approx(3)
    assert down.carried(13) == pytest.approx(10)
    assert up.when(8.5) == pytest.approx(10.5)


def test_a_link_that_never_opens_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match="the link of group 'x' never carries anything"):
        capacities(ChangeSettings(steps=(Step(at_s=0, share=0),)), LINK, Path(), "the link of group 'x'")


def test_a_trace_in_bytes_a_second_is_read_for_each_direction(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("seconds,uplink_bytes_per_s,downlink_bytes_per_s\n0,500,500\n10,2000,0\n")
    up, down = read_trace(path, LINK, "it")
    assert up == [(0, 0.5), (10, 2.0)]
    assert down == [(0, 1.0), (10, 0.0)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seconds,share\n0,-1\n", "line 2 has '-1' as share"),
        ("seconds,share\n0,x\n", "line 2 has 'x' as share"),
        ("seconds,share\n5,1\n5,1\n", "line 3 is not later"),
        ("seconds,rate\n5,1\n", "needs rows and the columns seconds,share"),
        ("", "needs rows and the columns seconds,share"),
    ],
)
def test_a_bad_trace_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_trace(path, LINK, "the link of group 'x'")


@settings(max_examples=40, deadline=None)
@given(steps, st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 3)), min_size=1, max_size=20))
def test_a_link_of_ones_own_serves_first_come_first_served(changes, messages):
    capacity = Capacity([*changes, (changes[-1][0] + 1, 1.0)])
    lane = OwnLane(Engine(), capacity)
    free = 0.0
    for now, demand in sorted(messages):
        end = lane.end(now, demand)
        free = capacity.when(capacity.carried(max(now, free)) + demand)
        assert end == pytest.approx(free, abs=1e-6)


def shared_ends(arrivals, capacity=None):
    """Ends of messages of members on one medium: (member, now, demand)."""
    engine = Engine()
    medium = Medium(engine, capacity or Capacity())
    lanes = {}
    ends = {}
    for number, (member, now, demand) in enumerate(arrivals):
        lane = lanes.setdefault(member, SharedLane(engine, medium))

        def send(now, _, lane=lane, demand=demand, number=number):
            lane.send(now, demand, 0.0, lambda end, value: ends.__setitem__(value, end), number)

        engine.at(now, send)
    engine.run(1e9)
    return ends


def brute_force_ends(arrivals, step=1e-3):
    """Processor sharing in small steps of time."""
    left = {number: demand for number, (_, _, demand) in enumerate(arrivals)}
    ends = {}
    time = 0.0
    while left:
        first = {}
        for number in sorted(left):
            member, now, _ = arrivals[number]
            if now <= time:
                first.setdefault(member, number)
        for number in first.values():
            left[number] -= step / len(first)
            if left[number] <= 0:
                ends[number] = time + step
                del left[number]
        time += step
    return ends


def test_members_of_a_medium_share_it_evenly():
    ends = shared_ends([(0, 0.0, 1.0), (1, 0.0, 1.0), (2, 0.0, 2.0)])
    assert ends[0] == pytest.approx(3.0)
    assert ends[1] == pytest.approx(3.0)
    assert ends[2] == pytest.approx(4.0)


def test_a_member_with_many_messages_takes_no_more_than_its_turn():
    ends = shared_ends([*[(0, 0.0, 0.1)] * 10, (1, 0.0, 1.0)])
    assert ends[10] == pytest.approx(2.0)
    assert ends[9] == pytest.approx(2.0)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.floats(0.05, 0.6)), min_size=1, max_size=7).map(
        lambda found: sorted(found, key=lambda item: item[1])
    )
)
def test_a_medium_agrees_with_sharing_in_small_steps(arrivals):
    expected = brute_force_ends(arrivals)
    for number, end in shared_ends(arrivals).items():
        assert end == pytest.approx(expected[number], abs=0.03)


def test_an_outage_of_a_medium_delays_everyone_by_its_length():
    quiet = Capacity([(1.0, 0.0), (6.0, 1.0)])
    ends = shared_ends([(0, 0.0, 1.0), (1, 0.0, 1.0)], quiet)
    assert ends[0] == ends[1] == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("arrivals", "count", "within"),
    [
        (ArrivalSettings(kind="periodic", interval_s=2), 500, 1),
        (ArrivalSettings(kind="poisson", interval_s=2), 500, 110),
        (ArrivalSettings(kind="bursts", interval_s=20, burst_frames=10), 500, 250),
        (ArrivalSettings(kind="periodic", interval_s=0, frames=7), 7, 0),
        (ArrivalSettings(kind="poisson", interval_s=2, frames=20), 20, 0),
    ],
)
def test_arrivals_come_as_often_as_told_and_in_order(arrivals, count, within):
    times = list(arrival_times(arrivals, 1000, np.random.default_rng(3)))
    assert abs(len(times) - count) <= within
    assert times == sorted(times)
    assert all(0 <= time < 1000 for time in times)


def test_periodic_devices_start_together_when_told():
    arrivals = ArrivalSettings(kind="periodic", interval_s=2, start="together", frames=3)
    assert list(arrival_times(arrivals, 100, np.random.default_rng(1))) == [0, 2, 4]


def test_a_histogram_knows_its_quantiles_to_a_hundredth():
    values = np.random.default_rng(5).lognormal(0, 2, 70_000)
    histogram = Histogram()
    for value in values.tolist():
        histogram.add(value)
    assert histogram.count == len(values)
    assert histogram.mean == pytest.approx(values.mean())
    assert histogram.largest == values.max()
    for share, found in zip((0.1, 0.5, 0.99), histogram.quantiles((0.1, 0.5, 0.99)), strict=True):
        assert found == pytest.approx(np.quantile(values, share), rel=0.011)


def test_a_histogram_of_nothing_says_so():
    assert Histogram().quantiles((0.5,)) == [None]
    assert Histogram().mean is None


def trained_at(frames, rules, round_s=5.0, allowed_from=0.0):
    engine = Engine()
    ends = []
    learner = Learner(
        engine, rules, start_s=1.0, round_s=lambda _: round_s, on_trained=lambda now, _: ends.append(now)
    )
    engine.at(allowed_from, lambda now, _: learner.allow(True, now))
    for time in frames:
        learner.frame(time)
    engine.run(1e6)
    return ends


def test_a_round_begins_with_the_frame_that_makes_it_due():
    assert trained_at([float(i) for i in range(10)], RoundRules(4, 100)) == [3 + 1 + 5]


def test_later_rounds_wait_for_new_frames():
    frames = [0.0] * 4 + [20.0, 21.0, 22.0, 30.0]
    assert trained_at(frames, RoundRules(4, 3)) == [6.0, 27.0]


def test_frames_that_come_during_a_round_count_for_the_next():
    assert trained_at([0.0] * 4 + [2.0] * 3, RoundRules(4, 3)) == [6.0, 11.0]


def test_rounds_wait_for_the_plan_and_end_at_their_bound():
    frames = [0.0] * 10 + [14.0] * 10 + [30.0] * 10
    assert trained_at(frames, RoundRules(4, 3, 2), allowed_from=7.0) == [13.0, 19.0]
