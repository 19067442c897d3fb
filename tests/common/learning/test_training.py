"""A real, tiny training with Ultralytics' trainer on resident packets: it learns, stops, and resumes."""

import dataclasses
import os
from itertools import pairwise

import numpy as np
import pytest
import torch

from common.errors import LearningError
from common.images import encode_jpeg
from common.learning.detector import load_detector, start_weights
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.resident_trainer import ResidentTrainer
from common.learning.settings import TrainingSettings
from common.learning.trainer import discard_checkpoint, round_identity, train
from common.learning.validation import ValidationSet, evaluate
from common.learning.weights import decode_weights, encode_weights
from tests.learning_packets import original_of, random_packet, scene_packet

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(imgsz=64, epochs=24, batch=8, learning_rate=2e-3, device="cpu")


def make_store(packets, settings=SETTINGS):
    store = ResidentStore(CPU, 1 << 24, settings)
    store.add(packets)
    return store


@pytest.fixture(scope="module")
def validation():
    return ValidationSet([original_of(scene_packet(1000 + i)) for i in range(24)], SETTINGS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training that all tests of its outcome share."""
    start = start_weights(SETTINGS)
    work = tmp_path_factory.mktemp("training")
    steps = []
    hooks = TrainerHooks(on_step=lambda *progress: steps.append(progress))
    result = train(make_store([scene_packet(i) for i in range(48)]), SETTINGS, start, work, hooks)
    return start, result, steps, work


def test_the_loss_falls_and_the_curve_has_every_step(trained):
    _, result, _, _ = trained
    assert result.steps == len(result.curve) == 24 * 6
    assert result.epochs == 24
    losses = result.curve.sum(1)
    assert torch.isfinite(losses).all()
    assert losses[-12:].mean() < 0.75 * losses[:12].mean()


def test_the_detector_learns_to_find_objects_on_original_images(trained, validation):
    start, result, _, _ = trained
    before, after = evaluate([load_detector(w) for w in (start, result.weights)], validation, SETTINGS, CPU)
    assert before.map50 < 0.05
    assert after.map50 > 0.3
    assert after.boxes == validation.boxes
    assert len(after.images) == len(validation)


def test_sixteen_bit_weights_detect_as_well(trained, validation):
    _, result, _, _ = trained
    half = decode_weights(encode_weights(result.weights, half=True))
    full, cut = evaluate([load_detector(w) for w in (result.weights, half)], validation, SETTINGS, CPU)
    assert cut.map50_95 == pytest.approx(full.map50_95, abs=0.005)


def test_progress_ends_with_the_last_step(trained):
    _, _, steps, _ = trained
    assert steps[-1][:2] == (144, 144)
    assert all(a[0] < b[0] for a, b in pairwise(steps))


def test_no_pickle_is_written(trained):
    assert not [p for p in trained[3].rglob("*") if p.suffix in (".pt", ".pkl", ".pth")]


def test_evaluation_does_not_depend_on_the_batch(trained, validation):
    detector = load_detector(trained[1].weights)
    one, many = (
        evaluate([detector], validation, SETTINGS.model_copy(update={"batch": size}), CPU)[0]
        for size in (1, 24)
    )
    assert one.map50_95 == pytest.approx(many.map50_95, abs=1e-6)


class Interrupted:
    """Stops after a number of steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left <= 0


SHORT = SETTINGS.model_copy(update={"epochs": 4, "checkpoint_seconds": 0.0})


@pytest.mark.parametrize("stop_after", [4, 6])
def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, stop_after):
    start, packets = start_weights(SHORT), [scene_packet(i) for i in range(16)]
    whole = train(make_store(packets), SHORT, start, tmp_path / "whole")
    part = train(
        make_store(packets), SHORT, start, tmp_path, TrainerHooks(should_stop=Interrupted(stop_after))
    )
    assert part.interrupted
    assert part.steps == stop_after
    done = []
    hooks = TrainerHooks(between_batches=lambda: done.append(1))
    rest = train(make_store(packets), SHORT, start, tmp_path, hooks)
    assert not rest.interrupted
    assert len(done) == 8 - stop_after
    assert rest.steps == whole.steps == 8
    torch.testing.assert_close(rest.curve, whole.curve)
    for name, tensor in whole.weights.state.items():
        torch.testing.assert_close(rest.weights.state[name], tensor)


def test_a_finished_training_is_not_repeated_until_its_checkpoint_is_discarded(tmp_path):
    start, store = start_weights(SHORT), make_store([scene_packet(i) for i in range(8)])
    first = train(store, SHORT, start, tmp_path)
    done = []
    again = train(store, SHORT, start, tmp_path, TrainerHooks(between_batches=lambda: done.append(1)))
    assert not done
    assert again.steps == first.steps
    assert again.seconds == pytest.approx(first.seconds)
    assert all(torch.equal(again.weights.state[k], v) for k, v in first.weights.state.items())
    discard_checkpoint(tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_the_checkpoint_of_another_training_or_a_damaged_one_is_not_used(tmp_path):
    start, store = start_weights(SHORT), make_store([scene_packet(i) for i in range(8)])
    other = SHORT.model_copy(update={"learning_rate": 1e-4})
    assert round_identity(SHORT, start) != round_identity(other, start)
    train(store, other, start, tmp_path)
    done = []
    hooks = TrainerHooks(between_batches=lambda: done.append(1))
    train(store, SHORT, start, tmp_path, hooks)
    assert len(done) == 4
    checkpoint = tmp_path / "checkpoint.safetensors"
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    train(store, SHORT, start, tmp_path, hooks)
    assert len(done) == 8


def test_packets_that_arrive_during_training_are_trained_on(tmp_path):
    store = make_store([scene_packet(i) for i in range(8)])
    arrivals = iter([scene_packet(100 + i) for i in range(16)])

    def arrive():
        store.add([packet] if (packet := next(arrivals, None)) else [])

    result = train(store, SHORT, start_weights(SHORT), tmp_path, TrainerHooks(between_batches=arrive))
    assert len(store) > 8
    # Epochs grow from 1 batch to 2 and more; the number of steps stays what was planned at the start.
    assert result.steps == 4


def test_a_training_that_frames_join_still_ends_at_its_last_learning_rate_and_without_mosaic(
    tmp_path, monkeypatch
):
    settings = SHORT.model_copy(
        update={"epochs": 8, "augmentation": SHORT.augmentation.model_copy(update={"mosaic": 1.0})}
    )
    settings = settings.model_copy(
        update={"augmentation": settings.augmentation.model_copy(update={"close_mosaic": 2})}
    )
    store = make_store([scene_packet(i) for i in range(16)])
    rates, mosaics = [], []
    step = ResidentTrainer.optimizer_step

    def watched(trainer):
        rates.append(trainer.optimizer.param_groups[0]["lr"] / settings.learning_rate)
        mosaics.append(trainer.train_loader.shown[0] is None)
        step(trainer)

    monkeypatch.setattr(ResidentTrainer, "optimizer_step", watched)
    arrivals = [scene_packet(100 + i) for i in range(48)]
    hooks = TrainerHooks(between_batches=lambda: (store.add(arrivals), arrivals.clear()))
    result = train(store, settings, start_weights(settings), tmp_path, hooks)
    # An epoch of 2 steps, one of 8, and 6 of the next.
    assert (result.steps, result.epochs) == (16, 3)
    last = settings.final_learning_rate
    expected = [(1 - done / 16) * (1 - last) + last for done in [0] * 2 + [2] * 8 + [10] * 6]
    assert rates == pytest.approx(expected)
    assert (mosaics[0], mosaics[-1]) == (True, False)


def test_learning_rate_falls_linearly_epoch_by_epoch(tmp_path, monkeypatch):
    rates = []
    step = ResidentTrainer.optimizer_step

    def watched(trainer):
        rates.append(trainer.optimizer.param_groups[0]["lr"] / SHORT.learning_rate)
        step(trainer)

    monkeypatch.setattr(ResidentTrainer, "optimizer_step", watched)
    train(make_store([scene_packet(i) for i in range(16)]), SHORT, start_weights(SHORT), tmp_path)
    last = SHORT.final_learning_rate
    expected = [(1 - epoch / 4) * (1 - last) + last for epoch in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert rates == pytest.approx(expected)


def test_the_steps_and_the_seconds_of_the_settings_end_a_training(tmp_path):
    store, start = make_store([scene_packet(i) for i in range(16)]), start_weights(SHORT)
    limited = SHORT.model_copy(update={"max_steps": 3})
    assert train(store, limited, start, tmp_path / "a").steps == 3
    timed = SHORT.model_copy(update={"epochs": 1000, "max_seconds": 0.5})
    result = train(store, timed, start, tmp_path / "b")
    assert 0.5 <= result.seconds < 20
    assert result.steps < 2000


def test_a_diverging_training_is_one_sentence(tmp_path):
    wild = SHORT.model_copy(update={"learning_rate": 1.0, "optimizer": "SGD", "epochs": 60})
    start = start_weights(wild)
    broken = dict(start.state) | {"model.0.conv.weight": torch.full((16, 3, 3, 3), 1e38)}
    with pytest.raises(LearningError, match="lower learning_rate"):
        train(
            make_store([scene_packet(i) for i in range(8)]),
            wild,
            type(start)(start.model, start.classes, start.imgsz, broken),
            tmp_path,
        )


def test_a_training_that_diverged_leaves_no_checkpoint_to_go_on_from(tmp_path, monkeypatch):
    settings = SHORT.model_copy(update={"epochs": 6})
    step = ResidentTrainer.optimizer_step

    def broken(trainer):
        step(trainer)
        if trainer.epoch == 2:
            torch.nn.init.constant_(trainer.model.model[0].conv.weight, 1e38)

    monkeypatch.setattr(ResidentTrainer, "optimizer_step", broken)
    seen = []
    hooks = TrainerHooks(between_batches=lambda: seen.append((tmp_path / "checkpoint.safetensors").exists()))
    with pytest.raises(LearningError, match="lower learning_rate"):
        train(
            make_store([scene_packet(i) for i in range(8)]),
            settings,
            start_weights(settings),
            tmp_path,
            hooks,
        )
    assert any(seen)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_nothing_to_train_on_is_one_sentence(tmp_path):
    with pytest.raises(LearningError, match="no frame to train on"):
        train(make_store([]), SHORT, start_weights(SHORT), tmp_path)


def test_true_negatives_train_too(tmp_path):
    store = make_store([random_packet(i, width=64, height=64, boxes=[]) for i in range(8)])
    one = SHORT.model_copy(update={"epochs": 1})
    result = train(store, one, start_weights(one), tmp_path)
    assert result.curve[0, 0] == 0
    assert result.curve[0, 1] > 0


def test_validation_counts_boxes_and_leaves_out_unlabelled_frames():
    frames = [original_of(scene_packet(i)) for i in range(3)]
    unlabelled = type(frames[0])("u", frames[0].image, 64, 64)
    made = ValidationSet([*frames, unlabelled], SETTINGS)
    assert len(made) == 3
    assert made.boxes == sum(len(f.boxes) for f in frames)


def test_frames_that_cannot_be_used_are_left_out_and_named():
    good = [original_of(scene_packet(i), f"good {i}") for i in range(3)]
    noise = encode_jpeg(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    cut = dataclasses.replace(good[0], name="cut", image=noise[: len(noise) // 2] + b"\xff\xd9")
    grown = dataclasses.replace(good[0], name="grown", width=65)
    tram = original_of(random_packet(1, width=64, height=64, boxes=[(2, 2, 30, 30)], name="tram"), "tram")
    made = ValidationSet([cut, good[0], tram, grown, *good[1:], cut], SHORT)
    detector = load_detector(start_weights(SHORT))
    (mixed,) = evaluate([detector], made, SHORT.model_copy(update={"batch": 2}), CPU)
    assert [frame.name for frame in made.frames] == ["good 0", "good 1", "good 2"]
    assert len(mixed.images) == len(made.labels) == 3
    assert mixed.boxes == made.boxes == sum(len(frame.boxes) for frame in good)
    for sentence, part in zip(made.left_out, ["'tram'", "'cut'", "'grown'", "'cut'"], strict=True):
        assert part in sentence
    (nothing,) = evaluate([detector], ValidationSet([cut], SHORT), SHORT, CPU)
    assert (nothing.map50_95, nothing.images) == (0, ())


def test_a_set_without_boxes_scores_zero_and_an_empty_one_is_refused():
    negative = original_of(random_packet(1, width=64, height=64, boxes=[]))
    detector = load_detector(start_weights(SHORT))
    (score,) = evaluate([detector], ValidationSet([negative], SHORT), SHORT, CPU)
    assert (score.map50, score.map50_95, score.boxes) == (0, 0, 0)
    with pytest.raises(LearningError, match="no labelled validation image"):
        evaluate([detector], ValidationSet([], SHORT), SHORT, CPU)


def test_a_perfect_detector_scores_one(validation):
    """The labels themselves, handed in as predictions, come back as mAP 1: boxes lie where images lie."""

    class Oracle(torch.nn.Module):
        names = {0: "object"}  # noqa: RUF012
        end2end = False

        def __init__(self):
            super().__init__()
            self.seen = 0

        def forward(self, images):
            rows = torch.zeros(len(images), 5, 8)
            for i in range(len(images)):
                _, boxes = validation.labels[self.seen + i]
                count = len(boxes)
                rows[i, :4, :count] = torch.from_numpy(np.asarray(boxes).T) * images.shape[2]
                rows[i, 4, :count] = 0.9
            self.seen += len(images)
            return rows

    (score,) = evaluate([Oracle()], validation, SETTINGS, CPU)
    assert score.map50_95 == pytest.approx(0.995, abs=0.006)
