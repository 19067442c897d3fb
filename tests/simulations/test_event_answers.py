"""Energy, gates, several fogs and detectors of whole simulations, against the closed form."""

import pytest

from common.cost_model import Strategy, plan
from common.errors import ConfigError
from common.ownership import FogShare, owner
from common.planning.sizing import FogCapacity, Footprint, size
from simulations.events.model import deployment_of
from simulations.events.summary import conservation, legs, model_of, summarise
from tests.event_cases import LINK, run, scenario

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
