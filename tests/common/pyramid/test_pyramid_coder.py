"""Integers survive the range coder; damaged bytes are refused, quickly and within bounds."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bitstream import Pyramid
from common.errors import PacketFormatError
from common.pyramid.coder import MAX_MAGNITUDE, decode_grids, encode_grids, grid_states
from common.pyramid.decoder import pyramid_pixels
from common.pyramid.grids import Grids, region_size
from common.pyramid.model import ESCAPE, STATES, default_model
from common.pyramid.sparse import scatter, sparse_grids
from tests.raster_packets import picture, pyramid_of


def random_grids(height, width, *, top, density, seed):
    rng = np.random.default_rng(seed)
    grids = Grids.zeros(height, width)
    for grid in (grids.low, *sum(grids.details, ())):
        grid[...] = rng.integers(-top, top + 1, grid.shape) * (rng.random(grid.shape) < density)
    return grids


def equal(a, b):
    return np.array_equal(a.low, b.low) and all(
        np.array_equal(x, y)
        for one, other in zip(a.details, b.details, strict=True)
        for x, y in zip(one, other, strict=True)
    )


sizes = st.one_of(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.just(1), st.integers(1, 300)),
    st.tuples(st.integers(1, 300), st.just(1)),
)


@settings(max_examples=60, deadline=None)
@given(
    sizes,
    st.sampled_from([1, 3, ESCAPE - 1, ESCAPE, 100, 70_000, MAX_MAGNITUDE]),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.booleans(),
    st.floats(2**-7, 2000, width=32),
    st.integers(0, 99),
)
def test_grids_of_any_size_survive_the_bytes(size, top, density, residual, step, seed):
    model = default_model()
    grids = random_grids(*size, top=top, density=density, seed=seed)
    data = encode_grids(grids, model, step, residual)
    again = decode_grids(data, *size, model, step, residual)
    assert equal(again, grids)
    assert region_size(again) == size
    assert encode_grids(again, model, step, residual) == data


def test_nothing_costs_next_to_nothing():
    assert len(encode_grids(Grids.zeros(360, 640), default_model(), 50.0, True)) < 40


def test_integers_out_of_bounds_are_not_written():
    grids = Grids.zeros(9, 9)
    grids.low[0, 0, 0] = MAX_MAGNITUDE + 1
    with pytest.raises(PacketFormatError, match="the step is too small"):
        encode_grids(grids, default_model(), 1.0, False)


def test_the_states_are_those_under_which_the_integers_are_coded():
    grids = random_grids(40, 50, top=2, density=0.1, seed=1)
    model = default_model()
    bits = 0.0
    for (level, colour, orientation), states in grid_states(grids, model, 50.0, False).items():
        assert states.min() >= 0
        assert states.max() < STATES
        sizes_ = np.abs(grids.details[level][orientation][colour])
        bits += float(model.bits[states, np.minimum(sizes_, ESCAPE)].sum()) + np.count_nonzero(sizes_)
    coarse = Grids(grids.low, Grids.zeros(40, 50).details)
    rest = len(encode_grids(coarse, model, 50.0, False))
    assert abs(len(encode_grids(grids, model, 50.0, False)) - rest - bits / 8) < 0.02 * bits / 8 + 12


@settings(max_examples=60, deadline=None)
@given(sizes, st.binary(max_size=2000), st.booleans())
def test_any_bytes_are_grids_or_refused(size, data, residual):
    try:
        grids = decode_grids(data, *size, default_model(), 50.0, residual)
    except PacketFormatError:
        return
    assert region_size(grids) == size


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 255))
def test_damaged_pyramids_decode_to_something_or_are_refused(cut, place, flip):
    pyramid = pyramid_of(picture(40, 60) / 255 - 0.5, 20, residual=False)
    data = bytearray(pyramid.data)
    data[place % len(data)] ^= flip
    for wrong in (bytes(data), pyramid.data[: cut % len(pyramid.data)]):
        try:
            pixels = pyramid_pixels(Pyramid(pyramid.model, pyramid.step, wrong), 40, 60, residual=False)
        except PacketFormatError:
            continue
        assert pixels.shape == (3, 40, 60)


@pytest.mark.parametrize("step", [1e-38, 1.0, 3e38])
def test_integers_survive_any_step_that_a_packet_may_state(step):
    step = float(np.float32(step))
    grids = random_grids(16, 16, top=3, density=0.5, seed=0)
    data = encode_grids(grids, default_model(), step, True)
    assert equal(decode_grids(data, 16, 16, default_model(), step, True), grids)


def test_the_costliest_integers_take_a_second_or_so():
    grids = random_grids(500, 500, top=MAX_MAGNITUDE, density=1.0, seed=0)
    data = encode_grids(grids, default_model(), 50.0, False)
    begin = time.process_time()
    decode_grids(data, 500, 500, default_model(), 50.0, False)
    # 0.5 s on one core of 2024; one by one they would take 20.
    assert time.process_time() - begin < 4


def test_memory_is_bounded_by_the_region_whatever_its_integers():
    region = 400, 400
    values = 3 * region[0] * region[1]
    data = encode_grids(
        random_grids(*region, top=MAX_MAGNITUDE, density=1.0, seed=0), default_model(), 50.0, False
    )
    model = default_model()
    tracemalloc.start()
    grids = decode_grids(data, *region, model, 50.0, False)
    with pytest.raises(PacketFormatError, match="larger integers than a picture can have"):
        sparse_grids(grids, *region)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * values


def test_a_region_above_the_limit_is_refused_before_anything_is_allocated():
    pyramid = Pyramid(default_model().id, 50.0, b"")
    with pytest.raises(PacketFormatError, match="above the limit"):
        pyramid_pixels(pyramid, 4097, 4097, residual=False)


@settings(max_examples=60, deadline=None)
@given(
    sizes, st.sampled_from([1, 127, 128, 255, 400]), st.sampled_from([0.001, 0.05, 0.5]), st.integers(0, 99)
)
def test_the_sparse_form_holds_every_integer(size, top, density, seed):
    grids = random_grids(*size, top=top, density=density, seed=seed)
    other = random_grids(*size, top=3, density=density, seed=seed + 1)
    forms = [sparse_grids(each, *size) for each in (grids, other, grids)]
    integers, _ = scatter(forms)
    wanted = [
        np.concatenate([g.reshape(-1) for g in (each.low, *sum(reversed(each.details), ()))])
        for each in (grids, other, grids)
    ]
    np.testing.assert_array_equal(integers.numpy(), np.concatenate(wanted))


def test_the_sparse_form_takes_two_bytes_an_integer():
    grids = random_grids(100, 100, top=3, density=0.05, seed=0)
    nonzero = sum(int(np.count_nonzero(g)) for g in (grids.low, *sum(grids.details, ())))
    assert sparse_grids(grids, 100, 100).nbytes <= 2.1 * nonzero
