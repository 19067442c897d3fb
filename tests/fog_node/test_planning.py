"""From measured bytes and rates to the planner's question and to who trains."""

from common.cost_model import Strategy
from common.store.records import RecordKind
from common.wire.messages import Report
from fog_node.log_records import Figures
from fog_node.planning import Planner, Tally
from fog_node.settings import FogTrainingSettings, PlannerSettings


def planner(strategy="auto", **settings):
    planner = Planner(
        PlannerSettings(**{"min_frames": 10, **settings}), FogTrainingSettings(strategy=strategy), epochs=3
    )
    planner.tallies = {"a": Tally(10, 1_000_000, 100_000), "b": Tally(10, 500_000, 50_000)}
    planner.subscribers = {"a": None, "b": None, "c": frozenset("a")}
    return planner


def test_receivers_are_the_other_edges_that_get_a_devices_records():
    loads = {load.jpeg_bytes: load for load in planner().deployment().devices}
    assert loads[1_000_000].receivers == 2
    assert loads[500_000].receivers == 1
    assert loads[500_000].packet_bytes == 50_000


def test_rates_are_means_of_what_edges_measured():
    state = planner()
    state.reports = {
        "a": Report(uplink_bytes_per_second=100.0, training_seconds=5.0),
        "b": Report(uplink_bytes_per_second=300.0, training_seconds=9.0),
        "c": Report(),
    }
    rates = state.deployment().rates
    assert rates.uplink_bytes_per_s == 200.0
    assert rates.edge_training_s == 9.0
    assert rates.downlink_bytes_per_s is None
    assert rates.epochs == 3


def test_an_absurd_report_does_not_stop_the_planner():
    state = planner()
    tiny = Report(
        uplink_bytes_per_second=5e-324,
        downlink_bytes_per_second=0.0,
        decode_frames_per_second=5e-324,
        training_seconds=5e-324,
    )
    state.reports = {"a": tiny, "b": Report(uplink_bytes_per_second=300.0)}
    assert state.update()
    assert state.deployment().rates.uplink_bytes_per_s == 300.0
    assert state.deployment().rates.edge_training_s is None


def test_what_an_edge_measured_counts_while_it_is_connected():
    state = planner()
    state.reports = {key: Report(uplink_bytes_per_second=rate) for key, rate in (("a", 100.0), ("b", 300.0))}
    del state.subscribers["b"]
    assert state.deployment().rates.uplink_bytes_per_s == 100.0
    state.subscribers["b"] = None
    assert state.deployment().rates.uplink_bytes_per_s == 200.0


def test_there_is_no_plan_before_enough_was_measured():
    state = planner(min_frames=21)
    assert not state.update()
    assert state.strategy is None
    assert state.message() is None


def test_there_is_no_plan_while_nobody_receives():
    state = planner()
    state.subscribers = {}
    assert not state.update()


def test_a_choice_is_news_only_once():
    state = planner()
    assert state.update()
    assert not state.update()
    assert state.strategy is Strategy.EDGE
    assert state.message().train


def test_a_detector_cheaper_than_the_packets_moves_training_to_the_fog():
    state = planner(detector_bytes=1000)
    state.update()
    assert state.strategy is Strategy.FOG
    assert not state.message().train
    state.detector_bytes = 100_000_000
    changed = [state.update() for _ in range(3)]
    assert changed == [False, False, True], "published weights have another size than was told"
    assert state.strategy is Strategy.EDGE
    assert state.message().train


def test_a_pinned_strategy_stays_and_the_plan_is_still_told():
    state = planner(strategy="fog")
    assert state.message().sentence == "training at the fog is pinned by a setting"
    state.update()
    assert state.strategy is Strategy.FOG
    assert "the planner finds:" in state.message().sentence
    assert state.status()["pinned"]


def test_figures_are_sums_over_packets_and_leave_tombstones_apart():
    figures = Figures()
    meta = {
        "labelled": True,
        "validation": False,
        "jpeg_bytes": 1000,
        "encode_seconds": 2.0,
        "reached_target": True,
        "background_psnr_db": 30.0,
        "object_psnr_db": [35.0, 37.0],
    }
    figures.add("a", RecordKind.PACKET, meta, 100)
    figures.add("a", RecordKind.PACKET, {**meta, "validation": True, "background_psnr_db": None}, 300)
    figures.add("a", RecordKind.TOMBSTONE, {"reason": "no"}, 0)
    assert figures.trainable == 1
    assert figures.tallies["a"] == Tally(2, 2000, 400, 1)
    assert figures.status() == {
        "packets": 2,
        "tombstones": 1,
        "trainable_frames": 1,
        "jpeg_bytes": 2000,
        "packet_bytes": 400,
        "encode_seconds_per_frame": 2.0,
        "reached_target": 1.0,
        "background_psnr_db": 30.0,
        "object_psnr_db": 36.0,
    }


def test_an_edge_of_another_fog_receives_packets_and_no_detector():
    state = planner()
    state.learners = frozenset("ab")
    question = state.deployment()
    assert question.detector_receivers == 2
    assert {device.name: device.learns for device in question.devices} == {"a": True, "b": True, "c": False}
    state.learners = None
    assert state.deployment().detector_receivers == 3
