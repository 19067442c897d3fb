"""A full store gives up what is old, easy and common first, and never all that is old."""

import numpy as np
import pytest

from common.learning.settings import KeepSettings
from common.learning.usefulness import Usefulness


def made(count, classes=lambda number: (0,), **settings):
    weights = {"recency": 0, "hardness": 0, "rarity": 0, "protected_share": 0} | settings
    useful = Usefulness(KeepSettings(**weights), seed=3)
    for number in range(count):
        useful.arrived(number, classes(number))
    return useful


def test_by_recency_alone_the_oldest_go():
    assert made(10, recency=1).least(4) == [0, 1, 2, 3]


def test_hard_frames_stay_and_those_never_trained_on_count_as_hardest():
    useful = made(6, hardness=1)
    useful.learned({0: 5.0, 1: 0.1, 2: 3.0, 3: 0.2})
    assert useful.least(2) == [1, 3]
    assert set(useful.least(4)) == {0, 1, 2, 3} - ({0} - {0})


def test_a_loss_is_an_average_that_follows_the_newest():
    useful = made(1)
    for loss in (4.0, 2.0, float("nan")):
        useful.learned({0: loss, 99: 1.0})
    assert useful.loss(0) == pytest.approx(3.0)
    useful.arrived(0, (1,))
    assert useful.loss(0) is None, "the loss was that of the labels before"


def test_frames_of_rare_classes_stay_and_a_frame_counts_by_its_rarest():
    useful = made(20, lambda n: (0, 1) if n == 7 else () if n == 9 else (0,), rarity=1)
    assert {7, 9}.isdisjoint(useful.least(18))


def test_the_protected_are_a_uniform_sample_of_all_that_ever_came():
    useful = made(0, recency=1, protected_share=0.5)
    for number in range(3000):
        useful.arrived(number, (0,))
        if len(useful) > 200:
            useful.gone(useful.least(25))
    kept = np.array(sorted(useful._frames))
    # Half of them are the newest; the others are spread over all time.
    old = kept[kept < 2850]
    assert 60 <= len(old) <= 110
    assert abs(old.mean() - 1450) < 4 * 2850 / np.sqrt(12 * len(old))


def test_nothing_but_protected_frames_still_makes_room():
    assert len(made(10, protected_share=1.0).least(4)) == 4
    assert made(3).least(9) == [0, 1, 2]


def test_a_frame_whose_labels_were_corrected_counts_as_never_trained_on():
    useful = made(3)
    useful.learned({0: 0.5, 1: 0.7})
    useful.arrived(0, (1,))
    assert (useful.loss(0), useful.loss(1)) == (None, 0.7)
