"""Batches decode to the pixels of their frames, in order, letterboxed, whatever the grouping."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox

from common.inr.compose import BackgroundPart, Canvas, compose, to_bytes
from common.learning.batches import decode_batch
from common.learning.letterbox import FILL, letterbox_content
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from tests.learning_packets import random_packet


@pytest.fixture(scope="module")
def store():
    made = ResidentStore("cpu", 1 << 24, TrainingSettings())
    made.add([random_packet(i, width=40 + 4 * (i % 5), height=32 + 6 * (i % 4)) for i in range(16)])
    return made


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(list(range(16))), cut=st.integers(1, 15))
def test_pixels_and_boxes_do_not_depend_on_batch_order_or_grouping(store, order, cut):
    alone = [decode_batch(store, torch.tensor([n]), 64) for n in range(16)]
    for part in (order[:cut], order[cut:]):
        batch = decode_batch(store, torch.tensor(part), 64)
        for place, number in enumerate(part):
            mine = batch["batch_idx"] == place
            assert torch.equal(batch["img"][place], alone[number]["img"][0])
            assert torch.equal(batch["bboxes"][mine], alone[number]["bboxes"])


def test_the_batch_is_what_ultralytics_takes(store):
    batch = decode_batch(store, torch.tensor([3, 1]), 64)
    assert batch["img"].shape == (2, 3, 64, 64)
    assert batch["img"].dtype == torch.uint8
    labels = len(batch["batch_idx"])
    assert batch["cls"].shape == (labels, 1)
    assert batch["bboxes"].shape == (labels, 4)
    assert batch["im_file"] == ["frame3", "frame1"]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([64, 160, 640]))
def test_the_frame_lies_where_ultralytics_letterbox_puts_it(height, width, imgsz):
    if max(height, width) > 40 * min(height, width):
        return
    top, left, h, w = letterbox_content(torch.tensor([[height, width]]), imgsz)[0].tolist()
    reference = LetterBox((imgsz, imgsz))(image=np.full((height, width, 3), 255, np.uint8))
    rows, columns = (
        (reference[..., 0] == 255).any(1).nonzero()[0],
        (reference[..., 0] == 255).any(0).nonzero()[0],
    )
    assert (top, left, h, w) == (rows[0], columns[0], len(rows), len(columns))


def test_boxes_are_placed_with_the_frame():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([random_packet(0, width=64, height=32, boxes=[(0, 0, 64, 32), (16, 8, 32, 24)])])
    batch = decode_batch(store, torch.tensor([0]), 64)
    # A 64x32 frame in a square of 64 has 16 rows of grey above and below.
    expected = [[0.5, 0.5, 1.0, 0.5], [24 / 64, (16 + 16) / 64, 16 / 64, 16 / 64]]
    torch.testing.assert_close(batch["bboxes"], torch.tensor(expected))
    assert (batch["img"][0, :, :16] == FILL).all()
    assert (batch["img"][0, :, 48:] == FILL).all()
    assert (batch["img"][0, :, 16:48] != FILL).any()


def test_at_coded_size_the_batch_holds_the_packets_own_pixels():
    packet = random_packet(5, width=64, height=64, boxes=[])
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([packet])
    group, _ = store.group(0)
    canvas = Canvas.full(64, 64, torch.tensor([[64, 64]]))
    own = to_bytes(compose(canvas, [BackgroundPart(group.dequantize(), torch.tensor([0]))]))
    assert torch.equal(decode_batch(store, torch.tensor([0]), 64)["img"], own)


def test_supersampling_averages_the_finer_image():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([random_packet(0, width=64, height=64)])
    fine = decode_batch(store, torch.tensor([0]), 128)["img"].float()
    soft = decode_batch(store, torch.tensor([0]), 64, supersample=2)["img"].float()
    assert (torch.nn.functional.avg_pool2d(fine, 2) - soft).abs().max() <= 1


def test_a_frame_without_boxes_gives_an_image_without_labels():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([random_packet(0, boxes=[])])
    batch = decode_batch(store, torch.tensor([0]), 64)
    assert batch["cls"].shape == (0, 1)
    assert batch["bboxes"].shape == (0, 4)
