"""How quickly batches are decoded while a detector trains."""

import time

import pytest
import torch

from common.learning.decode_meter import DecodeMeter


def test_every_batch_is_timed_on_a_cpu():
    meter = DecodeMeter(torch.device("cpu"))
    assert meter.frames_per_second() is None
    assert meter.seconds() == 0.0
    for _ in range(3):
        assert meter.measure(4, lambda: time.sleep(0.01) or "batch") == "batch"
    assert meter.frames == 12
    assert 0.03 <= meter.seconds() < 1.0
    assert meter.frames_per_second() == pytest.approx(12 / meter.seconds())


def test_a_batch_that_fails_is_not_timed():
    meter = DecodeMeter(torch.device("cpu"))
    with pytest.raises(ValueError, match="damaged"):
        meter.measure(4, lambda: (_ for _ in ()).throw(ValueError("damaged")))
    assert meter.frames_per_second() is None
