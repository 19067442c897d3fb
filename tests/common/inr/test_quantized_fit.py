"""Fitting rounded weights: the bits fall, the error lands on target, and what is measured is what is sent."""

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
    fine, _ = refit(fitted, given, rate_weight=torch.full((2,), 0.1))
    coarse, _ = refit(fitted, given, rate_weight=torch.full((2,), 1.5))
    assert all(c < 0.85 * f for c, f in zip(payload_bytes(coarse), payload_bytes(fine), strict=True))
    assert (given.squared_error(coarse.decoded()) > given.squared_error(fine.decoded())).all()


def test_a_led_fit_lands_near_its_target(fitted, given):
    target = given.squared_error(fitted).float() * torch.tensor([4.0, 12.0])
    landed, weights = refit(fitted, given, target=target, steps=500, learning_rate=3e-4)
    off = (given.squared_error(landed.decoded()) / target).log().abs() * 10 / math.log(10)
    assert (off < 1.0).all(), f"{off.tolist()} dB from the target"
    free, _ = refit(fitted, given)
    assert payload_bytes(landed)[1] < payload_bytes(free)[1]
    assert (weights > 0).all()


def test_a_fit_led_to_a_size_has_about_that_size(fitted, given):
    free = payload_bytes(refit(fitted, given)[0])
    wanted = [0.6 * n for n in free]
    budget = 8 * torch.tensor(wanted)
    small, _ = refit(fitted, given, max_bits=budget, steps=500)
    for got, want in zip(payload_bytes(small), wanted, strict=True):
        assert 0.7 * want < got < 1.3 * want


def test_what_is_measured_is_what_a_receiver_decodes(fitted, given):
    quantized, _ = refit(fitted, given, steps=60)
    mine = quantized.decoded()
    for row, network in enumerate(quantized.networks()):
        theirs = NetworkGroup.pack([decode_network(encode_network(network))]).dequantize()
        for a, b in zip(mine.tensors, theirs.tensors, strict=True):
            assert torch.equal(a[row], b[0])


def test_a_network_that_diverges_leaves_the_others_alone(fitted, given):
    broken = fitted.select(torch.tensor([0, 1]))
    broken.weights[1][0] = float("nan")
    good, _ = refit(fitted, given, steps=60)
    result, _ = refit(broken, given, steps=60)
    errors = given.squared_error(result.decoded())
    assert not math.isfinite(errors[0])
    assert errors[1] == pytest.approx(given.squared_error(good.decoded())[1].item(), rel=0.5)
    assert len(result.networks()) == 2
