"""Closed-form crossings against brute force: the model asked again on both sides of each."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cost_model import Deployment, DeviceLoad, Link, NodeRates, Rates, Strategy, plan
from common.planning.crossings import crossing_points

positive = st.floats(0.01, 100)
lines = st.lists(st.tuples(st.floats(0, 10), st.floats(-10, 10)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(lines, lines)
def test_two_convex_functions_change_places_exactly_at_the_points(first, second):
    points = crossing_points(first, second)

    def difference(x):
        return max(a * x + b for a, b in first) - max(a * x + b for a, b in second)

    edges = [0.0, *(x for x, _ in points), (points[-1][0] if points else 1.0) * 3 + 1]
    for i in range(len(edges) - 1):
        low, high = edges[i], edges[i + 1]
        signs = {
            value > 0
            for value in (difference(low + (high - low) * k / 40) for k in range(1, 40))
            if abs(value) > 1e-6 * (1 + abs(high))
        }
        assert len(signs) <= 1
        if i < len(points) and signs:
            assert signs == {not points[i][1]}


def deployment(
    encode=0.5, training=20.0, fog=5.0, weights=6e6, rate=2e6, frames=200, by_frames=False, n=3, alpha=0.1
):
    training_s, per_s = (None, 50.0) if by_frames else (training, None)
    rates = Rates(
        rate,
        rate,
        encode_s_per_frame=encode,
        decode_frames_per_s=100.0,
        edge_training_s=training_s,
        edge_training_frames_per_s=per_s,
        fog_training_s=fog,
        latency_s=0.05,
    )
    load = DeviceLoad(75e3 * frames, n, frames)
    node = NodeRates(50.0, None, 30.0) if by_frames else NodeRates(50.0, 1.5 * training)
    slow = replace(load, link=Link(rate / 3, rate / 2, 0.2), node=node)
    return Deployment((load,) * (n - 1) + (replace(load, count=1), slow), alpha, weights, rates=rates)


def with_rate(question, factor):
    rates = question.rates
    scaled = replace(
        rates,
        uplink_bytes_per_s=rates.uplink_bytes_per_s * factor,
        downlink_bytes_per_s=rates.downlink_bytes_per_s * factor,
    )
    devices = tuple(d if d.link is None else replace(d, link=d.link.scaled(factor)) for d in question.devices)
    return replace(question, rates=scaled, devices=devices)


def with_frames(question, factor):
    devices = tuple(
        replace(d, frames=d.frames * factor, jpeg_bytes=d.jpeg_bytes * factor) for d in question.devices
    )
    return replace(question, devices=devices)


SCALED = {"rate": with_rate, "frames": with_frames}


def quicker(question, one, other):
    answer = plan(question)
    return one if answer.cost(one).seconds < answer.cost(other).seconds else other


@settings(max_examples=60, deadline=None)
@given(
    encode=st.floats(0.001, 2),
    training=st.floats(0, 100),
    fog=st.floats(0, 100),
    weights=st.floats(1e4, 1e8),
    by_frames=st.booleans(),
    n=st.integers(1, 6),
    alpha=st.floats(0.02, 0.6),
)
def test_the_model_asked_on_both_sides_of_a_crossing_agrees(**values):
    question = deployment(**values)
    crossings = plan(question).crossings.seconds
    for one, other in pairwise(crossings):
        same = one.over == other.over and {one.below, one.above} == {other.below, other.above}
        assert not same or one.factor < other.factor
    for crossing in crossings:
        if not (0.05 if crossing.over == "frames" else 1e-3) < crossing.factor < 1e3:
            continue  # below one frame there is nothing to divide
        pair = (crossing.below, crossing.above)
        scale = SCALED[crossing.over]
        below = plan(scale(question, crossing.factor * (1 - 1e-5)))
        above = plan(scale(question, crossing.factor * (1 + 1e-5)))
        at = plan(scale(question, crossing.factor))
        seconds = [at.cost(s).seconds for s in pair]
        assert seconds[0] == pytest.approx(seconds[1], rel=1e-6)
        for answer, winner, loser in ((below, *pair), (above, *reversed(pair))):
            assert answer.cost(winner).seconds <= answer.cost(loser).seconds * (1 + 1e-12)


@settings(max_examples=25, deadline=None)
@given(
    encode=st.floats(0.001, 2),
    fog=st.floats(0, 100),
    over=st.sampled_from(["rate", "frames"]),
    factors=st.lists(st.floats(0.05, 100), min_size=6, max_size=6),
)
def test_no_crossing_is_missed(encode, fog, over, factors):
    question = deployment(encode=encode, fog=fog)
    crossings = plan(question).crossings.seconds
    for one, other in (
        (Strategy.SERVERLESS, Strategy.EDGE),
        (Strategy.EDGE, Strategy.FOG),
        (Strategy.SERVERLESS, Strategy.FOG),
    ):
        places = sorted(c.factor for c in crossings if c.over == over and {c.below, c.above} == {one, other})
        found = [(f, quicker(SCALED[over](question, f), one, other)) for f in sorted(factors)]
        for (low, before), (high, after) in pairwise(found):
            between = sum(low < place < high for place in places)
            if all(abs(f / place - 1) > 1e-6 for f in (low, high) for place in places):
                assert (before is after) == (between % 2 == 0)


def test_with_an_even_star_the_rate_where_the_encoder_takes_over_is_b_n_over_c():
    # S = b f n / r against E = c K f once the encoder binds: r = b n / (c K), up to one frame.
    b, n, k, c, f = 75e3, 9, 10, 0.05, 10_000
    rates = Rates(1e6, 1e6, encode_s_per_frame=c, edge_training_s=0.0, fog_training_s=0.0)
    answer = plan(Deployment((DeviceLoad(b * f, n, f),) * k, 0.08, 98.8e6, rates=rates))
    (crossing,) = [
        x
        for x in answer.crossings.seconds
        if x.over == "rate" and {x.below, x.above} == {Strategy.SERVERLESS, Strategy.EDGE}
    ]
    assert crossing.factor * 1e6 == pytest.approx(b * n / (c * k), rel=1e-3)
    assert crossing.above is Strategy.SERVERLESS


def test_the_nearest_crossings_are_told_in_words():
    answer = plan(deployment(encode=0.05, rate=2e5))
    assert answer.changes
    for sentence in answer.changes:
        assert "\n" not in sentence
        assert any(strategy.words in sentence for strategy in Strategy)
        assert answer.choice.words not in sentence


def test_by_bytes_it_is_told_with_how_many_frames_detectors_win():
    load = DeviceLoad(75e6, 9, 1000)
    answer = plan(Deployment((load,) * 10, 0.083, 98.8e6))
    assert any("with more than 17,635 frames (10,000 now)" in sentence for sentence in answer.changes)


@pytest.mark.parametrize("returned", [False, True])
def test_receivers_and_devices_above_which_packets_pay_with_and_without_own_frames(returned):
    def saves(receivers, alpha=0.4):
        load = DeviceLoad(1e6, receivers, 10, own_returned=returned)
        answer = plan(Deployment((load,) * 3, alpha, 1e9))
        return answer.crossings, answer.saving > 1

    crossings, _ = saves(3)
    assert crossings.receivers == pytest.approx((1.4 if returned else 1) / 0.6)
    assert crossings.devices == crossings.receivers + 1
    assert not saves(crossings.receivers * 0.999)[1]
    assert saves(crossings.receivers * 1.001)[1]
    assert saves(3, crossings.alpha * 0.999)[1]
    assert not saves(3, crossings.alpha * 1.001)[1]


def test_validation_originals_move_the_crossings_of_bytes():
    loads = (DeviceLoad(1e6, 4, 10, originals_bytes=2e5),) * 3
    crossings = plan(Deployment(loads, 0.4, 1e6)).crossings
    assert crossings.receivers == pytest.approx(1.2 / 0.6)

    def at(alpha=0.4, receivers=4.0, frames=1.0):
        load = DeviceLoad(1e6 * frames, receivers, 10, originals_bytes=2e5)
        return [c.bytes for c in plan(Deployment((load,) * 3, alpha, 1e6)).strategies]

    assert at(receivers=crossings.receivers)[0] == pytest.approx(at(receivers=crossings.receivers)[1])
    assert at(alpha=crossings.alpha)[0] == pytest.approx(at(alpha=crossings.alpha)[1])
    frames = crossings.fog_over_serverless_frames / 30
    assert at(frames=frames)[0] == pytest.approx(at(frames=frames)[2])
    assert at()[1] - at()[2] == pytest.approx(3 * 1e6 * 4 * 0.4 - 3e6)
