"""An edge's sources with priorities, a time to live and a bandwidth, with real daemons."""

from __future__ import annotations

import time

import pytest

from tests.fog_node.test_fog_and_edges import log_of
from tests.node_processes import Deployment, write_frames


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def test_urgent_frames_reach_the_log_before_those_that_waited_longer(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"{number:03d}" for number in range(8)]
    edge = deployment.edge(
        "one", [write_frames(tmp_path / "a", photo, names), write_frames(tmp_path / "b", photo, names, 40)]
    )
    edge.settings["sources"][1]["priority"] = 9
    edge.settings["traffic"] = {"upload_windows": ["00:00-00:01"]}
    edge.start()
    edge.wait_for(lambda s: s["outbox"]["waiting"] == 16 or s["traffic"]["upload_hours"], "16 frames")
    edge.terminate()
    edge.start(traffic={"upload_windows": []})
    deployment.fog.wait_for(lambda s: s["log_position"] == 16, "16 records")
    assert deployment.fog.terminate() == 0
    numbers = [key[2] for key in log_of(deployment.fog)]
    assert sorted(numbers) == list(range(16))
    assert set(numbers[:8]) == set(range(8, 16)), "the second source's frames come first"


def test_frames_that_outlived_their_time_are_dropped_and_counted(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"{number:03d}" for number in range(5)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)])
    edge.settings["sources"][0]["ttl_s"] = 1.0
    address = edge.settings["fog"]["address"]
    edge.settings["fog"]["address"] = "tcp://127.0.0.1:9"
    edge.start()
    edge.wait_for(lambda s: s["outbox"]["expired"] == 5, "five frames dropped, while no fog is there")
    assert edge.status()["outbox"]["waiting"] == 0
    assert "had waited longer than their ttl_s" in edge.text()
    edge.terminate()
    write_frames(tmp_path / "a", photo, [*names, "005"])
    edge.settings["sources"][0]["ttl_s"] = 60.0
    edge.start(fog={"address": address}, report_s=1.0)
    status = edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 1, "the new frame")
    assert status["outbox"] | {"waiting_bytes": 0, "last_refusal": ""} == status["outbox"] | {
        "recorded": 6,
        "expired": 5,
        "waiting": 0,
        "waiting_bytes": 0,
        "last_refusal": "",
    }
    deployment.fog.wait_for(lambda s: s["log_position"] == 1, "its record")
    told = "how many of the device's frames expired"
    deployment.fog.wait_for(lambda s: s["peers"][edge.keys.public]["frames_expired"] == 5, told)
    assert deployment.fog.terminate() == 0
    assert [key[2] for key in log_of(deployment.fog)] == [5], "numbers are never used again"


def test_an_edge_keeps_to_its_bandwidth_and_to_the_fogs(deployment, tmp_path, photo):
    deployment.start_fog(limits={"uploads_per_s": 10.0})
    names = [f"{number:03d}" for number in range(40)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] >= 1, "the first")
    since = time.monotonic()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 40, "all of them")
    assert time.monotonic() - since > 2.0, "30 frames at 10 a second"
    assert "too_fast" not in edge.text()
    assert "uploads more than the fog takes" not in edge.text(), "it does not run into the fog's bound"
