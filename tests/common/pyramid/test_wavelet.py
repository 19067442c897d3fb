"""The linear part of the synthesis: invertible at every size, and nearly orthonormal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.pyramid.wavelet import (
    MAX_LEVELS,
    analyse,
    from_colours,
    grid_sizes,
    levels_for,
    synthesise,
)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 50, shape).astype(np.float32))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90))
def test_synthesis_undoes_analysis(height, width):
    planes = noise(3, height, width)
    low, details = analyse(planes)
    torch.testing.assert_close(synthesise(low, details), planes, rtol=0, atol=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_grids_hold_as_many_values_as_the_picture(height, width):
    low, details = analyse(noise(1, height, width))
    assert low.numel() + sum(grid.numel() for level in details for grid in level) == height * width
    assert low.shape[1:] == grid_sizes(height, width)[-1]
    assert len(details) == levels_for(height, width) <= MAX_LEVELS


def test_small_sides_are_not_halved():
    assert [levels_for(side, 4000) for side in (1, 7, 8, 15, 16, 4000)] == [0, 0, 1, 2, 2, MAX_LEVELS]


@pytest.mark.parametrize("place", ["low", *[(level, o) for level in range(4) for o in range(3)]])
def test_functions_have_nearly_unit_norm(place):
    low, details = analyse(torch.zeros(1, 256, 256))
    grid = low if place == "low" else details[place[0]][place[1]]
    grid[0, grid.shape[1] // 2, grid.shape[2] // 2] = 1
    assert 0.8 < float(synthesise(low, details).norm()) < 1.25


def test_a_squared_error_of_the_grids_is_nearly_one_of_the_picture():
    low, details = analyse(torch.zeros(3, 200, 260))
    errors = [noise(*grid.shape, seed=i) for i, grid in enumerate([low, *sum(details, ())])]
    of_levels = [tuple(errors[1 + 3 * i : 4 + 3 * i]) for i in range(len(details))]
    energy = sum(float(e.square().sum()) for e in errors)
    assert 0.9 < float(synthesise(errors[0], of_levels).square().sum()) / energy < 1.1


def test_a_constant_picture_lies_in_the_coarsest_grid_alone():
    low, details = analyse(torch.full((1, 67, 131), 3.0))
    torch.testing.assert_close(low, torch.full_like(low, 3.0 * 2 ** len(details)), rtol=1e-5, atol=0)
    assert max(float(grid.abs().max()) for level in details for grid in level) < 1e-3


def test_a_picture_is_the_same_alone_and_among_others():
    planes = noise(5, 3, 37, 52)
    low, details = analyse(planes)
    together = synthesise(low, details)
    for i in range(5):
        alone = synthesise(low[i], [(a[i], d[i], b[i]) for a, d, b in details])
        assert torch.equal(alone, together[i])


def test_colours_are_orthonormal():
    rgb = noise(3, 8, 9)
    planes = from_colours(rgb, inverse=True)
    torch.testing.assert_close(from_colours(planes), rgb, rtol=0, atol=1e-3)
    torch.testing.assert_close(planes.norm(), rgb.norm())
    grey = from_colours(torch.full((3, 1, 1), 2.0), inverse=True).flatten()
    torch.testing.assert_close(grey, torch.tensor([2 * 3**0.5, 0.0, 0.0]), rtol=0, atol=1e-6)
