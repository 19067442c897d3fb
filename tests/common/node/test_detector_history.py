"""The history of detectors and the status file."""

import json
import os
from pathlib import Path

import pytest

from common.errors import StoreError
from common.node.detector_history import DetectorHistory
from common.node.status_file import read_status, write_status

TESTS = str(Path(__file__).parents[2])


def decide(history, weights, *, deploy=True, source="trained", frames=10):
    return history.decide(
        time=1.0,
        source=source,
        deploy=deploy,
        reason="because",
        frames=frames,
        metrics={},
        weights=str(weights),
    )


def test_a_deployed_detector_survives_a_restart(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    assert history.in_use is None
    weights = tmp_path / "w"
    weights.write_bytes(b"one")
    decide(history, weights)
    weights.write_bytes(b"two")
    decide(history, weights, deploy=False, frames=20)
    again = DetectorHistory(tmp_path / "detector")
    assert again.in_use.read_bytes() == b"one"
    assert (again.own, again.rounds, again.frames_used) == (True, 2, 20)


def test_received_weights_are_known_once_decided_on(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    path = history.incoming("ab")
    path.write_bytes(b"from the fog")
    decision = decide(history, path, source="received")
    assert history.knows(decision.digest)
    assert not path.exists()
    assert not history.own
    assert history.rounds == 0


def test_a_decision_without_weights_deploys_nothing(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    assert not decide(history, "").deploy
    assert history.in_use is None


def test_a_damaged_history_is_one_sentence(tmp_path):
    folder = tmp_path / "detector"
    folder.mkdir()
    (folder / "metrics.json").write_text("{")
    with pytest.raises(StoreError, match="move it away to start a new history"):
        DetectorHistory(folder)


# The status file


def test_a_status_tells_whether_its_process_lives(tmp_path):
    write_status(tmp_path, {"port": 5})
    status = read_status(tmp_path)
    assert (status["alive"], status["pid"], status["port"]) == (True, os.getpid(), 5)
    # Another process that was given the same number is not the one that wrote it.
    status["process_start"] += 1
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert not read_status(tmp_path)["alive"]


def test_numbers_that_json_lacks_are_null_in_a_status(tmp_path):
    write_status(tmp_path, {"loss": float("nan"), "last": {"metrics": [0.5, float("inf")]}, "port": 5})
    status = read_status(tmp_path)
    assert (status["loss"], status["last"], status["port"]) == (None, {"metrics": [0.5, None]}, 5)


def test_no_status_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="has not run with this configuration yet"):
        read_status(tmp_path)
