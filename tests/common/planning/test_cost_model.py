"""The communication model against sums written out, against the papers' figures and against itself."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cost_model import (
    Deployment,
    DeviceLoad,
    Plan,
    Rates,
    Strategy,
    implied_alpha,
    plan,
)
from common.errors import ConfigError

ALL_RATES = Rates(
    uplink_bytes_per_s=2e6,
    downlink_bytes_per_s=2e6,
    encode_s_per_frame=0.5,
    decode_frames_per_s=100.0,
    edge_training_s=20.0,
    fog_training_s=5.0,
)

sizes = st.integers(0, 10**9).map(float)
loads = st.lists(
    st.builds(DeviceLoad, jpeg_bytes=sizes, receivers=st.integers(0, 30), frames=st.integers(0, 10_000)),
    min_size=1,
    max_size=12,
).map(tuple)
deployments = st.builds(
    Deployment,
    devices=loads,
    alpha=st.floats(0, 2),
    detector_bytes=sizes,
    rounds=st.integers(0, 5),
    detector_receivers=st.none() | st.integers(0, 30),
)


def uniform(receivers: float, alpha: float, frames: int = 1000, **more: object) -> Plan:
    load = DeviceLoad(60e3 * frames / 10, receivers, frames // 10)
    return plan(Deployment((load,) * 10, alpha, 98.8e6, **more))  # type: ignore[arg-type]


def test_bytes_of_two_unequal_devices() -> None:
    answer = plan(Deployment((DeviceLoad(100, 2), DeviceLoad(300, 0)), 0.25, 1000, rounds=3))
    assert answer.cost(Strategy.SERVERLESS).bytes == 200
    edge = answer.cost(Strategy.EDGE)
    assert (edge.uplink_bytes, edge.downlink_bytes, edge.bytes) == (400, 50, 450)
    assert answer.cost(Strategy.FOG).bytes == 400 + 1000 * 3 * 2
    assert answer.choice is Strategy.SERVERLESS
    assert answer.training is Strategy.EDGE


@given(deployments)
def test_bytes_match_brute_force_over_every_copy_sent(deployment: Deployment) -> None:
    serverless = uplink = packets = 0.0
    for device in deployment.devices:
        uplink += device.jpeg_bytes
        for _ in range(int(device.receivers)):
            serverless += device.jpeg_bytes
            packets += device.jpeg_bytes * (deployment.alpha or 0)
    receivers = deployment.detector_receivers
    weights = 0.0
    for _ in range(deployment.rounds):
        for _ in range(len(deployment.devices) if receivers is None else receivers):
            weights += deployment.detector_bytes
    answer = plan(deployment)
    got = [c.bytes for c in answer.strategies]
    assert got == pytest.approx([serverless, uplink + packets, uplink + weights])
    assert answer.cost(answer.choice).bytes == min(got)
    assert answer.cost(answer.training).bytes == min(got[1:])


@given(deployments)
def test_every_answer_is_json_and_one_sentence(deployment: Deployment) -> None:
    answer = plan(deployment)
    json.dumps(answer.to_json(), allow_nan=False)
    assert "\n" not in answer.sentence
    assert answer.choice.words in answer.sentence


@given(st.floats(0.001, 0.95), st.integers(1, 60))
def test_a_fog_pays_exactly_above_the_crossing_number_of_receivers(alpha: float, receivers: int) -> None:
    answer = plan(Deployment((DeviceLoad(1e6, receivers, 10),) * 4, alpha, 1e12))
    crossing = answer.crossings.receivers
    assert crossing == pytest.approx(1 / (1 - alpha))
    if math.isclose(receivers, crossing):
        return
    pays = answer.cost(Strategy.EDGE).bytes < answer.cost(Strategy.SERVERLESS).bytes
    assert pays == (receivers > crossing)


@given(st.floats(0.01, 2), st.integers(1, 20), st.floats(1e3, 1e9), st.integers(1, 4))
def test_detectors_beat_packets_exactly_beyond_the_crossing_number_of_frames(
    alpha: float, receivers: int, weights: float, rounds: int
) -> None:
    def at(frames: int) -> Plan:
        load = DeviceLoad(50e3 * frames, receivers, frames)
        return plan(Deployment((load,) * 3, alpha, weights, rounds))

    crossing = at(10).crossings.fog_over_edge_frames
    below, above = math.floor(crossing / 3 * 0.999), math.ceil(crossing / 3 * 1.001) + 1
    assert at(above).training is Strategy.FOG
    if below >= 1:
        assert at(below).training is Strategy.EDGE


@given(st.integers(2, 20), st.floats(1e3, 1e9))
def test_detectors_beat_serverless_jpeg_beyond_their_crossing(receivers: int, weights: float) -> None:
    def at(frames: int) -> list[float]:
        answer = plan(Deployment((DeviceLoad(50e3 * frames, receivers, frames),) * 3, 0.1, weights))
        return [answer.cost(s).bytes for s in (Strategy.SERVERLESS, Strategy.FOG)]

    crossing = plan(Deployment((DeviceLoad(50e3, receivers, 1),) * 3, 0.1, weights)).crossings
    frames = crossing.fog_over_serverless_frames / 3
    serverless, fog = at(math.ceil(frames * 1.001) + 1)
    assert fog < serverless


def test_alpha_crossing_is_where_serverless_and_edge_cost_the_same() -> None:
    loads = (DeviceLoad(100, 3), DeviceLoad(500, 1), DeviceLoad(50, 8))
    alpha = plan(Deployment(loads, 0.1, 1e6)).crossings.alpha
    answer = plan(Deployment(loads, alpha, 1e6))
    assert answer.cost(Strategy.EDGE).bytes == pytest.approx(answer.cost(Strategy.SERVERLESS).bytes)


def test_with_one_receiver_no_fog_ever_saves_bytes() -> None:
    answer = plan(Deployment((DeviceLoad(1e9, 1, 10_000),) * 2, 0.001, 1.0))
    assert answer.choice is Strategy.SERVERLESS
    assert answer.crossings.alpha is None
    assert answer.crossings.fog_over_serverless_frames is None
    assert "not more than" in answer.sentence


def test_packets_larger_than_jpeg_never_pay() -> None:
    answer = uniform(9, 1.0)
    assert answer.crossings.receivers is None
    assert "never pays" in answer.sentence


def test_the_papers_saving_implies_an_alpha_that_gives_it_back() -> None:
    alpha = implied_alpha(5.16, 10)
    assert alpha == pytest.approx(0.083, abs=0.0005)
    answer = uniform(9, alpha)
    saving = answer.cost(Strategy.SERVERLESS).bytes / answer.cost(Strategy.EDGE).bytes
    assert saving == pytest.approx(5.16)


def test_a_saving_larger_than_the_receivers_is_out_of_reach() -> None:
    with pytest.raises(ConfigError, match="at most 9"):
        implied_alpha(9.5, 10)


def test_measured_packet_bytes_replace_alpha() -> None:
    answer = plan(Deployment((DeviceLoad(1000, 3, 10, packet_bytes=150),), None, 1e6))
    assert answer.cost(Strategy.EDGE).downlink_bytes == 450
    assert answer.alpha == pytest.approx(0.15)


def test_seconds_of_a_star_of_separate_links() -> None:
    loads = (DeviceLoad(4e6, 2, 40), DeviceLoad(2e6, 2, 20), DeviceLoad(0, 0))
    answer = plan(Deployment(loads, 0.1, 6e6, rates=ALL_RATES))
    assert answer.decided_by == "seconds"
    edge = dict(answer.cost(Strategy.EDGE).stages)
    assert edge["the uplink"] == 2.0  # the busiest device's link
    assert edge["encoding"] == 30.0
    assert edge["the downlink"] == pytest.approx(0.2)  # 1.2 MB over three links
    assert edge["decoding"] == pytest.approx(0.4)  # 40 frames a device
    # The first frame goes up before encoding begins, and the last packet comes down after it has ended.
    assert answer.cost(Strategy.EDGE).seconds == pytest.approx(0.05 + 30 + 0.005 + 0.4 + 20)
    assert answer.cost(Strategy.EDGE).binds == "encoding"
    assert answer.cost(Strategy.FOG).seconds == pytest.approx(0.05 + 30 + 5 + 3)
    assert answer.cost(Strategy.SERVERLESS).seconds == pytest.approx(4 + 20)


def test_directions_take_turns_on_a_shared_medium() -> None:
    rates = Rates(
        uplink_bytes_per_s=1e6,
        downlink_bytes_per_s=1e6,
        shared_medium=True,
        encode_s_per_frame=0.0,
        edge_training_s=0.0,
        fog_training_s=0.0,
    )
    answer = plan(Deployment((DeviceLoad(5e6, 3, 10),) * 4, 0.5, 1e6, rates=rates))
    assert answer.cost(Strategy.SERVERLESS).seconds == pytest.approx(60)
    assert answer.cost(Strategy.EDGE).seconds == pytest.approx(20 + 30)
    assert answer.cost(Strategy.FOG).seconds == pytest.approx(20 + 4)


def test_without_all_rates_bytes_decide() -> None:
    rates = Rates(uplink_bytes_per_s=1e6, encode_s_per_frame=100.0)
    answer = uniform(9, 0.1, rates=rates)
    assert answer.decided_by == "bytes"
    assert answer.choice is Strategy.EDGE
    assert all(c.seconds is None for c in answer.strategies)


def test_a_slow_encoder_can_make_serverless_jpeg_the_faster_one() -> None:
    slow = Rates(2e6, 2e6, encode_s_per_frame=100.0, edge_training_s=1.0, fog_training_s=1.0)
    by_time, by_bytes = uniform(9, 0.1, rates=slow), uniform(9, 0.1, rates=slow, decide_by="bytes")
    assert (by_time.choice, by_bytes.choice) == (Strategy.SERVERLESS, Strategy.EDGE)
    assert by_time.cost(Strategy.EDGE).binds == "encoding"


def test_deciding_by_seconds_without_rates_is_refused() -> None:
    with pytest.raises(ConfigError, match="decide by bytes or give the rates"):
        uniform(9, 0.1, decide_by="seconds")


def test_unknown_frame_numbers_leave_seconds_and_frame_crossings_unknown() -> None:
    answer = plan(Deployment((DeviceLoad(1e6, 9),), 0.1, 1e6, rates=ALL_RATES))
    assert answer.decided_by == "bytes"
    assert answer.crossings.fog_over_edge_frames is None


def test_nothing_recorded_costs_nothing() -> None:
    answer = plan(Deployment((DeviceLoad(0, 3),), 0.1, 0, rates=ALL_RATES))
    assert [c.bytes for c in answer.strategies] == [0, 0, 0]


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["jpeg_bytes", "receivers", "packet_bytes"])
def test_a_load_must_be_finite_and_not_negative(name: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=name):
        DeviceLoad(**{"jpeg_bytes": 1.0, "receivers": 1.0, name: bad})


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["alpha", "detector_bytes", "rounds", "detector_receivers"])
def test_a_deployment_must_be_finite_and_not_negative(name: str, bad: float) -> None:
    values = {"alpha": 0.1, "detector_bytes": 1.0, name: bad}
    with pytest.raises(ConfigError, match=name):
        Deployment((DeviceLoad(1, 1),), **values)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["uplink_bytes_per_s", "downlink_bytes_per_s", "decode_frames_per_s"])
def test_a_rate_must_be_positive(name: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=name):
        Rates(**{name: bad})


def test_a_deployment_needs_devices_and_a_packet_size() -> None:
    with pytest.raises(ConfigError, match="at least one device"):
        Deployment((), 0.1, 1)
    with pytest.raises(ConfigError, match="alpha, or the measured packet bytes"):
        Deployment((DeviceLoad(1, 1),), None, 1)


def test_the_model_loads_no_torch() -> None:
    code = "import sys, common.cost_model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
