"""The fused kernel in triton's interpreter; test_fused_kernel.py runs this file in a process of its own."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from common.inr import fused_kernel
from common.inr.compose import BackgroundPart, ObjectPart, to_bytes
from common.inr.fused import fused_samples
from common.inr.sampled import stacked_samples
from tests import fused_scenes as scenes
from tests.float64_frames import exact_samples


@triton.jit
def sines(x, out, count: tl.constexpr):
    places = tl.arange(0, count)
    tl.store(out + places, fused_kernel._sine(tl.load(x + places)))


@pytest.mark.parametrize("largest", [0.5, 10.0, 1000.0, 4e6])
def test_the_sine_of_half_turns_errs_by_two_roundings(largest):
    x = (torch.rand(1024, generator=torch.Generator().manual_seed(0)) * 2 - 1) * largest
    x[:4] = torch.tensor([0.0, 0.5, -0.5, 1.0])
    out = torch.empty_like(x)
    sines[(1,)](x, out, 1024)
    exact = np.sin(np.pi * np.remainder(x.double().numpy(), 2))
    assert np.abs(out.numpy() - exact).max() < 2.5e-7


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_pixels_are_their_networks_within_a_hundredth_of_a_grey_level(scene):
    sampling = scenes.SCENES[scene]()
    pixels = fused_samples(sampling, scenes.backgrounds(), scenes.objects())
    exact = exact_samples(sampling, scenes.backgrounds(), scenes.objects())
    assert np.abs(pixels.numpy() - exact).max() * 255 < 0.01
    assert (exact != sampling.fill).any(), "something is shown"


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_bytes_are_those_of_the_stacked_path(scene):
    sampling = scenes.SCENES[scene]()
    made = fused_samples(sampling, scenes.backgrounds(), scenes.objects(), as_bytes=True)
    wanted = to_bytes(stacked_samples(sampling, scenes.backgrounds(), scenes.objects()))
    off = (made.int() - wanted.int()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() <= 0.001


def test_a_frame_is_the_same_alone_and_beside_wider_networks():
    sampling, parts, boxes = scenes.letterboxes(), scenes.backgrounds(), scenes.objects()
    together = fused_samples(sampling, parts, boxes)
    wide = ObjectPart(
        scenes.networks(60, 2, 1),
        torch.tensor([1]),
        torch.tensor([[3, 3, 12, 12]]),
        torch.tensor([0.1]),
        torch.tensor([0]),
    )
    beside = fused_samples(sampling, parts, [*boxes, wide])
    assert torch.equal(beside[[0, 2]], together[[0, 2]])
    assert not torch.equal(beside[1], together[1])
    alone = sampling.select(torch.tensor([1]))
    part = BackgroundPart(parts[0].stack, torch.tensor([0]))
    assert torch.equal(fused_samples(alone, [part])[1], together[1])


def test_groups_may_be_empty():
    sampling, parts = scenes.letterboxes(), scenes.backgrounds()
    none = torch.empty(0, dtype=torch.int64)
    nothing = ObjectPart(
        parts[0].stack.select(none), none, none.view(0, 1).expand(0, 4), torch.empty(0), none
    )
    empty = BackgroundPart(parts[0].stack.select(none), none)
    assert torch.equal(fused_samples(sampling, [*parts, empty], [nothing]), fused_samples(sampling, parts))
    blank = fused_samples(sampling.select(none), [], [], as_bytes=True)
    assert blank.shape == (3, 3, 32, 32)
    assert (blank == 114).all()


def test_what_is_no_number_is_black():
    sampling, (part, *_) = scenes.letterboxes().select(torch.tensor([1])), scenes.backgrounds()
    part.stack.biases[-1].fill_(float("nan"))
    made = fused_samples(sampling, [BackgroundPart(part.stack, torch.tensor([0]))], as_bytes=True)
    assert (made[1] == 0).all()
