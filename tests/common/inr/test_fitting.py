"""Fitting: many networks at once, each as if it were alone."""

import pytest
import torch

from common.inr.fit import Samples, fit_round, join, widen
from common.inr.siren import Architecture, SirenStack

SIZE = Architecture(12, 3)


def picture(count, seed):
    """Rows of a smooth random picture of ``count`` pixels."""
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(count, 2, generator=generator) * 2 - 1
    wave = torch.rand(2, 3, generator=generator) * 8
    rgb = torch.sin(xy @ wave + torch.rand(3, generator=generator) * 6)
    return torch.cat([xy, rgb, torch.ones(count, 1)], 1)


def fresh(count, seed=0, size=SIZE):
    return SirenStack.initialise(size, count, torch.Generator().manual_seed(seed))


def samples(*parts):
    return Samples.shuffled(parts, torch.Generator().manual_seed(1))


def fit(stack, given, steps=150, **kwargs):
    return fit_round(stack, given, steps=steps, pixels=128, learning_rate=1.5e-3, **kwargs)


def test_fitting_lowers_the_error_of_every_network():
    given = samples(picture(600, 0), picture(900, 1), picture(70, 2))
    start = fresh(3)
    before, after = given.squared_error(start), given.squared_error(fit(start, given))
    assert (after < 0.1 * before).all()


def test_networks_of_a_stack_are_independent():
    given = samples(picture(512, 0), picture(512, 1))
    start = fresh(2)
    together = fit(start, given, steps=30)
    for row in range(2):
        only = torch.tensor([row])
        alone = fit(start.select(only), given.select(only), steps=30)
        for a, b in zip(together.select(only).tensors, alone.tensors, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_start_is_not_changed():
    start = fresh(1)
    copies = [t.clone() for t in start.tensors]
    fit(start, samples(picture(200, 0)), steps=5)
    assert all(torch.equal(a, b) for a, b in zip(start.tensors, copies, strict=True))


def test_an_epoch_sees_every_pixel_once():
    given = samples(picture(256, 0), picture(256, 1))
    seen = torch.cat([given.batch(step, 64)[0] for step in range(4)], 2)
    for row in range(2):
        assert len(torch.unique(seen[row].T, dim=0)) == 256


def test_a_small_network_of_a_group_repeats_its_pixels():
    coordinates, targets = samples(picture(10, 0), picture(100, 1)).batch(3, 64)
    assert coordinates.shape == (2, 2, 64)
    assert targets.shape == (2, 3, 64)
    assert len(torch.unique(coordinates[0].T, dim=0)) == 10


def test_squared_error_counts_only_marked_pixels():
    rows = picture(1500, 0)
    rows[::3, 5] = 0
    stack = fresh(1)
    given = samples(rows)
    marked = rows[rows[:, 5] == 1]
    expected = (stack.forward(marked[:, :2].T.contiguous())[0].T - marked[:, 2:5]).square().mean()
    assert given.squared_error(stack).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_tick_ends_a_round_early_and_annealed():
    given = samples(picture(500, 0))
    calls = []

    def tick(done):
        calls.append(done)
        return 60

    short = fit(fresh(1), given, steps=10_000, tick=tick)
    assert calls[-1] <= 60
    assert given.squared_error(short) < 0.5 * given.squared_error(fresh(1))


def test_widening_keeps_the_function():
    stack = fresh(3)
    wider = widen(stack, Architecture(20, 3), torch.Generator().manual_seed(5))
    xy = torch.rand(2, 300) * 2 - 1
    torch.testing.assert_close(wider.forward(xy), stack.forward(xy), rtol=0, atol=2e-6)
    given = samples(*(picture(300, s) for s in range(3)))
    fitted = fit(wider, given)
    assert all(w[:, -1].abs().sum() > 0 for w in fitted.weights[1:]), "new neurons take part"
    assert (given.squared_error(fitted) < given.squared_error(stack)).all()


@pytest.mark.parametrize("size", [Architecture(8, 3), Architecture(20, 4)])
def test_widening_refuses_other_shapes(size):
    with pytest.raises(ValueError, match="cannot widen 12x3"):
        widen(fresh(1), size, torch.Generator())


def test_join_keeps_the_order():
    first, second = fresh(1, 1), fresh(2, 2)
    both = join([first, second])
    assert both.count == 3
    assert torch.equal(both.weights[2][2], second.weights[2][1])
