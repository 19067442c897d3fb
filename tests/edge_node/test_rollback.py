"""A detector that does worse than the one before gives way to it, in real processes, and for good."""

import json

import pytest

from tests.node_processes import Deployment, write_frames


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def test_an_edge_goes_back_to_the_detector_before_and_stays_there(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"{n:03d}" for n in range(8)]
    source = write_frames(tmp_path / "a", photo, names[:4])
    training = {"mode": "always", "module": "stub_trainer", "min_new_frames": 4, "check_s": 0.3}
    edge = deployment.edge("one", [source], training=training)
    edge.settings["sources"][0]["again_s"] = 1
    edge.start()
    edge.wait_for(lambda s: s["training"]["decisions"] == 1, "a first round", 60)
    write_frames(tmp_path / "a", photo, names)
    weights = edge.store / "detector" / "weights.safetensors"
    status = edge.wait_for(lambda s: s["training"]["decisions"] == 3, "a rollback", 60)
    assert status["training"]["last_decision"]["source"] == "rolled_back"
    decisions = json.loads((edge.store / "detector" / "metrics.json").read_text())["decisions"]
    assert [(d["source"], d["deploy"]) for d in decisions] == [
        ("trained", True),
        ("trained", True),
        ("rolled_back", True),
    ]
    assert weights.read_bytes().startswith(b"edge weights 1")
    edge.kill()
    edge.start()
    status = edge.wait_for(
        lambda s: s["connection"] == "open" and s["training"]["detector"], "the detector", 60
    )
    assert status["training"]["decisions"] == 3
    assert weights.read_bytes().startswith(b"edge weights 1")
    assert edge.terminate() == 0
