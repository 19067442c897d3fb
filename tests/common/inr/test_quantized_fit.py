"""Fitting rounded weights: bits against error, and what is measured is what is sent."""

import math

import pytest
import torch

from common.bitstream.network_payload import decode_network, encode_network
from common.inr.fit import Samples, fit_round, fresh_stack, join
from common.inr.groups import NetworkGroup
from common.inr.quantized_fit import QuantizedStack, first_steps, fit_quantized
from common.inr.siren import Architecture

SIZE = Architecture(16, 3)


def picture(seed, count=900):
    """Rows of a smooth random picture."""
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(count, 2, generator=generator) * 2 - 1
    wave = torch.rand(2, 3, generator=generator) * 8
    rgb = torch.sin(xy @ wave + torch.rand(3, generator=generator) * 6) * 0.7
    return torch.cat([xy, rgb, torch.ones(count, 1)], 1)


@pytest.fixture(scope="module")
def given():
    return Samples.shuffled([picture(0), picture(1)], torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def fitted(given):
    generator = torch.Generator().manual_seed(3)
    start = join([fresh_stack(SIZE, generator, 30.0) for _ in range(2)])
    return fit_round(start, given, steps=400, pixels=256, learning_rate=1.5e-3, last_share=0.3)


def refit(fitted, given, **kwargs):
    error = given.squared_error(fitted)
    start = QuantizedStack(fitted, first_steps(fitted, given, error))
    options = {"steps": 300, "pixels": 256, "learning_rate": 5e-4, "rate_weight": torch.full((2,), 0.4)}
    return fit_quantized(start, given, **{**options, **kwargs})


def payload_bytes(quantized):
    return [len(encode_network(network)) for network in quantized.networks()]


def test_first_steps_add_the_share_of_the_error_that_they_are_given(fitted, given):
    error = given.squared_error(fitted)
    for share in (0.1, 0.4):
        rounded = QuantizedStack(fitted, first_steps(fitted, given, error, share)).coded().decoded()
        added = (given.squared_error(rounded) / error - 1).tolist()
        assert all(0.2 * share < a < 5 * share for a in added), added


def test_a_larger_rate_weight_gives_fewer_bytes_and_more_error(fitted, given):
    fine = refit(fitted, given, rate_weight=torch.full((2,), 0.1))
    coarse = refit(fitted, given, rate_weight=torch.full((2,), 1.5))
    assert all(c < 0.85 * f for c, f in zip(payload_bytes(coarse), payload_bytes(fine), strict=True))
    assert (given.squared_error(coarse.decoded()) > given.squared_error(fine.decoded())).all()


def test_larger_steps_give_bytes_for_error_and_are_kept_while_weights_settle(fitted, given):
    before = refit(fitted, given)
    shifted = before.shifted(torch.tensor([0.7, 1.4]))
    after = fit_quantized(
        shifted,
        given,
        steps=200,
        pixels=256,
        learning_rate=3e-4,
        rate_weight=torch.full((2,), 0.4),
        learn_steps=False,
    )
    for a, b in zip(after.log_steps, shifted.coded().log_steps, strict=True):
        torch.testing.assert_close(a, b)
    saved = [b - a for b, a in zip(payload_bytes(before), payload_bytes(after), strict=True)]
    assert 0 < saved[0] < saved[1]
    rounded_only = given.squared_error(shifted.coded().decoded())
    assert (given.squared_error(after.decoded()) < rounded_only).all(), "weights settle on the coarser grid"


def test_what_is_measured_is_what_a_receiver_decodes(fitted, given):
    quantized = refit(fitted, given, steps=60)
    mine = quantized.decoded()
    for row, network in enumerate(quantized.networks()):
        theirs = NetworkGroup.pack([decode_network(encode_network(network))]).dequantize()
        for a, b in zip(mine.tensors, theirs.tensors, strict=True):
            assert torch.equal(a[row], b[0])


def test_a_network_that_diverges_leaves_the_others_alone(fitted, given):
    broken = fitted.select(torch.tensor([0, 1]))
    broken.weights[1][0] = float("nan")
    good = refit(fitted, given, steps=60)
    result = refit(broken, given, steps=60)
    errors = given.squared_error(result.decoded())
    assert not math.isfinite(errors[0])
    assert errors[1] == pytest.approx(given.squared_error(good.decoded())[1].item(), rel=0.5)
    assert len(result.networks()) == 2
