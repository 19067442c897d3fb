"""The order of frames is uniform, complete, seeded, and blind to network sizes."""

import torch

from common.learning.resident import ResidentStore
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from tests.learning_packets import random_packet


def make_sampler(frames=23, batch=4, seed=0):
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([random_packet(i) for i in range(frames)])
    return EpochSampler(store, batch, seed)


def numbers(sampler, epoch):
    return torch.cat(list(sampler.epoch(epoch))).tolist()


def test_every_frame_comes_once_an_epoch_and_the_last_batch_is_kept():
    sampler = make_sampler()
    sizes = [len(frames) for frames in sampler.epoch(3)]
    assert sizes == [4, 4, 4, 4, 4, 3]
    assert sampler.batches == 6
    assert sorted(numbers(sampler, 3)) == list(range(23))


def test_the_order_is_repeatable_and_differs_between_epochs_and_seeds():
    assert numbers(make_sampler(), 1) == numbers(make_sampler(), 1)
    assert numbers(make_sampler(), 1) != numbers(make_sampler(), 2)
    assert numbers(make_sampler(), 1) != numbers(make_sampler(seed=1), 1)


def test_the_first_batch_is_a_uniform_draw_of_network_sizes():
    sampler = make_sampler(frames=40, batch=8)
    group = (sampler.store.frame_rows(torch.arange(40))[:, 0] == 0).double()
    share = group.mean()
    drawn = torch.cat([group[next(iter(sampler.epoch(e)))] for e in range(400)])
    # Four standard errors of the mean of 400 batches of 8 without replacement.
    assert abs(drawn.mean() - share) < 4 * (share * (1 - share) / len(drawn)).sqrt()


def test_frames_added_during_an_epoch_wait_for_the_next():
    sampler = make_sampler(frames=8)
    batches = sampler.epoch(0)
    first = next(batches)
    sampler.store.add([random_packet(99)])
    rest = torch.cat(list(batches))
    assert sorted([*first.tolist(), *rest.tolist()]) == list(range(8))
    assert len(numbers(sampler, 1)) == 9


def test_frames_evicted_during_an_epoch_are_left_out():
    sampler = make_sampler(frames=20)
    sampler.store.budget_bytes = sampler.store.nbytes
    batches = sampler.epoch(0)
    next(batches)
    sampler.store.add([random_packet(100 + i) for i in range(5)])
    assert len(sampler.store) < 25
    assert all(bool(sampler.store.resident(frames).all()) for frames in batches)


def test_an_epoch_replays_a_share_of_old_frames_beside_every_new_one():
    sampler = make_sampler(frames=40)
    sampler.replay_share = 0.5
    sampler.store.new_from = 30
    drawn = [numbers(sampler, epoch) for epoch in range(60)]
    assert len(sampler) == 20
    for epoch in drawn:
        assert len(set(epoch)) == 20
        assert set(range(30, 40)) <= set(epoch)
    replayed = [number for epoch in drawn for number in epoch if number < 30]
    assert set(replayed) == set(range(30)), "another draw each epoch"
    assert drawn[0] != drawn[1]


def test_without_new_frames_or_with_few_old_ones_an_epoch_takes_all():
    sampler = make_sampler(frames=12)
    sampler.replay_share = 0.5
    for first in (0, 4, 12):
        sampler.store.new_from = first
        assert sorted(numbers(sampler, 0)) == list(range(12))
