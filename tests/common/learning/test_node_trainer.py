"""A node's trainer takes packets over from the node's store, whatever their profile."""

import dataclasses

import pytest
import torch

from common.bitstream import encode_packet
from common.errors import LearningError
from common.frame import Box, Frame, FrameIdentity
from common.images import encode_png
from common.learning import node_trainer
from common.learning.batches import decode_batch
from common.learning.gate import GateDecision
from common.learning.hooks import TrainerHooks
from common.learning.node_trainer import PACKETS_AT_A_TIME, NodeTrainer
from common.learning.settings import TrainingSettings
from common.learning.trainer import train
from common.learning.weights import read_weights
from common.store import open_fog_store
from common.store.records import RecordKind
from tests.learning_packets import random_packet, scene_packet
from tests.raster_packets import image_packet, keyframe_of, picture, pyramid_packet, reference_packet

DEVICE = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


@pytest.fixture
def store(tmp_path):
    with open_fog_store(tmp_path / "store") as made:
        yield made


@pytest.fixture
def trainer(tmp_path, store):
    with store.training_view() as view:
        yield NodeTrainer(view, tmp_path / "work", TrainingSettings(device="cpu", threads=1))


def put(store, packets):
    for number, packet in enumerate(packets, store.last_position):
        identity = FrameIdentity(DEVICE, 1, number)
        image = encode_png(picture(packet.height, packet.width, number))
        store.commit_frames(
            [Frame(f"{number}", image, packet.width, packet.height, packet.labelled, packet.boxes, identity)]
        )
        store.finish(identity, RecordKind.PACKET, {}, encode_packet(packet))


def test_packets_of_every_profile_are_taken_over_with_their_keyframe(store, trainer):
    digest, _ = keyframe_of(pyramid_packet(0))
    put(
        store,
        [
            pyramid_packet(0),
            reference_packet(digest, 1),
            random_packet(2),
            image_packet("webp", 3),
            reference_packet(digest, 4, turned=True),
        ],
    )
    assert trainer.catch_up() == 5
    assert (len(trainer.store), trainer.left_out) == (5, 0)


def test_a_keyframe_of_long_ago_is_found_by_its_hash(store, trainer):
    digest, _ = keyframe_of(pyramid_packet(0, labelled=False))
    put(store, [pyramid_packet(0, labelled=False), random_packet(1)])
    trainer.catch_up()
    put(store, [reference_packet(digest, 2)])
    trainer.catch_up()
    assert (len(trainer.store), trainer.left_out) == (2, 0)


def test_packets_that_cannot_be_used_are_named_and_the_others_train(store, trainer, capsys):
    put(
        store,
        [
            reference_packet(bytes(32), 0),
            pyramid_packet(1, name="tram"),
            image_packet("jpeg", 2),
        ],
    )
    assert trainer.catch_up() == 3
    assert (len(trainer.store), trainer.left_out) == (1, 2)
    said = capsys.readouterr().err.splitlines()
    assert "position 1: the packet needs the keyframe 0000000000000000" in said[0]
    assert "position 2: a frame has a box of the unknown class 'tram'" in said[1]


def test_taking_over_a_long_backlog_can_be_stopped(store, trainer):
    put(store, [random_packet(i) for i in range(2 * PACKETS_AT_A_TIME + 3)])
    answers = iter([False, True])
    assert trainer.catch_up(should_stop=lambda: next(answers)) == PACKETS_AT_A_TIME
    assert trainer.catch_up() == PACKETS_AT_A_TIME + 3
    assert len(trainer.store) == 2 * PACKETS_AT_A_TIME + 3


def named(packet, number):
    return dataclasses.replace(packet, identity=FrameIdentity(DEVICE, 1, number))


def labels_of(trainer, number):
    batch = decode_batch(
        trainer.store, torch.tensor([trainer.store.number_of(FrameIdentity(DEVICE, 1, number))]), 64
    )
    return batch["bboxes"]


def test_corrected_labels_hold_for_frames_that_came_before_and_after_them(store, trainer):
    packets = [named(random_packet(n, boxes=[(2, 2, 20, 20)]), n) for n in range(3)]
    put(store, packets[:2])
    trainer.catch_up()
    before = labels_of(trainer, 0)
    moved = (Box(0, 0, packets[0].width / 2, packets[0].height),)
    put(store, packets[2:])
    for number in (0, 2):
        store.correct(FrameIdentity(DEVICE, 1, number), 1, True, moved)
    trainer.catch_up()
    assert not torch.equal(labels_of(trainer, 0), before)
    assert torch.equal(labels_of(trainer, 0), labels_of(trainer, 2))
    assert torch.equal(labels_of(trainer, 1), before)
    assert labels_of(trainer, 0)[0, 0] == pytest.approx(0.25, abs=0.01)


def test_a_correction_brings_frames_in_and_takes_them_out(store, trainer, tmp_path):
    put(store, [named(random_packet(0), 0), named(random_packet(1, labelled=False, boxes=[]), 1)])
    trainer.catch_up()
    assert len(trainer.store) == 1
    store.correct(FrameIdentity(DEVICE, 1, 0), 1, False, ())
    store.correct(FrameIdentity(DEVICE, 1, 1), 1, True, ())
    trainer.catch_up()
    assert trainer.store.number_of(FrameIdentity(DEVICE, 1, 0)) is None
    assert trainer.store.number_of(FrameIdentity(DEVICE, 1, 1)) is not None
    # A trainer that starts now comes to the same.
    with store.training_view() as view:
        again = NodeTrainer(view, tmp_path / "again", trainer.settings)
        again.catch_up()
    assert again.store.number_of(FrameIdentity(DEVICE, 1, 1)) is not None
    assert len(again.store) == len(trainer.store) == 1


def test_a_trainer_that_starts_again_knows_which_frames_the_last_round_had(store, tmp_path):
    put(store, [random_packet(n) for n in range(5)])
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "round.json").write_text('{"position": 3}')
    with store.training_view() as view:
        trainer = NodeTrainer(view, tmp_path / "work", TrainingSettings(device="cpu", threads=1))
        trainer.catch_up()
        assert trainer.store.new_from == 3
        put(store, [random_packet(9)])
        trainer.catch_up()
        assert (trainer.store.new_from, trainer.store.end) == (3, 6)
        (tmp_path / "work" / "round.json").write_text("{")
        assert NodeTrainer(view, tmp_path / "work", trainer.settings).store.new_from == 0


@pytest.fixture
def deployed(tmp_path, store):
    """Path of a detector of one class that a node trained and deployed."""
    put(store, [scene_packet(n) for n in range(4)])
    path = tmp_path / "in_use.safetensors"
    with store.training_view() as view:
        trainer = NodeTrainer(view, tmp_path / "first", ROUND)
        trainer.catch_up()
        trainer.train_round(None, TrainerHooks()).weights.rename(path)
    return path


ROUND = TrainingSettings(imgsz=64, epochs=1, batch=4, device="cpu", threads=1, gate={"min_boxes": 1})


def test_a_new_class_list_starts_from_the_detector_in_use_and_is_not_compared_with_it(
    store, tmp_path, deployed, capsys, monkeypatch
):
    settings = ROUND.model_copy(update={"classes": ("car", "object")})
    starts = []
    monkeypatch.setattr(
        node_trainer, "train", lambda s, t, start, *rest: starts.append(start) or train(s, t, start, *rest)
    )
    with store.training_view() as view:
        trainer = NodeTrainer(view, tmp_path / "work", settings)
        trainer.catch_up()
        outcome = trainer.train_round(str(deployed), TrainerHooks())
        assert trainer.agreement(str(deployed)) is None
        assert trainer.review(str(outcome.weights), str(deployed))[0] is False
        received = trainer.judge(str(outcome.weights), str(deployed))
    before, after = read_weights(deployed), read_weights(outcome.weights)
    assert after.classes == ("car", "object")
    assert outcome.metrics["baseline_map50_95"] == received.metrics["baseline_map50_95"] == 0.0
    (start,) = starts
    name = "model.0.conv.weight"
    torch.testing.assert_close(start.state[name], before.state[name])
    assert capsys.readouterr().err.count("the next one is not compared with it") == 1


def test_another_model_in_the_settings_starts_from_that_model(store, tmp_path, deployed):
    settings = ROUND.model_copy(update={"model": "yolov5n.yaml"})
    with store.training_view() as view:
        trainer = NodeTrainer(view, tmp_path / "work", settings)
        trainer.catch_up()
        outcome = trainer.train_round(str(deployed), TrainerHooks())
    assert read_weights(outcome.weights).model == "yolov5n.yaml"


def test_received_weights_of_other_classes_are_refused(store, tmp_path, deployed):
    settings = ROUND.model_copy(update={"classes": ("car", "object")})
    with store.training_view() as view:
        trainer = NodeTrainer(view, tmp_path / "work", settings)
        with pytest.raises(LearningError, match="one class list on every node"):
            trainer.judge(str(deployed), None)


@pytest.mark.parametrize(
    ("low", "high", "back"), [(0.01, 0.3, True), (0.0, 0.3, False), (-0.01, 0.3, False), (None, None, False)]
)
def test_the_detector_before_comes_back_only_if_the_whole_interval_lies_above_zero(
    trainer, monkeypatch, low, high, back
):
    decision = GateDecision(True, "", 100, 0.2, low, high)
    figures = {"map50_95": 0.5, "baseline_map50_95": 0.3}
    monkeypatch.setattr(trainer, "_in_use", lambda path: path)
    monkeypatch.setattr(trainer, "_compare", lambda *detectors: (decision, figures))
    came_back, reason, _ = trainer.review("now", "before")
    assert came_back is back
    assert reason.startswith("rolled back" if back else "kept")
