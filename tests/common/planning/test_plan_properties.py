"""What holds for every deployment: monotony, units, one answer for one meaning."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cost_model import (
    Deployment,
    DeviceLoad,
    Energy,
    Link,
    NodeEnergy,
    NodeRates,
    Rates,
    Strategy,
    plan,
)
from common.errors import ConfigError
from common.planning.audience import with_audience

rate = st.floats(1e3, 1e8)
links = st.builds(
    Link,
    uplink_bytes_per_s=rate,
    downlink_bytes_per_s=rate,
    latency_s=st.floats(0, 2),
    goodput=st.floats(0.05, 1),
    medium=st.sampled_from(["", "", "barn", "field"]),
)
nodes = st.builds(NodeRates, decode_frames_per_s=st.floats(1, 1e4), training_frames_per_s=st.floats(0.1, 1e3))
loads = st.builds(
    DeviceLoad,
    jpeg_bytes=st.integers(1, 10**9).map(float),
    receivers=st.integers(0, 30),
    frames=st.integers(1, 10_000),
    count=st.integers(1, 4),
    link=st.none() | links,
    node=st.none() | nodes,
    learns=st.just(True) | st.booleans(),
    own_returned=st.booleans(),
    originals_bytes=st.just(0.0) | st.floats(1, 1e7),
)
RATES = Rates(2e6, 2e6, encode_s_per_frame=0.1, edge_training_s=20.0, fog_training_s=5.0)
NODE = NodeEnergy(1e-6, 5e-7, 30.0, 5.0, 40.0)
deployments = st.builds(
    Deployment,
    devices=st.lists(loads, min_size=1, max_size=5).map(tuple),
    alpha=st.floats(0, 2),
    detector_bytes=st.just(0.0) | st.floats(1, 1e8),
    rounds=st.integers(0, 5),
    rates=st.just(RATES),
    changed_share=st.floats(0, 1),
    trained_share=st.floats(0.1, 1),
    fog_link=st.none() | links,
    upload_overhead_bytes=st.floats(0, 1e4),
    packet_overhead_bytes=st.floats(0, 1e4),
    energy=st.just(Energy(NODE, NODE)),
)
CLOSE = 1 + 1e-9


def seconds(deployment):
    return [cost.seconds for cost in plan(deployment).strategies]


def changed(deployment, function):
    return replace(deployment, devices=tuple(function(d) for d in deployment.devices))


@settings(max_examples=50, deadline=None)
@given(
    deployments, st.integers(0, 4), st.floats(1, 100), st.sampled_from(["up", "down", "goodput", "latency"])
)
def test_a_better_link_is_never_slower(deployment, index, factor, what):
    def better(link):
        match what:
            case "up":
                return replace(link, uplink_bytes_per_s=link.uplink_bytes_per_s * factor)
            case "down":
                return replace(link, downlink_bytes_per_s=link.downlink_bytes_per_s * factor)
            case "goodput":
                return replace(link, goodput=min(1.0, link.goodput * factor))
            case _:
                return replace(link, latency_s=link.latency_s / factor)

    devices = list(deployment.devices)
    index %= len(devices)
    link = devices[index].link or RATES.link
    before = replace(
        deployment,
        devices=(*devices[:index], replace(devices[index], link=link), *devices[index + 1 :]),
    )
    after = replace(
        deployment,
        devices=(*devices[:index], replace(devices[index], link=better(link)), *devices[index + 1 :]),
    )
    for slow, quick in zip(seconds(before), seconds(after), strict=True):
        assert quick <= slow * CLOSE


@settings(max_examples=30, deadline=None)
@given(deployments, st.floats(1, 50))
def test_a_quicker_encoder_or_trainer_is_never_slower(deployment, factor):
    quick = replace(
        RATES,
        encode_s_per_frame=RATES.encode_s_per_frame / factor,
        edge_training_s=RATES.edge_training_s / factor,
        fog_training_s=RATES.fog_training_s / factor,
    )
    for before, after in zip(seconds(deployment), seconds(replace(deployment, rates=quick)), strict=True):
        assert after <= before * CLOSE


@settings(max_examples=50, deadline=None)
@given(deployments, st.integers(2, 9))
def test_bytes_are_linear_in_the_frames_and_seconds_grow(deployment, factor):
    more = changed(
        deployment,
        lambda d: replace(d, frames=d.frames * factor, jpeg_bytes=d.jpeg_bytes * factor),
    )
    fetched = sum(d.originals_bytes * d.count for d in deployment.devices if d.learns)
    one, many = plan(deployment), plan(more)
    for strategy, fixed in ((Strategy.SERVERLESS, 0.0), (Strategy.EDGE, fetched)):
        grows = one.cost(strategy).bytes - fixed
        assert many.cost(strategy).bytes == pytest.approx(factor * grows + fixed)
    up = [p.cost(Strategy.FOG).uplink_bytes for p in (one, many)]
    assert up[1] == pytest.approx(factor * up[0])
    assert one.cost(Strategy.FOG).downlink_bytes == many.cost(Strategy.FOG).downlink_bytes
    for before, after in zip(one.strategies, many.strategies, strict=True):
        assert after.seconds >= before.seconds / CLOSE


@settings(max_examples=50, deadline=None)
@given(deployments)
def test_bytes_and_seconds_in_other_units_give_the_same_choice(deployment):
    """Told in units of 1,000 bytes it costs a thousandth of the bytes, the same seconds and joules."""

    def link(value):
        return value if value is None else value.scaled(1e-3)

    devices = tuple(
        replace(d, jpeg_bytes=d.jpeg_bytes / 1e3, originals_bytes=d.originals_bytes / 1e3, link=link(d.link))
        for d in deployment.devices
    )
    energy = NodeEnergy(1e-3, 5e-4, 30.0, 5.0, 40.0)
    other = replace(
        deployment,
        devices=devices,
        detector_bytes=deployment.detector_bytes / 1e3,
        fog_link=link(deployment.fog_link),
        upload_overhead_bytes=deployment.upload_overhead_bytes / 1e3,
        packet_overhead_bytes=deployment.packet_overhead_bytes / 1e3,
        rates=replace(RATES, uplink_bytes_per_s=2e3, downlink_bytes_per_s=2e3),
        energy=Energy(energy, energy),
    )
    for a, b in zip(plan(deployment).strategies, plan(other).strategies, strict=True):
        assert b.bytes == pytest.approx(a.bytes / 1e3)
        assert b.seconds == pytest.approx(a.seconds)
        assert b.joules == pytest.approx(a.joules)


@settings(max_examples=50, deadline=None)
@given(deployments)
def test_a_group_is_as_many_devices(deployment):
    apart = tuple(replace(d, count=1) for d in deployment.devices for _ in range(d.count))
    one, other = plan(deployment), plan(replace(deployment, devices=apart))
    for a, b in zip(one.strategies, other.strategies, strict=True):
        assert (b.bytes, b.seconds, b.joules) == pytest.approx((a.bytes, a.seconds, a.joules))
    assert other.choice is one.choice or other.figure(one.choice) == pytest.approx(other.figure(other.choice))


@settings(max_examples=50, deadline=None)
@given(deployments)
def test_an_answer_is_json_and_its_seconds_lie_between_the_longest_stage_and_the_sum(deployment):
    answer = plan(deployment)
    json.dumps(answer.to_json(), allow_nan=False)
    for cost in answer.strategies:
        stages = [s for _, s in cost.stages]
        flow = [s.seconds for s in cost.timing.flow]
        after = sum(s.seconds for s in cost.timing.after)
        assert max(flow) + after <= cost.seconds * CLOSE
        assert cost.seconds <= (sum(stages) + cost.timing.latency_s) * CLOSE


def test_the_device_that_binds_is_named():
    devices = with_audience(
        [
            DeviceLoad(1e6, 0, 10, 1e5, name="barn"),
            DeviceLoad(1e6, 0, 10, 1e5, name="gate", link=Link(1e4, 1e6)),
            DeviceLoad(0, 0, 0, 0, name="tablet", link=Link(1e6, 1e3)),
        ],
        {"tablet": ["barn", "gate"]},
    )
    rates = replace(RATES, encode_s_per_frame=0.001, edge_training_s=1.0)
    answer = plan(Deployment(devices, None, 1e5, rates=rates))
    assert answer.cost(Strategy.EDGE).binds == "the downlink of tablet"
    assert answer.cost(Strategy.FOG).binds in ("the uplink of gate", "the downlink of weights of tablet")
    assert answer.cost(Strategy.SERVERLESS).binds == "their downlink of tablet"
    quick = replace(devices[2], link=Link(1e6, 1e6))
    answer = plan(Deployment((*devices[:2], quick), None, 1e5, rates=rates))
    assert answer.cost(Strategy.EDGE).binds == "the uplink of gate"
    slow = replace(rates, encode_s_per_frame=100.0)
    assert (
        plan(Deployment((*devices[:2], quick), None, 1e5, rates=slow)).cost(Strategy.EDGE).binds == "encoding"
    )
    trained = replace(quick, node=NodeRates(training_s=1e6))
    answer = plan(Deployment((*devices[:2], trained), None, 1e5, rates=rates))
    assert answer.cost(Strategy.EDGE).binds == "training at the edges of tablet"


def test_members_of_a_medium_take_turns_and_others_do_not():
    link = Link(1e6, 1e6)
    shared = replace(link, medium="barn radio")
    rates = Rates(encode_s_per_frame=0.0, edge_training_s=0.0, fog_training_s=0.0)
    load = DeviceLoad(5e6, 3, 10)
    inside = (replace(load, link=shared),) * 2
    outside = (replace(load, link=link),) * 2
    answer = plan(Deployment(inside + outside, 0.5, 1e6, rates=rates))
    edge = answer.cost(Strategy.EDGE)
    # Two members send 5 MB and receive 7.5 MB each.
    assert dict(edge.stages)["the shared medium barn radio"] == pytest.approx(25)
    assert edge.binds == "the shared medium barn radio"
    assert dict(answer.cost(Strategy.FOG).stages)["the downlink of weights"] == pytest.approx(2)
    # Serverless: they send 30 MB; of the 30 MB that they receive, half comes from outside.
    assert dict(answer.cost(Strategy.SERVERLESS).stages)["the shared medium barn radio"] == pytest.approx(45)


def test_the_fogs_own_link_carries_everything():
    rates = Rates(1e6, 1e6, encode_s_per_frame=0.0, edge_training_s=0.0, fog_training_s=0.0)
    question = Deployment((DeviceLoad(1e6, 3, 10),) * 100, 0.1, 1e6, rates=rates)
    narrow = replace(question, fog_link=Link(1e7, 2e6))
    assert plan(narrow).cost(Strategy.EDGE).binds == "the fog's downlink"
    assert dict(plan(narrow).cost(Strategy.EDGE).stages)["the fog's uplink"] == pytest.approx(10)
    assert dict(plan(narrow).cost(Strategy.FOG).stages)["the downlink of weights"] == pytest.approx(50)
    assert plan(narrow).cost(Strategy.SERVERLESS).seconds == plan(question).cost(Strategy.SERVERLESS).seconds


def test_a_detector_travels_whole_once_and_then_its_changed_tensors():
    question = Deployment((DeviceLoad(0, 0),) * 4, 0.1, 1000, rounds=5, changed_share=0.25)
    assert plan(question).cost(Strategy.FOG).bytes == 4 * 1000 * (1 + 4 * 0.25)
    assert plan(replace(question, rounds=0)).cost(Strategy.FOG).bytes == 0


def test_overheads_count_with_every_message():
    question = Deployment(
        (DeviceLoad(1000, 3, 10, packet_bytes=100),),
        None,
        0,
        upload_overhead_bytes=2,
        packet_overhead_bytes=5,
    )
    answer = plan(question)
    assert answer.cost(Strategy.SERVERLESS).bytes == 3 * 1020
    assert answer.cost(Strategy.EDGE).bytes == 1020 + 3 * 150


def test_losses_and_latency_lengthen_what_they_touch():
    load = DeviceLoad(1e6, 2, 10)
    rates = Rates(1e6, 1e6, encode_s_per_frame=0.0, edge_training_s=0.0, fog_training_s=0.0)
    whole = plan(Deployment((load,) * 3, 0.1, 0, rates=rates)).cost(Strategy.SERVERLESS).seconds
    lossy = replace(rates, goodput=0.5, latency_s=0.25)
    answer = plan(Deployment((load,) * 3, 0.1, 0, rates=lossy)).cost(Strategy.SERVERLESS)
    assert answer.seconds == pytest.approx(2 * whole + 2 * 0.25)


def test_joules_of_two_devices_written_out():
    energy = Energy(
        NodeEnergy(2.0, 1.0, decode_w=3.0, training_w=10.0), NodeEnergy(0.5, 0.25, 100.0, 0.0, 50.0)
    )
    rates = Rates(encode_s_per_frame=2.0, decode_frames_per_s=10.0, edge_training_s=4.0, fog_training_s=1.0)
    load = DeviceLoad(100, 1, 10)
    answer = plan(Deployment((load, load), 0.1, 30, rates=rates, energy=energy, decide_by="joules"))
    assert answer.cost(Strategy.SERVERLESS).device_joules == 200 * 2 + 200 * 1 + 2 * 4 * 10
    edge = answer.cost(Strategy.EDGE)
    assert edge.device_joules == pytest.approx(200 * 2 + 20 * 1 + 2 * (10 / 10) * 3 + 2 * 4 * 10)
    assert edge.fog_joules == pytest.approx(20 * 0.5 + 200 * 0.25 + 20 * 2 * 100)
    fog = answer.cost(Strategy.FOG)
    assert fog.joules == pytest.approx(200 * 2 + 60 * 1 + 60 * 0.5 + 200 * 0.25 + 20 * 2 * 100 + 1 * 50)
    assert answer.decided_by == "joules"
    assert answer.choice is Strategy.SERVERLESS
    assert "J against" in answer.sentence


def test_only_the_joules_that_are_unknown_stop_a_choice_by_joules():
    question = Deployment(
        (DeviceLoad(100, 1, 10),), 0.1, 30, energy=Energy(NodeEnergy(1.0, 1.0)), decide_by="joules"
    )
    assert plan(question).choice is Strategy.EDGE
    with pytest.raises(
        ConfigError, match=r"joules needs measured rates, which are missing for .*training at the edges"
    ):
        plan(replace(question, energy=Energy(NodeEnergy(training_w=1.0))))
    with pytest.raises(ConfigError, match="needs the energy of the nodes"):
        replace(question, energy=None)


def test_a_device_without_a_link_is_named():
    devices = (DeviceLoad(1e6, 1, 10, name="a", link=Link(1e6, 1e6)), DeviceLoad(1e6, 1, 10, name="lost"))
    rates = Rates(encode_s_per_frame=0.0, edge_training_s=0.0, fog_training_s=0.0)
    with pytest.raises(ConfigError, match=r"missing for .*the uplink of lost"):
        plan(Deployment(devices, 0.1, 1, rates=rates, decide_by="seconds"))
    assert plan(Deployment(devices, 0.1, 1, rates=rates)).decided_by == "bytes"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Link(-1.0), "a link needs uplink_bytes_per_s above 0"),
        (lambda: Link(goodput=0.0), "goodput above 0 and at most 1"),
        (lambda: Link(goodput=1.5), "goodput above 0 and at most 1"),
        (lambda: Link(latency_s=float("nan")), "latency_s between 0"),
        (lambda: NodeRates(training_s=1.0, training_frames_per_s=2.0), "give one of them"),
        (lambda: Rates(edge_training_s=1.0, edge_training_frames_per_s=2.0), "give one of them"),
        (lambda: NodeEnergy(encode_w=-1.0), "encode_w between 0"),
        (lambda: DeviceLoad(1, 1, count=0), "count of at least 1"),
        (lambda: Deployment((DeviceLoad(1, 1),), 0.1, 1, changed_share=2.0), "changed_share between 0 and 1"),
        (lambda: Deployment((DeviceLoad(1, 1),), 0.1, 1, decide_by="money"), "bytes, seconds or joules"),
    ],
)
def test_a_wrong_figure_is_one_sentence(make, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_ten_thousand_devices_in_groups_plan_in_a_moment():
    kinds = tuple(
        DeviceLoad(75e5, 9999, 100, count=100, link=Link(1e6 + kind, 2e6 + kind), name=f"kind {kind}")
        for kind in range(100)
    )
    question = Deployment(kinds, 0.08, 6e6, rates=RATES)

    def once():
        start = time.perf_counter()
        assert plan(question).decided_by == "seconds"
        return time.perf_counter() - start

    assert min(once() for _ in range(5)) < 0.05


def test_seconds_on_lossy_links_with_latency_written_out():
    link = Link(4e6, 1e6, latency_s=0.5, goodput=0.5)
    load = DeviceLoad(1e6, 1, 10, link=link, own_returned=True)
    rates = Rates(encode_s_per_frame=0.05, edge_training_s=3.0, fog_training_s=2.0, encode_batch_frames=4)
    answer = plan(Deployment((load, load), 0.5, 1e6, rounds=2, rates=rates))
    # 0.5 s up, 1 s of encoding, and 1 MB of packets down, one's own among them: 2 s for 20 frames.
    edge = answer.cost(Strategy.EDGE)
    assert dict(edge.stages) == pytest.approx(
        {"the uplink": 0.5, "encoding": 1.0, "the downlink": 2.0, "decoding": 0, "training at the edges": 6.0}
    )
    assert edge.seconds == pytest.approx(0.05 + 4 * 0.05 + 2.0 + 2 * 0.5 + 2 * 3.0)
    # Then two rounds of training, and of 1 MB of weights at 0.5 MB/s.
    fog = answer.cost(Strategy.FOG)
    assert fog.seconds == pytest.approx(0.05 + 1.0 + 2 * 2.0 + 2 * 2.0 + (1 + 2) * 0.5)
    # What the other one has recorded, as JPEG.
    assert answer.cost(Strategy.SERVERLESS).seconds == pytest.approx(1e6 / 0.5e6 + 2 * 0.5 + 2 * 3.0)
    without = plan(Deployment((replace(load, own_returned=False),) * 2, 0.5, 1e6, rounds=2, rates=rates))
    assert dict(without.cost(Strategy.EDGE).stages)["the downlink"] == pytest.approx(1.0)


def test_one_packet_of_those_that_come_down_is_waited_for_at_the_end():
    rates = Rates(1e6, 1e6, encode_s_per_frame=1.0, edge_training_s=0.0, fog_training_s=0.0)
    load = DeviceLoad(1e6, 1, 10, packet_bytes=1e6, own_returned=True)
    answer = plan(Deployment((load, load), None, 0, rates=rates))
    assert answer.cost(Strategy.EDGE).seconds == pytest.approx(0.1 + 20 + 0.1)
