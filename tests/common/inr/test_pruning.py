"""Pruning: the smallest weights of a network become zero and stay there."""

import torch

from common.inr.fit import Samples, fit_round
from common.inr.pruning import apply_masks, dynamic_share, magnitude_masks
from common.inr.siren import Architecture, SirenStack


def stack_of(count=2):
    return SirenStack.initialise(Architecture(12, 3), count, torch.Generator().manual_seed(0))


def zeros(stack, row):
    weights = torch.cat([w[row].flatten() for w in stack.weights])
    return float((weights == 0).float().mean())


def test_each_network_loses_its_own_share():
    stack = stack_of()
    pruned = apply_masks(stack, magnitude_masks(stack, torch.tensor([0.2, 0.5])))
    assert abs(zeros(pruned, 0) - 0.2) < 0.01
    assert abs(zeros(pruned, 1) - 0.5) < 0.01
    assert all(torch.equal(a, b) for a, b in zip(pruned.biases, stack.biases, strict=True))


def test_the_smallest_weights_of_a_layer_go_first():
    stack = stack_of(1)
    pruned = apply_masks(stack, magnitude_masks(stack, torch.tensor([0.3])))
    for before, after in zip(stack.weights, pruned.weights, strict=True):
        gone, kept = before[after == 0].abs(), before[after != 0].abs()
        assert not len(gone) or gone.max() <= kept.min()


def test_nothing_is_pruned_at_a_share_of_zero():
    stack = stack_of(1)
    assert all(mask.all() for mask in magnitude_masks(stack, torch.zeros(1)))


def test_pruned_weights_stay_zero_while_the_others_are_refitted():
    rows = torch.rand(300, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    rows[:, 5] = 1
    given = Samples.shuffled([rows, rows], torch.Generator().manual_seed(2))
    stack = stack_of()
    masks = magnitude_masks(stack, torch.tensor([0.4, 0.4]))
    pruned = apply_masks(stack, masks)
    refitted = fit_round(pruned, given, steps=80, pixels=128, learning_rate=1e-3, masks=masks)
    assert zeros(refitted, 0) == zeros(pruned, 0)
    assert (given.squared_error(refitted) < given.squared_error(pruned)).all()


def test_the_dynamic_share_grows_with_the_psnr():
    shares = dynamic_share(torch.tensor([20.0, 35.0, 37.5, 40.0, 50.0]))
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.2, 0.3, 0.4, 0.4]))
