"""Stacks of networks: one tensor a layer, every network as if it were alone."""

import math

import numpy as np
import pytest
import torch

from common.inr.siren import Architecture, SirenStack


def stack_of(count, width=8, depth=3, seed=0):
    return SirenStack.initialise(Architecture(width, depth), count, torch.Generator().manual_seed(seed))


def by_hand(stack, row, xy):
    """The network ``row`` at points (P, 2), in float64, straight from the formula."""
    x = np.asarray(xy, np.float64)
    for w, b in zip(stack.weights[:-1], stack.biases[:-1], strict=True):
        x = np.sin(stack.w0 * (x @ w[row].double().numpy().T + b[row, :, 0].double().numpy()))
    return x @ stack.weights[-1][row].double().numpy().T + stack.biases[-1][row, :, 0].double().numpy()


@pytest.mark.parametrize(
    ("width", "depth", "parameters"),
    [(28, 10, 7479), (10, 3, 283), (15, 3, 573), (17, 5, 1329), (24, 5, 2547)],
)
def test_parameters_are_those_of_the_papers(width, depth, parameters):
    assert Architecture(width, depth).parameters == parameters
    assert sum(t[0].numel() for t in stack_of(1, width, depth).tensors) == parameters


def test_initialisation_stays_in_its_bounds():
    stack = stack_of(50, 20, 3)
    assert stack.weights[0].abs().max() <= 1 / 2
    for weight in stack.weights[1:]:
        bound = math.sqrt(6 / 20) / 30
        assert 0.95 * bound < weight.abs().max() <= bound


def test_forward_is_the_formula():
    stack = stack_of(3)
    xy = torch.rand(3, 2, 40) * 2 - 1
    out = stack.forward(xy)
    for row in range(3):
        np.testing.assert_allclose(out[row].T.numpy(), by_hand(stack, row, xy[row].T), atol=2e-6)


def test_shared_coordinates_equal_repeated_ones():
    stack = stack_of(3)
    xy = torch.rand(2, 40) * 2 - 1
    torch.testing.assert_close(stack.forward(xy), stack.forward(xy.repeat(3, 1, 1)), rtol=0, atol=0)


def test_select_gathers_in_order_and_repeats():
    stack = stack_of(4)
    chosen = stack.select(torch.tensor([2, 0, 2]))
    assert chosen.count == 3
    assert torch.equal(chosen.weights[1][0], stack.weights[1][2])
    assert torch.equal(chosen.biases[0][1], stack.biases[0][0])
