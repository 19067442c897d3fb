"""Whole simulations: nothing is lost, the closed form is met, the same seed gives the same bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cost_model import Strategy, plan
from simulations.cost_scenario import SHIPPED
from simulations.events.files import load_event_scenario
from simulations.events.model import deployment_of
from simulations.events.simulation import simulate
from simulations.events.summary import conservation, model_of, summarise
from simulations.events.tables import write_devices, write_timeline
from tests.event_cases import CONTROL, LINK, RADIO, SHARED, run


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"group": {"link": LINK | {"uplink_bytes_per_s": 1e5}}},
        {"group": {"link": LINK | {"downlink_bytes_per_s": 2e4}}},
        {"group": {"link": LINK | {"goodput": 0.5}}},
        {"codec": {"encode_s": 0.4}},
        {"codec": {"encode_s": 0.4}, "fog": {"workers": 3}},
        {"group": SHARED, **RADIO},
        {"group": {"own_returned": True}},
        {"upload_overhead_bytes": 5000, "packet_overhead_bytes": 2500},
        {"control": CONTROL},
        {"bandwidth": 0.25},
        {"group": {"link": LINK | {"latency_s": 0.5}, "upload_window_frames": 1000}},
        {"fog": {"uplink_bytes_per_s": 1e6}},
        {"fog": {"downlink_bytes_per_s": 1e5}},
        {"fog": {"downlink_bytes_per_s": 1e5}, "group": SHARED, **RADIO},
        {"fog": {"uplink_bytes_per_s": 1e6}, "bandwidth": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("strategy", ["edge", "serverless"])
def test_a_burst_takes_the_bytes_and_seconds_of_the_closed_form(changes, strategy):
    outcome = run(**changes, policy={"strategy": strategy})
    answer = plan(deployment_of(outcome)).cost(Strategy(strategy))
    found = summarise(outcome, None)
    assert found["bytes"] == pytest.approx(answer.bytes)
    assert outcome.run.finished == pytest.approx(answer.seconds, rel=0.01)


@pytest.mark.parametrize("medium", [{}, {"group": SHARED, **RADIO}], ids=["own links", "shared"])
def test_fog_training_takes_the_bytes_and_seconds_of_the_closed_form(medium):
    training = {"first_frames": 800, "held_out": 0, "fog_s": 40, "detector_bytes": 5e6}
    outcome = run(codec={"encode_s": 0.05}, policy={"strategy": "fog"}, training=training, **medium)
    answer = plan(deployment_of(outcome)).cost(Strategy.FOG)
    assert summarise(outcome, None)["bytes"] == pytest.approx(answer.bytes)
    assert outcome.run.finished == pytest.approx(answer.seconds, rel=0.01)


def test_answers_handshakes_and_heartbeats_are_counted():
    control = run(control=CONTROL)
    # 4 devices with 200 frames each; each frame spares 0.01 s of silence.
    silent = control.run.finished - 200 * 0.01
    plain = run()
    up, down = (sum(getattr(d, name) for d in control.devices) for name in ("bytes_up", "bytes_down"))
    assert up - sum(d.bytes_up for d in plain.devices) == pytest.approx(4 * (1200 + 100 * silent))
    assert down - sum(d.bytes_down for d in plain.devices) == pytest.approx(
        4 * (650 + 50 * silent + 200 * 75)
    )
    assert control.run.finished == plain.run.finished


def test_training_at_the_edges_follows_the_last_delivery():
    training = {"first_frames": 600, "held_out": 0, "edge_s": 30, "decode_frames_per_s": 100, "epochs": 2}
    outcome = run(training=training)
    answer = plan(deployment_of(outcome)).cost(Strategy.EDGE)
    assert outcome.run.finished == pytest.approx(answer.seconds, rel=0.01)
    assert summarise(outcome, None)["rounds"]["edge"] == 4


busy = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 5),
        "duration_s": st.just(60),
        "drain_s": st.sampled_from([0, 5, 1000]),
        "group": st.fixed_dictionaries(
            {
                "count": st.integers(4, 6),
                "arrivals": st.sampled_from(
                    [
                        {"kind": "poisson", "interval_s": 1},
                        {"kind": "bursts", "interval_s": 20, "burst_frames": 15},
                        {"kind": "periodic", "interval_s": 2},
                    ]
                ),
                "jpeg_spread": st.sampled_from([0, 0.5]),
                "link": st.sampled_from(
                    [
                        LINK,
                        LINK | {"uplink_bytes_per_s": 4e4, "latency_s": 0.3},
                        LINK | {"uplink_bytes_per_s": 3e5, "downlink_bytes_per_s": 3e5, "medium": "radio"},
                        LINK | {"changes": {"outages": [{"from_s": 20, "to_s": 50}]}},
                    ]
                ),
                "own_returned": st.booleans(),
                "max_outbox_frames": st.sampled_from([3, 1000]),
                "when_full": st.sampled_from(["drop", "wait"]),
                "upload_window_frames": st.sampled_from([1, 32]),
                "window_records": st.sampled_from([1, 1000]),
            }
        ),
        "codec": st.fixed_dictionaries({"encode_s": st.sampled_from([0, 0.2, 2])}),
        "fog": st.fixed_dictionaries(
            {
                "count": st.integers(1, 2),
                "workers": st.integers(1, 3),
                "wait_s": st.sampled_from([0, 0.5]),
                "commit_s": st.sampled_from([0, 0.01]),
                "max_waiting_frames": st.sampled_from([None, 2]),
                "outages": st.sampled_from([[], [{"from_s": 5, "to_s": 30}]]),
            }
        ),
        "policy": st.sampled_from(
            [{"strategy": s, "interval_s": 5} for s in ("planner", "edge", "fog", "serverless")]
        ),
        "training": st.just(
            {"first_frames": 20, "new_frames": 10, "max_rounds": None, "edge_s": 3, "fog_s": 3}
        ),
        "media": st.just([{"name": "radio", "changes": {"outages": [{"from_s": 10, "to_s": 20}]}}]),
    }
)


@settings(max_examples=60, deadline=None)
@given(busy)
def test_every_frame_is_delivered_queued_or_dropped_and_counted(changes):
    outcome = run(**changes)
    found = conservation(outcome)
    assert found["agrees"], found
    if changes["drain_s"] == 1000 and not found["dropped"]:
        assert found["on_devices"] == 0
    sums = outcome.run.timeline.sums()
    assert sums["recorded"][-1] == found["recorded"]
    assert sums["dropped"][-1] == found["dropped"]
    assert sums["delivered"][-1] == found["delivered"]
    assert sums["bytes_up"][-1] == pytest.approx(sum(device.bytes_up for device in outcome.devices))


@settings(max_examples=10, deadline=None)
@given(busy)
def test_the_same_seed_gives_the_same_csv_and_another_seed_another(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("runs")
    texts = []
    for number, seed in enumerate((changes["seed"], changes["seed"], changes["seed"] + 1)):
        outcome = run(**{**changes, "seed": seed})
        write_timeline(outcome, folder / f"{number}.csv")
        write_devices(outcome, folder / f"{number}d.csv")
        texts.append((folder / f"{number}.csv").read_bytes() + (folder / f"{number}d.csv").read_bytes())
    assert texts[0] == texts[1]
    if changes["group"]["jpeg_spread"]:
        assert texts[0] != texts[2]


def test_a_link_outage_delays_what_falls_into_it_and_loses_nothing():
    calm = {"count": 2, "arrivals": {"kind": "periodic", "interval_s": 1, "start": "together"}}
    cut = LINK | {"changes": {"outages": [{"from_s": 20, "to_s": 40}]}}
    without = run(duration_s=60, group=calm)
    outcome = run(duration_s=60, group=calm | {"link": cut}, sample_s=1)
    assert conservation(outcome)["delivered"] == conservation(without)["delivered"] == 120
    assert outcome.run.latency.largest == pytest.approx(20, abs=0.5)
    sums = outcome.run.timeline.sums()
    assert sums["bytes_up"][20] == sums["bytes_up"][39]
    assert sums["recorded"][39] - sums["uploaded"][39] == 40


def test_encoders_that_stand_still_take_their_batches_up_again():
    outcome = run(codec={"encode_s": 0.1}, fog={"workers": 2, "outages": [{"from_s": 3, "to_s": 13}]})
    assert conservation(outcome)["encoded"] == 800
    undisturbed = run(codec={"encode_s": 0.1}, fog={"workers": 2})
    lost = outcome.run.finished - undisturbed.run.finished
    # Ten seconds, and the batches that were cut short once more.
    assert 10 <= lost <= 11.7


def test_packets_of_a_device_stay_in_order_of_recording():
    outcome = run(codec={"encode_s": 0.1}, fog={"workers": 3, "outages": [{"from_s": 3, "to_s": 5}]})
    frames = outcome.run.frames
    for device in range(4):
        encoded = [e for d, e in zip(frames.device, frames.encoded, strict=True) if d == device]
        assert encoded == sorted(encoded)


def test_a_full_outbox_drops_frames_of_a_camera_and_holds_up_a_folder():
    slow = {"link": LINK | {"uplink_bytes_per_s": 25_000}, "max_outbox_frames": 10}
    arrivals = {"kind": "periodic", "interval_s": 1}
    camera = run(duration_s=100, group=slow | {"arrivals": arrivals})
    folder = run(duration_s=100, group=slow | {"arrivals": arrivals, "when_full": "wait"})
    assert conservation(camera)["dropped"] > 100
    assert conservation(folder)["dropped"] == 0
    assert conservation(folder)["recorded"] == 400
    assert max(device.most_waiting for device in [*camera.devices, *folder.devices]) == 10


def test_a_fog_without_room_refuses_and_gets_the_frame_again():
    outcome = run(codec={"encode_s": 0.05}, fog={"max_waiting_frames": 20, "retry_s": 1.0})
    found = summarise(outcome, None)
    assert found["refused_uploads"] > 0
    assert found["frames"]["encoded"] == 800
    assert found["queues"]["most_at_a_fog"] == 20
    assert found["bytes_up"] == 50_000 * (800 + found["refused_uploads"])


def test_a_credit_window_of_one_record_waits_for_each_pull():
    far = {"link": LINK | {"latency_s": 1.0}, "count": 2, "arrivals": {"interval_s": 0, "frames": 20}}
    outcome = run(group=far | {"window_records": 1})
    # A round trip for each of twenty records, after the way of the first to the fog.
    assert outcome.run.finished == pytest.approx(1 + 1 + 19 * 2, abs=0.8)


def test_the_planner_moves_training_to_the_fog_when_frames_outweigh_detectors():
    changes = {
        "duration_s": 400,
        "group": {"arrivals": {"kind": "periodic", "interval_s": 1}},
        "policy": {"strategy": "planner", "decide_by": "bytes", "interval_s": 5},
        "training": {"first_frames": 10, "max_rounds": 1, "detector_bytes": 1e6},
    }
    outcome = run(**changes)
    found = summarise(outcome, model_of(outcome))
    # Equation (5): W D / (alpha b n) = 1e6 * 4 / (0.1 * 50,000 * 3) = 267 frames.
    assert found["model"]["crossings"]["fog_over_edge_frames"] == pytest.approx(267, rel=0.01)
    assert found["strategies"] == {"fog": 1}
    assert found["strategy_switches"] == 1
    assert found["rounds"]["fog"] == 1
    assert found["weights_bytes"] == 4e6
    assert found["frames"]["in_queues"] > 0


def test_packets_go_on_while_the_fog_trains_when_told():
    outcome = run(policy={"strategy": "fog", "packets_while_fog_trains": True})
    assert conservation(outcome)["delivered"] == 2400
    assert conservation(run(policy={"strategy": "fog"}))["delivered"] == 0


def test_devices_are_dealt_out_to_fogs_and_hear_their_own_fog_only():
    outcome = run(group={"count": 6}, fog={"count": 3})
    assert [len(place) for place in outcome.places] == [2, 2, 2]
    assert all(device.delivered == 200 for device in outcome.devices)


def test_a_fogs_own_connection_is_the_bottleneck_when_it_is_slow():
    free, slow = run(), run(fog={"uplink_bytes_per_s": 5e5})
    assert slow.run.finished > 10 * free.run.finished
    busy = summarise(slow, None)["busy"]
    assert busy["fog_uplink"] > 0.99
    assert busy["fog_downlink"] == 0


@pytest.mark.slow
def test_a_million_frames_of_ten_thousand_cameras_take_at_most_a_minute_of_one_core():
    outcome = simulate(load_event_scenario("city.yaml"), SHIPPED)
    assert conservation(outcome)["agrees"]
    assert len(outcome.run.frames) == 1_000_000
    assert outcome.performance.cpu_s < 60
    assert outcome.performance.peak_rss_bytes < 1e9
