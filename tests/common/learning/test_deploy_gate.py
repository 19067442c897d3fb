"""The gate deploys what is not worse with confidence, repeats its decisions, and says why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.utils.metrics import ap_per_class

from common.errors import LearningError
from common.learning.gate import decide, mean_average_precision, paired_bootstrap, validation_blocks
from common.learning.settings import GateSettings
from common.learning.validation import Evaluation, ImageStatistics

GATE = GateSettings(resamples=300)


def made_images(seed, images, quality, classes=1, detections=12, boxes=(0, 4)):
    """Statistics of images on which a share ``quality`` of the boxes is found at falling IoU."""
    labels, noise = np.random.default_rng(99), np.random.default_rng(seed)
    result = []
    for _ in range(images):
        targets = labels.integers(0, classes, labels.integers(*boxes)).astype(np.float32)
        tp, cls = [], []
        for target in targets:
            if noise.random() < quality:
                tp.append(noise.random() * 1.2 > np.linspace(0, 0.95, 10))
                cls.append(target)
        while len(tp) < detections:
            tp.append(np.zeros(10, bool))
            cls.append(noise.integers(0, classes))
        tp = np.array(tp)
        conf = noise.random(len(tp)) * 0.5 + 0.5 * tp[:, 0]
        result.append(ImageStatistics(tp, conf, np.array(cls, np.float32), targets))
    return tuple(result)


def evaluation(images):
    score = mean_average_precision(images)
    return Evaluation(score, score, score, score, images)


def reference(images):
    parts = [
        np.concatenate([getattr(i, k) for i in images]) for k in ("tp", "conf", "pred_cls", "target_cls")
    ]
    return float(ap_per_class(*parts)[5].mean())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.floats(0, 1), st.integers(1, 3))
def test_the_score_is_ultralytics_own_for_any_draw_of_images(seed, images, quality, classes):
    made = made_images(seed, images, quality, classes)
    draw = np.random.default_rng(seed).integers(0, images, images)
    drawn = [made[i] for i in draw]
    if not any(len(i.target_cls) for i in drawn):
        return
    counts = np.bincount(draw, minlength=images)
    assert mean_average_precision(made, counts) == pytest.approx(reference(drawn), abs=1e-9)


def test_a_clearly_better_detector_is_deployed():
    decision = decide(evaluation(made_images(1, 80, 0.3)), evaluation(made_images(2, 80, 0.9)), GATE)
    assert decision.deploy
    assert decision.low > 0
    assert decision.reason.startswith("deployed: mAP50-95 0.")


def test_the_same_detector_again_is_deployed_since_it_is_not_worse():
    same = evaluation(made_images(1, 80, 0.6))
    decision = decide(same, same, GATE)
    assert decision.deploy
    assert (decision.low, decision.high) == (0, 0)


def test_a_worse_detector_is_not_deployed():
    decision = decide(evaluation(made_images(1, 80, 0.9)), evaluation(made_images(2, 80, 0.3)), GATE)
    assert not decision.deploy
    assert "does not lie above -0.010" in decision.reason


def test_a_difference_that_may_be_chance_is_not_deployed():
    current, candidate = evaluation(made_images(1, 25, 0.6)), evaluation(made_images(5, 25, 0.65))
    decision = decide(current, candidate, GateSettings(min_boxes=1, resamples=300))
    assert decision.difference > -0.01
    assert decision.low < -0.01
    assert not decision.deploy


def test_too_few_validation_boxes_decide_nothing():
    few = evaluation(made_images(1, 10, 0.9))
    decision = decide(None, few, GATE)
    assert not decision.deploy
    assert f"validation has {few.boxes} boxes, the gate needs 50" in decision.reason


def test_a_detector_at_zero_is_never_deployed_even_where_none_is_in_use():
    nothing = evaluation(made_images(1, 80, 0.0))
    assert nothing.map50_95 == 0
    for current in (None, nothing):
        decision = decide(current, nothing, GateSettings(margin=1.0))
        assert not decision.deploy
        assert "mAP 0" in decision.reason


def test_the_first_detector_that_finds_something_is_deployed():
    assert decide(None, evaluation(made_images(1, 80, 0.5)), GATE).deploy


def test_a_decision_can_be_repeated_and_depends_on_its_seed():
    current, candidate = evaluation(made_images(1, 40, 0.5)), evaluation(made_images(2, 40, 0.6))
    assert paired_bootstrap(current, candidate, GATE) == paired_bootstrap(current, candidate, GATE)
    other = GateSettings(resamples=300, seed=1)
    assert paired_bootstrap(current, candidate, GATE) != paired_bootstrap(current, candidate, other)


def test_detectors_are_only_compared_on_the_same_images():
    a, b = evaluation(made_images(1, 40, 0.5)), evaluation(made_images(1, 41, 0.5))
    with pytest.raises(LearningError, match="same validation images"):
        decide(a, b, GATE)


def test_pairing_makes_the_interval_narrower_than_the_detectors_own_spread():
    current = evaluation(made_images(1, 60, 0.5))
    worse = tuple(
        ImageStatistics(i.tp, i.conf, i.pred_cls, i.target_cls) if n else made_images(3, 1, 0.0)[0]
        for n, i in enumerate(current.images)
    )
    candidate = Evaluation(0.5, mean_average_precision(worse), 0.5, 0.5, worse)
    low, high = paired_bootstrap(current, candidate, GATE)
    alone_low, alone_high = paired_bootstrap(None, current, GATE)
    assert high - low < (alone_high - alone_low) / 2


def placed(images, places):
    score = mean_average_precision(images)
    return Evaluation(score, score, score, score, images, tuple(places))


def test_blocks_are_consecutive_frames_of_one_device():
    images = made_images(1, 8, 0.5)
    places = [("b", 5), ("a", 99), ("a", 80), ("b", 6), ("a", 180), ("a", 181), ("b", 2**64 - 1), ("a", 81)]
    gate = GateSettings(block_frames=20, min_blocks=1)
    blocks = validation_blocks(placed(images, places), gate).tolist()
    members = {tuple(sorted(places[i] for i in range(8) if blocks[i] == b)) for b in set(blocks)}
    assert members == {
        (("a", 80), ("a", 81), ("a", 99)),
        (("a", 180), ("a", 181)),
        (("b", 5), ("b", 6)),
        (("b", 2**64 - 1),),
    }


def test_blocks_are_halved_until_there_are_enough():
    images = made_images(1, 20, 0.5)
    one_block = placed(images, [("a", 80 + n) for n in range(20)])

    def count(least):
        return len(set(validation_blocks(one_block, GateSettings(min_blocks=least)).tolist()))

    assert [count(least) for least in (1, 2, 4, 10, 1000)] == [1, 2, 4, 10, 20]


def test_near_duplicates_do_not_narrow_the_interval():
    current, candidate = made_images(1, 12, 0.5), made_images(2, 12, 0.55)
    repeated = [[image for image in images for _ in range(20)] for images in (current, candidate)]
    places = [("a", 100 * (i // 20) + 80 + i % 20) for i in range(240)]
    alone = paired_bootstrap(evaluation(current), evaluation(candidate), GATE)
    blocks = paired_bootstrap(*(placed(tuple(images), places) for images in repeated), GATE)
    images = paired_bootstrap(*(evaluation(tuple(images)) for images in repeated), GATE)

    def width(interval):
        return interval[1] - interval[0]

    assert width(images) < 0.5 * width(blocks)
    assert width(blocks) == pytest.approx(width(alone), rel=0.35)
