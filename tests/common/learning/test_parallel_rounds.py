"""A node's rounds on several devices, from its own store: a real trainer process that starts one for each."""

import os
import signal
import time

import pytest

from common.learning.settings import TrainingSettings
from common.learning.weights import read_weights
from common.node.learning_messages import Busy, Failed, Position, Progress, Result, Stop, Train
from tests.trainer_processes import put, ranks_of

SETTINGS = TrainingSettings(
    imgsz=64,
    epochs=2,
    batch=4,
    device="cpu:2",
    checkpoint_seconds=0,
    gate={"min_boxes": 5, "resamples": 100},
)


@pytest.mark.slow
def test_two_rounds_from_the_nodes_store(tmp_path, filled_store, trainer):
    process = trainer()
    assert process.start(tmp_path, SETTINGS).frames == 8
    process.tell(Train("the first frames"))
    first = process.hear(Result, Failed)
    assert isinstance(first, Result), first
    assert read_weights(first.weights).classes == ("object",)
    metrics = first.metrics
    assert (metrics["steps"], metrics["epochs"], metrics["frames"], metrics["images"]) == (4, 2, 8, 8)
    assert metrics["seconds"] > 0

    put(filled_store, range(20, 24))
    process.tell(Position(filled_store.last_position))
    process.tell(Train("more frames", first.weights))
    second = process.hear(Result, Failed)
    assert isinstance(second, Result), second
    assert (second.metrics["steps"], second.metrics["frames"]) == (6, 12)
    process.tell(Stop())
    assert process.code.get(timeout=30) == 0
    left = {path.name for path in (tmp_path / "work").iterdir()}
    assert "parallel" not in left
    assert "checkpoint.safetensors" not in left


@pytest.mark.slow
def test_a_round_goes_on_from_its_checkpoint_when_one_of_its_processes_is_killed(
    tmp_path, filled_store, trainer, capfd
):
    settings = SETTINGS.model_copy(update={"epochs": 400, "max_steps": 60})
    process = trainer()
    process.start(tmp_path, settings)
    process.tell(Train("round"))
    process.hear(Progress)
    checkpoint = tmp_path / "work" / "checkpoint.safetensors"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(ranks_of(process.child.pid)[1], signal.SIGKILL)
    result = process.hear(Result, Failed)
    assert isinstance(result, Result), result
    assert result.metrics["steps"] == 60
    said = [line for line in capfd.readouterr().err.splitlines() if "SIGKILL" in line]
    assert len(said) == 1, said
    assert "process 2 of 2 of the training on cpu, cpu was ended by SIGKILL" in said[0]
    assert "tried again" in said[0]


@pytest.mark.slow
def test_a_round_whose_processes_are_always_killed_is_reported_in_one_sentence(
    tmp_path, filled_store, trainer
):
    process = trainer()
    process.start(tmp_path, SETTINGS.model_copy(update={"epochs": 10_000}))
    process.tell(Train("round"))
    killed = set()
    end = time.monotonic() + 120
    while process.said.empty() or not isinstance(process.said.queue[-1], Failed):
        assert time.monotonic() < end
        new = [pid for pid in ranks_of(process.child.pid) if pid not in killed]
        if len(new) == 2:
            time.sleep(0.5)
            os.kill(new[0], signal.SIGKILL)
            killed.update(new)
        time.sleep(0.1)
    failed = process.hear(Failed)
    assert "process 1 of 2 of the training on cpu, cpu was ended by SIGKILL" in failed.reason
    assert "3 times" in failed.reason
    assert "\n" not in failed.reason
    assert not ranks_of(process.child.pid), "nothing of it runs on"


@pytest.mark.slow
def test_its_processes_are_nice_pause_while_uploads_wait_and_stop_with_a_checkpoint(
    tmp_path, filled_store, trainer
):
    settings = SETTINGS.model_copy(update={"epochs": 10_000, "yield_s": 30.0, "nice": 12})
    process = trainer()
    process.start(tmp_path, settings)
    process.tell(Train("round"))
    process.hear(Progress)
    assert min(os.getpriority(os.PRIO_PROCESS, pid) for pid in ranks_of(process.child.pid)) >= 12
    process.tell(Busy(True))
    time.sleep(2.0)
    while not process.said.empty():
        process.said.get()
    time.sleep(2.0)
    assert process.said.empty(), "it makes no progress"
    process.tell(Busy(False))
    process.hear(Progress)
    process.tell(Stop())
    assert process.code.get(timeout=60) == 0
    assert (tmp_path / "work" / "checkpoint.safetensors").exists()
