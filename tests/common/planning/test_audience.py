"""Who wants whose frames becomes receivers and inbound bytes of each device."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cost_model import Deployment, DeviceLoad, Inbound, Link, Rates, Strategy, plan
from common.errors import ConfigError
from common.planning.audience import with_audience


def device(name, jpeg=100.0, packets=10.0, frames=5, **more):
    return DeviceLoad(jpeg, 0, frames, packets, name=name, **more)


def by_name(devices):
    return {d.name: d for d in devices}


def test_a_camera_a_learner_and_a_device_that_does_both():
    devices = by_name(
        with_audience(
            [
                device("camera"),
                device("tablet", jpeg=0.0, packets=0.0, frames=0),
                device("robot", jpeg=300.0),
            ],
            {"tablet": ["camera", "robot"], "robot": ["camera"]},
        )
    )
    assert devices["camera"].receivers == 2
    assert not devices["camera"].learns
    assert devices["robot"].receivers == 1
    assert devices["tablet"].inbound.jpeg_bytes == 400
    assert devices["tablet"].inbound.packet_bytes == 20
    assert devices["tablet"].inbound.frames == 10
    assert devices["robot"].inbound.jpeg_bytes == 100
    assert not devices["robot"].own_returned


def test_whoever_wants_all_gets_its_own_packets_back_too():
    first, second = with_audience([device("a"), device("b", jpeg=50.0)], {"a": None, "b": None})
    assert (first.receivers, first.inbound.jpeg_bytes, first.own_returned) == (1, 50, True)
    assert (second.receivers, second.inbound.jpeg_bytes) == (1, 100)


def test_members_of_a_group_want_each_others_frames_and_their_own_back():
    (group,) = with_audience([device("cameras", count=4)], {"cameras": None})
    assert group.receivers == 3
    assert group.inbound.jpeg_bytes == 300
    assert group.inbound.frames == 15
    assert group.own_returned


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_is_sent_is_what_is_received(data):
    names = [f"d{i}" for i in range(data.draw(st.integers(1, 6)))]
    sizes = st.integers(0, 10**6).map(float)
    devices = [
        device(n, data.draw(sizes), data.draw(sizes), count=data.draw(st.integers(1, 3))) for n in names
    ]
    wanting = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    wants = {name: data.draw(st.none() | st.lists(st.sampled_from(names), unique=True)) for name in wanting}
    done = with_audience(devices, wants, unheard=True)
    sent = math.fsum(d.jpeg_bytes * d.receivers * d.count for d in done)
    received = math.fsum(d.inbound.jpeg_bytes * d.count for d in done)
    assert received == pytest.approx(sent)
    packets = math.fsum(d.inbound.packet_bytes * d.count for d in done)
    own = math.fsum(d.packet_bytes * d.count for d in done if d.own_returned)
    answer = plan(Deployment(done, None, 1e6))
    assert answer.cost(Strategy.EDGE).downlink_bytes == pytest.approx(packets + own)
    assert answer.cost(Strategy.SERVERLESS).bytes == pytest.approx(sent)


@pytest.mark.parametrize(
    ("devices", "wants", "sentence"),
    [
        ([device("a")], {"b": None}, "whose frames device 'b' wants, but there is no such device"),
        ([device("a")], {"a": ["c"]}, "device 'a' is told to want frames of 'c'"),
        ([device("a"), device("a")], {"a": None}, "a name of its own"),
        ([DeviceLoad(1, 1, 1)], {}, "a name of its own"),
        ([device("a"), device("b")], {"a": ["b"]}, "nobody wants the frames of device 'a'"),
        ([DeviceLoad(1, 1, 1, name="a")], {"a": None}, "device 'a' has no measured packet bytes"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_device(devices, wants, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        with_audience(devices, wants)
    assert "\n" not in str(caught.value)


def test_inbound_of_some_devices_only_or_of_other_bytes_is_refused():
    known = with_audience([device("a"), device("b", jpeg=200.0)], {"a": None, "b": None})
    with pytest.raises(ConfigError, match="of all devices or of none"):
        Deployment((known[0], device("c")), None, 1)
    with pytest.raises(ConfigError, match="their receivers are sent"):
        Deployment((known[0],), None, 1)


def test_a_slow_device_that_only_receives_counts_in_time_though_it_does_not_learn():
    link = Link(1e6, 1e6)
    camera = DeviceLoad(1e6, 2, 10, name="camera", link=link, inbound=Inbound(0.0), learns=False)
    learner = DeviceLoad(0.0, 0, name="learner", link=link, inbound=Inbound(1e6, 1e5, 10))
    screen = replace(learner, name="screen", link=Link(1e6, 1e3), learns=False)
    rates = Rates(encode_s_per_frame=0.0, edge_training_s=0.0, fog_training_s=0.0)
    answer = plan(Deployment((camera, learner, screen), alpha=0.1, detector_bytes=1e3, rates=rates))
    edge = answer.cost(Strategy.EDGE)
    assert edge.seconds == pytest.approx(100.1, abs=0.2)
    assert edge.binds == "the downlink of screen"
    assert answer.cost(Strategy.SERVERLESS).seconds == pytest.approx(1000, rel=0.01)


def test_a_device_that_wants_nothing_receives_nothing():
    camera, learner = with_audience([device("camera"), device("learner")], {"learner": None}, unheard=True)
    assert camera.inbound == Inbound(0.0, 0.0, 0.0)
    assert learner.inbound == Inbound(100.0, 10.0, 5)


def test_without_inbound_what_is_wanted_goes_to_those_that_learn_only():
    slow = DeviceLoad(1e6, 1, 10, name="slow camera", link=Link(1e6, 1e3), learns=False)
    learner = DeviceLoad(0.0, 0, name="learner", link=Link(1e6, 1e6))
    rates = Rates(encode_s_per_frame=0.0, edge_training_s=0.0, fog_training_s=0.0)
    answer = plan(Deployment((slow, learner), alpha=0.1, detector_bytes=1e3, rates=rates))
    assert answer.cost(Strategy.EDGE).seconds == pytest.approx(1.01, abs=0.02)
