"""How far a detector agrees with labels: the share of boxes that it finds, each with its own class."""

import pytest
import torch

from common.learning.agreement import recall
from common.learning.batches import decode_batch
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from tests.learning_packets import random_packet

SETTINGS = TrainingSettings(imgsz=64, batch=2, classes=("object", "car"))


class Seer:
    """Stands for a detector that sees the labels, changed by ``change``, as (boxes, 6) x, y, w, h, scores."""

    def __init__(self, store, change=lambda rows: rows):
        self._store, self._change, self._next = store, change, 0

    def to(self, device):
        return self

    float = eval = lambda self: self

    def __call__(self, images):
        numbers = self._store.numbers[self._next : self._next + len(images)]
        self._next += len(images)
        batch = decode_batch(self._store, numbers, SETTINGS.imgsz)
        answers = torch.zeros(len(images), 6, 8)
        for image in range(len(images)):
            mine = batch["batch_idx"] == image
            scores = torch.nn.functional.one_hot(batch["cls"][mine, 0].long(), 2) * 0.9
            rows = self._change(torch.cat([batch["bboxes"][mine] * SETTINGS.imgsz, scores], 1))
            answers[image, :, : len(rows)] = rows.T
        return answers


@pytest.fixture
def store():
    made = ResidentStore("cpu", 1 << 24, SETTINGS)
    boxes = [(2, 2, 20, 20), (25, 10, 45, 30)]
    made.add([random_packet(n, boxes=boxes, name=("object", "car")[n % 2]) for n in range(3)])
    made.add([random_packet(9, boxes=[])])
    return made


def agreement(store, change=lambda rows: rows):
    return recall(Seer(store, change), store, store.numbers, SETTINGS)


def test_a_detector_that_finds_every_box_agrees_wholly(store):
    assert agreement(store) == 1.0


def test_a_box_of_another_class_is_not_found(store):
    assert agreement(store, lambda rows: rows[:, [0, 1, 2, 3, 5, 4]]) == 0.0


def test_one_box_of_two_is_half(store):
    assert agreement(store, lambda rows: rows[:1]) == 0.5


def test_a_box_that_overlaps_by_less_than_half_or_is_doubted_is_not_found(store):
    assert agreement(store, lambda rows: rows + torch.tensor([8.0, 8, 0, 0, 0, 0])) == 0.0
    assert agreement(store, lambda rows: rows * torch.tensor([1.0, 1, 1, 1, 0.2, 0.2])) == 0.0


def test_without_boxes_there_is_nothing_to_agree_with(store):
    assert recall(Seer(store), store, store.numbers[:0], SETTINGS) is None
