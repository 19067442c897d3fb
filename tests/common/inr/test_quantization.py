"""Quantization: integers and steps that a receiver turns back into the same networks."""

import numpy as np
import pytest
import torch

from common.inr.groups import NetworkGroup, group_key
from common.inr.quantize import BitWidths, quantize, unpack
from common.inr.siren import Architecture, SirenStack


def stack_of(count=3, width=9, depth=2):
    return SirenStack.initialise(Architecture(width, depth), count, torch.Generator().manual_seed(0))


def test_bits_go_where_they_are_said_to():
    group = quantize(stack_of(), BitWidths(first=16, weights=8, biases=16))
    assert [v.dtype for v in group.values] == [torch.int16, torch.int16, *[torch.int8, torch.int16] * 2]


@pytest.mark.parametrize("bits", [8, 16])
def test_the_error_is_at_most_half_a_step_inside_the_range(bits):
    stack = stack_of()
    group = quantize(stack, BitWidths(bits, bits, bits))
    top = 2 ** (bits - 1) - 1
    for index, (before, after) in enumerate(zip(stack.tensors, group.dequantize().tensors, strict=True)):
        step = group.scales[:, index, None, None]
        inside = before.abs() <= top * step
        assert inside.float().mean() > 0.5
        assert ((before - after).abs() <= step * 0.5001)[inside].all()


def test_sixteen_bits_are_finer_than_eight():
    stack = stack_of()
    errors = [
        sum(
            (a - b).square().sum()
            for a, b in zip(stack.tensors, quantize(stack, w).dequantize().tensors, strict=True)
        )
        for w in (BitWidths(8, 8, 8), BitWidths(16, 16, 16))
    ]
    assert errors[1] < errors[0] / 1000


def test_unpacked_networks_pack_into_the_same_group():
    group = quantize(stack_of(), BitWidths())
    networks = unpack(group)
    assert {group_key(n) for n in networks} == {group.key}
    again = NetworkGroup.pack(networks)
    assert all(torch.equal(a, b) for a, b in zip(group.values, again.values, strict=True))
    assert torch.equal(group.scales, again.scales)


def test_zeros_stay_zero():
    stack = stack_of(1)
    stack.biases[0].zero_()
    restored = quantize(stack, BitWidths()).dequantize()
    assert not restored.biases[0].any()
    assert all(np.isfinite(t.numpy()).all() for t in restored.tensors)


def test_a_group_refuses_other_sizes():
    small, large = quantize(stack_of(), BitWidths()), quantize(stack_of(width=10), BitWidths())
    with pytest.raises(ValueError, match="cannot put"):
        small.extend(large)
    with pytest.raises(ValueError, match="one size"):
        NetworkGroup.pack([*unpack(small), *unpack(large)])
    count = len(small)
    small.extend(quantize(stack_of(2), BitWidths()))
    assert len(small) == count + 2


def test_dequantize_gathers_rows_in_order():
    group = quantize(stack_of(), BitWidths())
    whole, some = group.dequantize(), group.dequantize(torch.tensor([2, 0]))
    assert torch.equal(some.weights[1][0], whole.weights[1][2])
    assert torch.equal(some.weights[1][1], whole.weights[1][0])
