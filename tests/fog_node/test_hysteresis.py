"""Where to train does not follow noise, and does follow what has really changed."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cost_model import Strategy
from common.planning.links import SHARED_CHANNEL
from common.wire.messages import Report
from fog_node.hysteresis import Hysteresis
from fog_node.planning import Planner, Tally
from fog_node.settings import FogTrainingSettings, PlannerSettings

EDGE, FOG = Strategy.EDGE, Strategy.FOG


def changes(choices):
    return [i for i in range(1, len(choices)) if choices[i] is not choices[i - 1]]


def test_the_first_answer_counts_at_once():
    assert Hysteresis(0.1, 3).decide({EDGE: 2.0, FOG: 1.0}) is FOG


def test_a_better_one_must_be_better_by_the_margin_and_as_often_as_asked():
    rule = Hysteresis(0.1, 3)
    rule.decide({EDGE: 1.0, FOG: 2.0})
    assert [rule.decide({EDGE: 1.0, FOG: 0.95}) for _ in range(10)] == [EDGE] * 10
    assert [rule.decide({EDGE: 1.0, FOG: 0.89}) for _ in range(3)] == [EDGE, EDGE, FOG]


def test_one_evaluation_in_between_begins_the_count_anew():
    rule = Hysteresis(0.1, 3)
    rule.decide({EDGE: 1.0, FOG: 2.0})
    figures = [0.5, 0.5, 1.0, 0.5, 0.5, 0.5]
    assert [rule.decide({EDGE: 1.0, FOG: fog}) for fog in figures] == [EDGE] * 5 + [FOG]


def test_equal_costs_and_costs_of_nothing_change_nothing():
    rule = Hysteresis(0.0, 1)
    rule.decide({EDGE: 1.0, FOG: 2.0})
    assert rule.decide({EDGE: 0.0, FOG: 0.0}) is EDGE
    assert rule.decide({FOG: 1.0, EDGE: 1.0}) is EDGE


costs = st.fixed_dictionaries({EDGE: st.floats(0, 1e6), FOG: st.floats(0, 1e6)})


@settings(deadline=None)
@given(st.lists(costs, min_size=1, max_size=80), st.floats(0, 0.9), st.integers(1, 6))
def test_two_changes_are_never_closer_than_the_evaluations_asked_for(figures, margin, evaluations):
    rule = Hysteresis(margin, evaluations)
    places = [0, *changes([rule.decide(each) for each in figures])]
    assert all(later - earlier >= evaluations for earlier, later in pairwise(places))


@settings(deadline=None)
@given(st.floats(1, 100), st.floats(0.01, 0.8), st.integers(1, 4), st.integers(0, 2**32))
def test_noise_within_the_margin_never_leaves_the_cheapest(fog, margin, evaluations, seed):
    noise = (1 / (1 - margin)) ** 0.5 * 0.999
    rule = Hysteresis(margin, evaluations, kept=EDGE)
    source = random.Random(seed)
    for _ in range(100):
        figures = {EDGE: noise ** source.uniform(-1, 1), FOG: fog * noise ** source.uniform(-1, 1)}
        assert rule.decide(figures) is EDGE


@settings(deadline=None)
@given(st.floats(0.01, 0.8), st.floats(0.01, 0.5), st.integers(1, 5), st.integers(0, 2**32))
def test_what_is_cheaper_beyond_margin_and_noise_is_taken_at_once_when_due(margin, spread, evaluations, seed):
    source = random.Random(seed)
    rule = Hysteresis(margin, evaluations, kept=EDGE)
    cheap = (1 - margin) * (1 - spread) * 0.99
    choices = [
        rule.decide({EDGE: 1.0, FOG: cheap * (1 + spread * source.uniform(-1, 1))})
        for _ in range(evaluations)
    ]
    assert choices == [EDGE] * (evaluations - 1) + [FOG]


# The same with the whole planner and noisy reports


def fog_planner(**more):
    state = Planner(PlannerSettings(min_frames=1, detector_bytes=3_000_000, **more), FogTrainingSettings())
    state.tallies = {key: Tally(500, 37_500_000, 3_000_000) for key in "abc"}
    state.subscribers = dict.fromkeys("abc")
    state.encode_s_per_frame, state.fog_training_s = 0.001, 60.0
    return state


def report(rate, training):
    return Report(
        uplink_bytes_per_second=rate,
        downlink_bytes_per_second=rate,
        training_frames_per_second=training,
        decode_frames_per_second=1000.0,
        latency_seconds=0.01,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_rates_that_waver_by_a_tenth_move_the_training_at_most_once(seed):
    source = random.Random(seed)
    state = fog_planner(switch_margin=0.2, switch_plans=3)
    # At these means both places take about as long.
    choices = []
    for _ in range(60):
        state.reports = {
            key: report(2e6 * source.uniform(0.95, 1.05), 24.0 * source.uniform(0.95, 1.05)) for key in "abc"
        }
        state.update()
        assert state.newest.decided_by == "seconds"
        choices.append(state.strategy)
    edge, fog = (state.newest.cost(s).seconds for s in (EDGE, FOG))
    assert edge == pytest.approx(fog, rel=0.15), "otherwise this test tells nothing"
    assert len(changes(choices)) == 0


def test_a_link_that_has_really_changed_moves_the_training_after_three_plans():
    state = fog_planner()
    state.reports = {key: report(2e6, 1000.0) for key in "abc"}
    state.update()
    assert state.strategy is EDGE
    before = state.message()
    state.reports = {key: report(2e6, 2.0) for key in "abc"}
    told = []
    for _ in range(3):
        told.append((state.update(), state.sentence()))
    assert [moved for moved, _ in told] == [False, False, True]
    assert "training stays at the edge for now" in told[0][1]
    assert "3 plans in a row, which it was in 2" in told[1][1]
    assert state.message() != before
    assert not state.message().train


def test_newer_figures_of_the_same_answer_are_no_news_to_edges():
    state = fog_planner()
    state.update()
    first = state.message()
    state.tallies["a"].frames += 100
    state.tallies["a"].jpeg_bytes += 7_500_000
    assert not state.update()
    assert state.message() is first
    assert state.status()["sentence"] != first.sentence


def test_the_status_tells_the_plan_its_sentence_and_what_would_change_it():
    state = fog_planner()
    state.reports = {key: report(2e6, 1000.0) for key in "abc"}
    state.update()
    status = state.status()
    assert status["training"] == "edge"
    assert status["sentence"] == state.sentence()
    assert status["would_change_it"]
    assert status["strategies"][1]["binds"]


def test_every_edge_keeps_its_own_link_and_the_slowest_is_named():
    state = fog_planner()
    state.reports = {"a": report(2e6, 100.0), "b": report(2e6, 100.0), "c": report(1e3, 100.0)}
    state.downlinks = {"a": 5e6, "b": None}
    state.names = {"c": "gate"}
    devices = {d.name[:1]: d for d in state.deployment().devices}
    assert devices["a"].link.down == 5e6
    assert devices["b"].link.down == 2e6
    assert devices["g"].link.up == 1e3
    state.update()
    assert state.newest.cost(FOG).binds == "the uplink of gate (c)"


def test_on_a_shared_medium_every_edge_is_a_member():
    state = fog_planner(shared_medium=True)
    state.reports = {"a": report(2e6, 100.0)}
    links = [d.link for d in state.deployment().devices]
    assert [None if link is None else link.medium for link in links] == [SHARED_CHANNEL, None, None]
    assert state.deployment().rates.link.medium == SHARED_CHANNEL


def test_an_edge_that_gets_its_own_packets_back_costs_their_downlink():
    state = fog_planner()
    everything = state.deployment()
    assert all(d.own_returned for d in everything.devices)
    state.subscribers = {"a": frozenset("bc"), "b": frozenset("ac"), "c": frozenset("ab")}
    assert not any(d.own_returned for d in state.deployment().devices)


def test_two_rivals_that_take_turns_count_each_for_itself():
    rule = Hysteresis(0.1, 2, kept=EDGE)
    third = Strategy.SERVERLESS
    figures = [{EDGE: 1.0, FOG: a, third: b} for a, b in [(0.5, 0.6), (0.6, 0.5)] * 4]
    assert [rule.decide(each) for each in figures] == [EDGE] * 8
    assert rule.decide({EDGE: 1.0, FOG: 0.6, third: 0.5}) is third
