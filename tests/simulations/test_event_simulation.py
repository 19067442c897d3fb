"""Whole simulations: nothing is lost, the closed form is met, the same seed gives the same bytes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cost_model import Strategy, plan
from common.errors import ConfigError
from common.ownership import FogShare, owner
from common.planning.sizing import FogCapacity, Footprint, size
from simulations.cost_scenario import SHIPPED
from simulations.events.files import load_event_scenario
from simulations.events.model import deployment_of
from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate
from simulations.events.summary import conservation, legs, model_of, summarise
from simulations.events.tables import write_devices, write_timeline

CONTROL = {
    "answer_bytes": 75,
    "session_up_bytes": 1200,
    "session_down_bytes": 650,
    "idle_up_bytes_per_s": 100,
    "idle_down_bytes_per_s": 50,
    "heartbeat_s": 0.01,
}
LINK = {"uplink_bytes_per_s": 2e6, "downlink_bytes_per_s": 2e6}


def scenario(**changes):
    """Four devices that share with each other; a burst of 200 frames each, unless changed."""
    group = {
        "name": "cameras",
        "count": 4,
        "arrivals": {"kind": "periodic", "interval_s": 0, "frames": 200, "start": "together"},
        "jpeg_bytes": 50_000,
        "link": LINK,
        "own_returned": False,
    } | changes.pop("group", {})
    values = {
        "name": "test",
        "duration_s": 10,
        "drain_s": 1e5,
        "sample_s": 10,
        "groups": [group, *changes.pop("groups", [])],
        "codec": {"table": None, "alpha": 0.1, "encode_s": 0.0} | changes.pop("codec", {}),
        "fog": {"wait_s": 0, "commit_s": 0} | changes.pop("fog", {}),
        "training": {"first_frames": 10**8, "edge_s": 0, "fog_s": 0} | changes.pop("training", {}),
        "policy": {"strategy": "edge"} | changes.pop("policy", {}),
        "upload_overhead_bytes": 0,
        "packet_overhead_bytes": 0,
        "control": dict.fromkeys(CONTROL, 0) | {"heartbeat_s": 1},
    }
    return EventScenario.model_validate(values | changes)


def run(**changes):
    return simulate(scenario(**changes), Path())


SHARED = {"link": LINK | {"medium": "radio"}}
RADIO = {"media": [{"name": "radio"}]}


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


ENERGY = {
    "device": {"send_j_per_byte": 1e-6, "receive_j_per_byte": 2e-6, "decode_w": 3, "training_w": 5},
    "fog": {"send_j_per_byte": 1e-7, "receive_j_per_byte": 2e-7, "encode_w": 50, "training_w": 70},
}


@pytest.mark.parametrize("fogs", [1, 2])
@pytest.mark.parametrize("strategy", ["edge", "fog", "serverless"])
def test_energy_is_that_of_the_closed_form(strategy, fogs):
    # Device to device nobody gets its own frames back.
    frames = 200 * (4 // fogs - (strategy == "serverless"))
    training = {"first_frames": frames, "held_out": 0, "edge_s": 30, "fog_s": 40}
    training |= {"decode_frames_per_s": 100, "detector_bytes": 1e5}
    if strategy == "serverless":
        # JPEG frames need no decoding of packets; the model leaves it out, a simulated round does not.
        training |= {"decode_frames_per_s": None}
    outcome = run(
        policy={"strategy": strategy},
        codec={"encode_s": 0.4},
        fog={"workers": 2, "count": fogs},
        training=training,
        group={"own_returned": True},
        energy=ENERGY,
    )
    answer = plan(deployment_of(outcome)).cost(Strategy(strategy))
    found = summarise(outcome, None)["energy"]
    assert found["devices_j"] == pytest.approx(answer.device_joules)
    assert found["fogs_j"] == pytest.approx(answer.fog_joules)
    assert found["joules"] > 0


def test_no_joules_without_energy():
    assert summarise(run(), None)["energy"] is None


def test_a_gate_refuses_its_share_of_detectors_and_those_are_not_sent():
    training = {"first_frames": 10, "new_frames": 10, "max_rounds": 60, "held_out": 0, "detector_bytes": 1e4}
    common = {"group": {"arrivals": {"kind": "periodic", "interval_s": 0.1}}, "duration_s": 60}
    policy = {"strategy": "fog"}
    found = [
        summarise(run(**common, policy=policy, training=training | {"gate_refusals": share}), None)
        for share in (0.0, 0.5, 0.5)
    ]
    assert found[0]["rounds"]["fog"] == found[0]["rounds"]["detectors_published"] == 60
    assert found[0]["rounds"]["refused_by_the_gate"] == 0
    assert 15 < found[1]["rounds"]["refused_by_the_gate"] < 45
    rounds = found[1]["rounds"]
    assert rounds["detectors_published"] == 60 - rounds["refused_by_the_gate"]
    assert found[1]["weights_bytes"] == 4 * 1e4 * rounds["detectors_published"]
    assert found[1]["rounds"] == found[2]["rounds"]


def test_the_fogs_that_sizing_asks_for_are_as_busy_as_it_says():
    rate, encode_s = 0.5, 0.4
    footprint = Footprint(rate, 50_000, 5_000, 1, 10_000)
    fog = FogCapacity(4, encode_s, 0, 0, 0, 1, uplink_bytes_per_s=1e7, downlink_bytes_per_s=1e7)
    answer = size(100, footprint, fog)
    assert (answer.fogs, answer.binds) == (13, "encoding")
    hub = {"name": "hubs", "count": answer.fogs, "arrivals": {"kind": "none"}, "link": LINK}
    arrivals = {"kind": "poisson", "interval_s": 1 / rate}
    busy = []
    for seed in range(4):
        outcome = run(
            seed=seed,
            group={"count": 100, "receives": (), "arrivals": arrivals},
            groups=[hub],
            duration_s=400,
            codec={"encode_s": encode_s},
            fog={"count": answer.fogs, "workers": 4, "sharing": "keys", "batch_frames": 1}
            | {"uplink_bytes_per_s": 1e7, "downlink_bytes_per_s": 1e7},
        )
        assert conservation(outcome)["in_queues"] == 0
        busy.append(summarise(outcome, None)["busy"])
    used = {need.name: need.used for need in answer.needs}
    for name, key in (
        ("encoding", "encoders"),
        ("the uplink", "fog_uplink"),
        ("the downlink", "fog_downlink"),
    ):
        mean = sum(each[key] for each in busy) / len(busy)
        assert mean == pytest.approx(used[name], rel=0.15), name


def test_devices_that_record_belong_to_fogs_by_their_keys_as_in_the_product():
    hub = {"name": "hubs", "count": 4, "arrivals": {"kind": "none"}, "link": LINK}
    changes = {"group": {"count": 400, "receives": (), "arrivals": {"interval_s": 10}}, "groups": [hub]}
    outcome = run(**changes, fog={"count": 4, "sharing": "keys"})
    cameras = [sum(device.group.name == "cameras" for device in place) for place in outcome.places]
    assert sum(cameras) == 400
    assert len(set(cameras)) > 1
    assert all(60 < count < 140 for count in cameras)
    assert [sum(device.group.name == "hubs" for device in place) for place in outcome.places] == [1] * 4
    assert summarise(outcome, None)["devices_of_a_fog"] == {"fewest": min(cameras), "most": max(cameras)}
    fogs = {f"1 fog {number}": number for number in range(4)}
    for number, place in enumerate(outcome.places):
        for device in place:
            if device.group.name == "cameras":
                assert fogs[owner(device.name, map(FogShare, fogs))] == number
    larger = run(**changes, fog={"count": 5, "sharing": "keys"}, policy={"strategy": "fog"})
    before = {device.name: number for number, place in enumerate(outcome.places) for device in place}
    after = {device.name: number for number, place in enumerate(larger.places) for device in place}
    moved = [n for n in after if n.startswith("cameras") and after[n] != before[n]]
    assert {after[name] for name in moved} == {4}


def test_a_device_that_nobody_hears_at_the_fog_of_its_key_is_found():
    with pytest.raises(ConfigError, match="nobody hears cameras-0 at fog"):
        run(group={"count": 1, "own_returned": False}, fog={"count": 3, "sharing": "keys"})


def test_deciding_by_joules_needs_energy():
    with pytest.raises(ValueError, match="needs the energy"):
        scenario(policy={"strategy": "planner", "decide_by": "joules"})
    outcome = run(policy={"strategy": "planner", "decide_by": "joules", "min_frames": 1}, energy=ENERGY)
    assert conservation(outcome)["agrees"]


def test_legs_add_up_to_the_mean_latency():
    outcome = run(codec={"encode_s": 0.02}, training={"decode_frames_per_s": 50})
    assert sum(legs(outcome).values()) == pytest.approx(outcome.run.latency.mean)
    assert legs(outcome)["decoding_s"] == 0.02


def test_originals_of_held_out_frames_are_fetched_up_to_the_bound():
    outcome = run(group={"validation_originals": 30})
    found = summarise(outcome, None)
    # 40 of each device's 200 frames are held out, so 120 of the others'.
    assert found["originals_bytes"] == 4 * 30 * 50_000
    without = summarise(run(), None)
    assert found["bytes_down"] == without["bytes_down"] + found["originals_bytes"]
    everything = summarise(run(group={"validation_originals": 1000}), None)
    assert everything["originals_bytes"] == 4 * 120 * 50_000


def test_later_detectors_are_sent_as_their_changed_share():
    training = {"first_frames": 100, "new_frames": 100, "max_rounds": 3, "detector_bytes": 1e6}
    outcome = run(
        group={"arrivals": {"kind": "periodic", "interval_s": 0.05}},
        duration_s=60,
        policy={"strategy": "fog"},
        training=training | {"changed_share": 0.25},
    )
    found = summarise(outcome, model_of(outcome))
    assert found["rounds"]["detectors_published"] == 3
    assert found["weights_bytes"] == 4 * 1.5e6
    assert found["bytes"] == pytest.approx(plan(deployment_of(outcome)).cost(Strategy.FOG).bytes)


def test_the_closed_form_holds_for_several_fogs_with_their_own_encoders():
    outcome = run(group={"count": 6}, fog={"count": 3, "workers": 2}, codec={"encode_s": 0.4})
    answer = plan(deployment_of(outcome)).cost(Strategy.EDGE)
    assert summarise(outcome, None)["bytes"] == pytest.approx(answer.bytes)
    assert outcome.run.finished == pytest.approx(answer.seconds, rel=0.01)


def test_packets_that_were_withheld_follow_when_training_returns_to_the_edges(monkeypatch):
    def plan_of(planner, now, *measured):
        return Strategy.FOG if now < 80 else Strategy.EDGE

    monkeypatch.setattr("simulations.events.planning.FogPlanner.plan", plan_of)
    outcome = run(
        group={"arrivals": {"kind": "periodic", "interval_s": 1, "start": "together"}},
        duration_s=60,
        sample_s=1,
        policy={"strategy": "planner", "interval_s": 10},
    )
    delivered = outcome.run.timeline.sums()["delivered"]
    # The plan goes on for a while after the last frame, at 59 s.
    assert delivered[12] == delivered[79] < delivered[80]
    assert conservation(outcome)["in_queues"] == 0
    assert outcome.fogs[0].switches == 1


@pytest.mark.slow
def test_a_million_frames_of_ten_thousand_cameras_take_at_most_a_minute_of_one_core():
    outcome = simulate(load_event_scenario("city.yaml"), SHIPPED)
    assert conservation(outcome)["agrees"]
    assert len(outcome.run.frames) == 1_000_000
    assert outcome.performance.cpu_s < 60
    assert outcome.performance.peak_rss_bytes < 1e9
