"""Pieces of a decode share the threads that torch may use; pixels do not depend on how many those are."""

import threading

import numpy as np
import pytest
import torch

from common.inr.decode import compose_packets
from common.inr.sine import sine_
from common.inr.workers import run_pieces
from tests.packets import random_packet


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_pixels_do_not_depend_on_the_number_of_threads(threads):
    packets = [random_packet(seed, boxes=3, width=256, height=192) for seed in range(3)]
    pixels = []
    for count in (1, 2, 3):
        threads(count)
        pixels.append(compose_packets(packets))
    assert torch.equal(pixels[0], pixels[1])
    assert torch.equal(pixels[0], pixels[2])


def test_every_piece_is_worked_on_once_and_by_several_threads(threads):
    threads(2)
    both = threading.Barrier(2, timeout=30)
    seen = []

    def work(piece):
        both.wait()
        seen.append((piece, torch.get_num_threads(), torch.is_grad_enabled()))

    run_pieces(work, range(4))
    assert sorted(seen) == [(piece, 1, False) for piece in range(4)]
    assert torch.get_num_threads() == 2, "the caller keeps its threads"


@pytest.mark.parametrize("count", [1, 2])
def test_what_a_piece_raises_reaches_the_caller(threads, count):
    threads(count)

    def work(piece):
        raise KeyError(piece)

    with pytest.raises(KeyError):
        run_pieces(work, range(3))


@pytest.mark.parametrize("largest", [1.0, 30.0, 1e4, 1e8])
def test_the_sine_errs_by_less_than_a_rounding_of_its_argument_would(largest):
    x = (torch.rand(1 << 16, generator=torch.Generator().manual_seed(0)) * 2 - 1) * largest
    exact = np.sin(x.numpy().astype(np.float64))
    assert np.abs(sine_(x).numpy() - exact).max() < 1.2e-7


def test_the_sine_of_what_is_no_number_is_none():
    assert sine_(torch.tensor([float("inf"), float("nan"), 0.0])).isnan().tolist() == [True, True, False]
