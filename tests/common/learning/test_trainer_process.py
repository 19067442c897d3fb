"""The trainer as its daemon sees it: a real process, real pipes, a real store; killed and started again."""

import dataclasses
import os
import queue
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from common.errors import StoreError
from common.frame import FrameIdentity
from common.images import encode_jpeg
from common.learning.detector import build_detector, snapshot
from common.learning.settings import TrainingSettings
from common.learning.weights import read_weights, write_weights
from common.learning.worker import _serve
from common.node.learning_messages import (
    Busy,
    Check,
    Checked,
    Failed,
    Judge,
    Position,
    Progress,
    Result,
    Start,
    Stop,
    Train,
)
from tests.learning_packets import original_of, random_packet, scene_packet
from tests.trainer_processes import DEVICE, put

SETTINGS = TrainingSettings(
    imgsz=64, epochs=3, batch=4, device="cpu", checkpoint_seconds=0, gate={"min_boxes": 5, "resamples": 100}
)


def test_rounds_from_start_to_stop(tmp_path, filled_store, trainer):
    # A packet of an unknown class is left out, and the others train.
    put(filled_store, [40], packet=random_packet(1, width=64, height=64, boxes=[(2, 2, 30, 30)], name="tram"))
    # So are validation images that are damaged or of an unknown class.
    tram = random_packet(2, width=64, height=64, boxes=[(2, 2, 30, 30)], name="tram", validation=True)
    put(filled_store, [110], packet=tram)
    noise = encode_jpeg(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    cut = original_of(scene_packet(111, validation=True), "cut", FrameIdentity(DEVICE, 1, 111))
    filled_store.commit_frames([dataclasses.replace(cut, image=noise[: len(noise) // 2] + b"\xff\xd9")])
    process = trainer()
    ready = process.start(tmp_path, SETTINGS)
    assert (ready.position, ready.frames) == (18, 8)
    assert ready.validation_boxes >= 8
    process.tell(Train("the first frames"))
    result = process.hear(Result, Failed)
    assert isinstance(result, Result), result
    assert read_weights(result.weights).classes == ("object",)
    metrics = result.metrics
    assert (metrics["steps"], metrics["images"], metrics["frames"]) == (6, 8, 8)
    assert metrics["weights_bytes"] < 6.5e6
    assert metrics["decode_frames_per_second"] > 0
    assert metrics["training_frames_per_second"] > 0
    # Six steps from random weights find nothing: the gate must say so.
    assert not result.deploy
    assert "mAP 0" in result.reason or "not deployed" in result.reason

    put(filled_store, range(8, 12))
    process.tell(Position(filled_store.last_position))
    process.tell(Train("more frames", result.weights))
    second = process.hear(Result, Failed)
    assert isinstance(second, Result), second
    assert second.metrics["frames"] == 12
    process.tell(Stop())
    assert process.code.get(timeout=30) == 0
    assert not (tmp_path / "work" / "checkpoint.safetensors").exists()


def test_a_killed_trainer_goes_on_from_its_checkpoint(tmp_path, filled_store, trainer):
    settings = SETTINGS.model_copy(update={"epochs": 400, "max_steps": 60})
    checkpoint = tmp_path / "work" / "checkpoint.safetensors"
    first = trainer()
    first.start(tmp_path, settings)
    first.tell(Train("round"))
    first.hear(Progress)
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.child.pid, signal.SIGKILL)
    assert first.code.get(timeout=30) == -signal.SIGKILL
    with safe_open(checkpoint, framework="pt") as file:
        done = len(file.get_tensor("curve"))
    assert 0 < done < 60

    second = trainer()
    assert second.start(tmp_path, settings).frames == 8
    second.tell(Train("round"))
    assert second.hear(Progress).step > done
    # Frames that arrive during a round join it.
    put(filled_store, range(20, 24))
    second.tell(Position(filled_store.last_position))
    result = second.hear(Result, Failed)
    assert isinstance(result, Result), result
    assert result.metrics["steps"] == 60
    assert result.metrics["frames"] == 12


def test_sigterm_during_training_keeps_a_checkpoint_and_exits_cleanly(tmp_path, filled_store, trainer):
    process = trainer()
    process.start(tmp_path, SETTINGS.model_copy(update={"epochs": 10_000, "checkpoint_seconds": 1000.0}))
    process.tell(Train("round"))
    process.hear(Progress)
    process.child.terminate()
    assert process.code.get(timeout=30) == 0
    assert (tmp_path / "work" / "checkpoint.safetensors").exists()


def test_received_weights_are_judged_and_foreign_ones_refused(tmp_path, filled_store, trainer):
    process = trainer()
    process.start(tmp_path, SETTINGS)
    same, other = tmp_path / "same.safetensors", tmp_path / "other.safetensors"
    for path, classes in ((same, ("object",)), (other, ("car", "bus"))):
        write_weights(path, snapshot(build_detector("yolov8n.yaml", classes), "yolov8n.yaml", classes, 64))
    process.tell(Judge("from the fog", str(same), str(same)))
    result = process.hear(Result, Failed)
    assert isinstance(result, Result), result
    assert not result.deploy
    assert result.metrics["map50_95"] == result.metrics["baseline_map50_95"]
    for path, sentence in ((other, "another detector"), (tmp_path / "none", "cannot read")):
        process.tell(Judge("from the fog", str(path), str(same)))
        assert sentence in process.hear(Failed).reason
    process.tell(Train("it is still ready"))
    assert isinstance(process.hear(Result, Failed), Result)


def test_a_training_that_diverges_fails_in_one_sentence_and_reports_no_nan(tmp_path, filled_store, trainer):
    path = tmp_path / "huge.safetensors"
    detector = build_detector("yolov8n.yaml", ("object",))
    with torch.no_grad():
        for branch in detector.model[-1].cv3:
            branch[-1].bias.fill_(3e38)
    write_weights(path, snapshot(detector, "yolov8n.yaml", ("object",), 64), half=False)
    process = trainer()
    process.start(tmp_path, SETTINGS)
    process.tell(Train("round", str(path)))
    assert process.hear(Progress).loss is None
    assert "NaN or infinite" in process.hear(Result, Failed).reason


def test_what_cannot_be_read_on_a_position_is_no_failed_round(capsys):
    class Unreadable:
        def catch_up(self, should_stop):
            raise StoreError("the disk does not answer")

    said = queue.Queue()
    talk = SimpleNamespace(send=said.put, told_to_stop=lambda: False, daemon_is_busy=lambda: False)
    _serve(Unreadable(), talk, Position(5))
    assert said.empty()
    assert "the disk does not answer" in capsys.readouterr().err
    _serve(Unreadable(), talk, Train("round"))
    assert said.get_nowait() == Failed("the disk does not answer")


def test_wrong_settings_end_the_trainer_with_one_sentence(tmp_path, filled_store, trainer):
    process = trainer()
    process.tell(Start("edge", str(tmp_path / "store"), str(tmp_path / "work"), {"imgsz": 100}))
    assert "multiple of 32" in process.hear(Failed).reason
    assert process.code.get(timeout=30) == 1


def test_a_trainer_ends_when_its_daemon_dies(tmp_path, filled_store, trainer):
    process = trainer()
    process.start(tmp_path, SETTINGS.model_copy(update={"epochs": 10_000}))
    process.tell(Train("round"))
    process.hear(Progress)
    # Closing the daemon's end of the pipe is what its death does.
    process.child._process.stdin.close()
    assert process.code.get(timeout=30) != 0


def test_a_trainer_is_nice_and_makes_way_while_uploads_wait(tmp_path, filled_store, trainer):
    settings = SETTINGS.model_copy(update={"yield_s": 1.5, "epochs": 2, "nice": 12})
    process = trainer()
    process.start(tmp_path, settings)
    assert os.getpriority(os.PRIO_PROCESS, process.child.pid) >= 12
    process.tell(Busy(True))
    begin = time.monotonic()
    process.tell(Train("test"))
    first = process.hear(Progress)
    assert first.steps == 4
    process.hear(Progress)
    # The pause before the second step ends after yield_s: a training is never starved either.
    assert time.monotonic() - begin >= 1.5
    process.tell(Busy(False))
    begin = time.monotonic()
    assert isinstance(process.hear(Result, Failed), Result)
    process.tell(Stop())
    assert process.code.get(timeout=20) == 0


def test_a_training_pauses_as_long_as_uploads_wait_and_goes_on_at_once(tmp_path, filled_store, trainer):
    process = trainer()
    process.start(tmp_path, SETTINGS.model_copy(update={"yield_s": 60.0, "epochs": 2}))
    process.tell(Busy(True))
    process.tell(Train("test"))
    process.hear(Progress)
    with pytest.raises(queue.Empty):
        process.said.get(timeout=3)
    process.tell(Busy(False))
    assert isinstance(process.hear(Result, Failed, seconds=50), Result)


def test_a_check_tells_the_agreement_and_brings_back_only_what_is_better(tmp_path, filled_store, trainer):
    work = tmp_path / "weights"
    work.mkdir()
    files = {}
    for name, seed in (("now", 0), ("before", 1)):
        made = snapshot(
            build_detector(SETTINGS.model, SETTINGS.classes, seed), SETTINGS.model, SETTINGS.classes, 64
        )
        files[name] = work / f"{name}.safetensors"
        write_weights(files[name], made, half=True)
    process = trainer()
    process.start(tmp_path, SETTINGS)
    process.tell(Check(str(files["now"])))
    alone = process.hear(Checked, Failed)
    assert alone == Checked(False, "there is no detector before it", 0.0), "random weights find nothing"
    process.tell(Check(str(files["now"]), str(files["before"])))
    checked = process.hear(Checked, Failed)
    assert not checked.roll_back
    assert checked.reason.startswith("kept: on the validation frames now")
    process.tell(Check(str(tmp_path / "missing")))
    assert isinstance(process.hear(Checked, Failed), Failed)
