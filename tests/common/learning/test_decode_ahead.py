"""The next batch is made beside the step on the present one, and nothing is read while the store changes."""

import threading
from dataclasses import dataclass, field

import pytest
import torch

from common.learning.batches import decode_views
from common.learning.decode_ahead import DecodeAhead
from common.learning.detector import start_weights
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.resident_loader import ResidentLoader
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.trainer import train
from tests.learning_packets import random_packet

SETTINGS = TrainingSettings(imgsz=64, batch=4, epochs=2, device="cpu")
SOON = 10.0


def make_store(count=10):
    store = ResidentStore("cpu", 1 << 24, SETTINGS)
    store.add([random_packet(seed) for seed in range(count)])
    return store


def test_everything_is_made_once_and_in_order():
    assert list(DecodeAhead(lambda n: n * n).each(range(5))) == [0, 1, 4, 9, 16]
    assert list(DecodeAhead(str).each([])) == []


def test_the_next_is_made_while_the_present_one_is_in_use():
    made = [threading.Event() for _ in range(3)]
    found = DecodeAhead(lambda n: made[n].set() or n).each(range(3))
    assert next(found) == 0
    assert made[1].wait(SOON)
    assert not made[2].is_set()
    assert list(found) == [1, 2]


def test_the_next_item_is_asked_for_when_the_one_before_is_made():
    made = []

    def items():
        for n in range(4):
            assert made == list(range(n))
            yield n

    assert list(DecodeAhead(lambda n: made.append(n) or n).each(items())) == [0, 1, 2, 3]


def test_after_settling_the_thread_does_nothing():
    go_on, done = threading.Event(), []

    def make(n):
        if n == 1:
            go_on.wait(SOON)
        done.append(n)

    ahead = DecodeAhead(make)
    ahead.settle()
    found = ahead.each(range(3))
    next(found)
    threading.Timer(0.05, go_on.set).start()
    ahead.settle()
    assert done == [0, 1]
    assert len(list(found)) == 2


def test_an_error_reaches_whoever_asks_for_the_batch():
    found = DecodeAhead(lambda n: 1 // n).each([1, 0])
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_batches_are_the_same_with_and_without():
    store, batches = make_store(), []
    for ahead in (True, False):
        settings = SETTINGS.model_copy(update={"decode_ahead": ahead})
        loader = ResidentLoader(EpochSampler(store, 4, 0), settings, settings.augmentation)
        batches.append([(batch, loader.shown, loader.left) for batch in loader])
    assert [left for _, _, left in batches[0]] == [2, 1, 0]
    for (one, shown, left), (other, *rest) in zip(*batches, strict=True):
        assert [shown, left] == rest
        assert shown == tuple(int(name.removeprefix("frame")) for name in one["im_file"])
        assert torch.equal(one["img"], other["img"])
        assert torch.equal(one["bboxes"], other["bboxes"])


@dataclass
class Watched:
    """A decoder that knows whether it is at work, and in which threads it was."""

    busy: bool = False
    threads: set[str] = field(default_factory=set)

    def __call__(self, store, views, imgsz, *, supersample=1):
        self.busy = True
        self.threads.add(threading.current_thread().name)
        batch = decode_views(store, views, imgsz, supersample=supersample)
        self.busy = False
        return batch


@pytest.mark.parametrize("ahead", [True, False])
def test_the_store_is_not_read_while_hooks_may_change_it(tmp_path, ahead):
    decode, seen = Watched(), []
    hooks = TrainerHooks(between_batches=lambda: seen.append(decode.busy))
    settings = SETTINGS.model_copy(update={"decode_ahead": ahead})
    train(make_store(), settings, start_weights(settings), tmp_path, hooks, decode)
    assert seen == [False] * 6
    assert (threading.main_thread().name in decode.threads) != ahead
