"""Networks as bytes: every network comes back, what is near its start is short, hostile bytes are refused."""

import contextlib
import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bitstream.fixed_start import fixed_start
from common.bitstream.integer_models import MODEL_CODES, best_model, integer_model
from common.bitstream.network_payload import coded_step, decode_network, encode_network
from common.bitstream.packet import Layer, Network, QuantizedTensor
from common.errors import PacketFormatError


def network(width=6, depth=2, *, bits=(16, 8, 16), step=0.01, spread=1.0, w0=30.0, seed=0, near_start=False):
    """Random integers of a Laplace source; ``near_start``: phases are counted from the fixed start."""
    rng = np.random.default_rng(seed)
    starts = fixed_start(width, depth)
    layers = []
    for layer in range(depth + 1):
        out, fan_in = (width if layer < depth else 3), (width if layer else 2)
        tensors = []
        for place, shape in enumerate(((out, fan_in), (out,))):
            kind = bits[2] if place else bits[1] if layer else bits[0]
            values = np.rint(rng.laplace(scale=spread, size=shape))
            start = starts[2 * layer + place]
            if near_start and start is not None:
                values += np.rint(start / step)
            top = 2 ** (kind - 1) - 1
            tensors.append(QuantizedTensor(values.clip(-top - 1, top).astype(f"i{kind // 8}"), step))
        layers.append(Layer(*tensors))
    return Network(tuple(layers), w0)


def assert_same(a, b):
    assert a.w0 == pytest.approx(b.w0)
    assert len(a.layers) == len(b.layers)
    for x, y in zip(a.layers, b.layers, strict=True):
        for s, t in ((x.weight, y.weight), (x.bias, y.bias)):
            assert s.values.dtype == t.values.dtype
            assert np.array_equal(s.values, t.values)
            assert np.float32(s.scale) == np.float32(t.scale)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 20),
    depth=st.integers(1, 4),
    bits=st.tuples(*[st.sampled_from([8, 16])] * 3),
    step=st.one_of(st.just(0.0), st.floats(2.0**-29, 3, width=32)),
    coded=st.booleans(),
    spread=st.sampled_from([0.01, 0.3, 1, 9, 150, 20_000]),
    w0=st.sampled_from([30.0, 45.5]),
    near_start=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_network_comes_back(width, depth, bits, step, coded, spread, w0, near_start, seed):
    step = coded_step(step) if coded else float(np.float32(step))
    given_network = network(
        width,
        depth,
        bits=bits,
        step=step,
        spread=spread,
        w0=w0,
        seed=seed,
        near_start=near_start and step > 1e-4,
    )
    assert_same(decode_network(encode_network(given_network)), given_network)


@pytest.mark.parametrize("extreme", [-(2**15), 2**15 - 1])
def test_the_ends_of_sixteen_bits_come_back(extreme):
    given_network = network()
    given_network.layers[0].weight.values[:] = extreme
    given_network.layers[0].weight.values[0, 0] = 0
    assert_same(decode_network(encode_network(given_network)), given_network)


def test_a_small_network_pays_little_for_its_description():
    small = network(10, 3, step=coded_step(0.01), spread=0.0)
    assert small.parameters == 283
    assert len(encode_network(small)) <= 3 + 2 * 8, "flags, size, a step and a model a tensor"
    busy = network(10, 3, step=coded_step(0.01), spread=4)
    entropy = np.log2(2 * np.e * 4)
    assert len(encode_network(busy)) <= 283 * entropy / 8 * 1.05 + 24


def test_integers_near_the_fixed_start_take_fewer_bytes():
    step = coded_step(0.002)
    near = network(42, 5, step=step, near_start=True)
    far = network(42, 5, step=step, near_start=True, seed=1)
    for place in range(5):
        far.layers[place].bias.values[:] = far.layers[place].bias.values[::-1]
    far.layers[0].weight.values[:] = far.layers[0].weight.values[::-1]
    assert len(encode_network(near)) < len(encode_network(far)) - 100


def test_a_wider_network_begins_with_the_same_neurons():
    narrow, wide = fixed_start(10, 3), fixed_start(17, 3)
    for a, b in zip(narrow, wide, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert np.array_equal(a, b[:10])


def test_steps_of_a_byte_are_within_five_percent():
    for step in np.geomspace(1.1e-9, 3.6, 200):
        coded = coded_step(step)
        assert coded == pytest.approx(step, rel=0.05)
        assert coded_step(coded) == coded
    assert coded_step(float("nan")) > 0
    assert coded_step(float("inf")) < 4


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_network_or_refused(data):
    try:
        found = decode_network(data)
    except PacketFormatError:
        return
    assert found.parameters <= 8 * len(data) + 1024


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 50))
def test_damaged_networks_are_networks_or_refused(place, value, cut):
    data = bytearray(encode_network(network(8, 2, spread=3)))
    data[place % len(data)] = value
    with contextlib.suppress(PacketFormatError):
        decode_network(bytes(data[: len(data) - cut]))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "ends 3 bytes early"),
        (bytes([0, 255, 32]) + bytes(200), "too few for a network"),
        (bytes([0, 0, 3]), "out of bounds"),
        (bytes([0, 4, 0]), "out of bounds"),
        (bytes([0, 4, 33]), "out of bounds"),
        (bytes([64, 4, 2]), "unknown flags"),
        (bytes([0, 4, 1]) + bytes(4) + bytes([255] * 4), "integer model"),
        (bytes([8, 4, 1, 0, 0, 192, 127]), "not a finite"),
        (bytes([8, 4, 1]) + struct.pack("<f", 3e38), "w0 is .* not a finite number from 0 to 1048576"),
        (bytes([16, 4, 1]) + struct.pack("<f", 3e38), "step is .* not a finite number from 0 to 1048576"),
    ],
)
def test_hostile_descriptions_are_refused_before_anything_is_allocated(data, what):
    with pytest.raises(PacketFormatError, match=what):
        decode_network(data)


def test_an_integer_outside_its_type_is_refused():
    wide = encode_network(network(6, 2, bits=(16, 16, 16), spread=300))
    narrow = bytes([wide[0] & ~7]) + wide[1:]
    with pytest.raises(PacketFormatError, match="outside -128 to 127"):
        decode_network(narrow)


def test_models_hold_what_they_say():
    rng = np.random.default_rng(0)
    for code in range(1, MODEL_CODES, 7):
        model = integer_model(code)
        high = np.arange(2 * model.reach + 1)
        low = rng.integers(0, 1 << model.shift, len(high))
        values = model.merge(high, low)
        again_high, again_low = model.split(values)
        assert np.array_equal(high, again_high)
        assert np.array_equal(low, again_low)
        assert (model.frequencies >= 1).all()
        assert np.array_equal(model.frequencies, model.frequencies[::-1])


@pytest.mark.parametrize("scale", [0.2, 0.7, 3.0, 25.0, 900.0])
@pytest.mark.parametrize("shape", ["laplace", "normal"])
def test_the_best_model_is_close_to_the_entropy(scale, shape):
    values = np.rint(getattr(np.random.default_rng(1), shape)(scale=scale, size=4000)).astype(np.int64)
    counts = np.unique(values, return_counts=True)[1]
    entropy = -(counts * np.log2(counts / 4000)).sum()
    assert integer_model(best_model(values)).bits(values) <= entropy * 1.03 + len(counts) * 6


def test_tables_and_bytes_are_those_of_every_machine():
    tables = hashlib.sha256()
    for code in range(1, MODEL_CODES):
        tables.update(integer_model(code).frequencies.astype("<i8").tobytes())
    starts = hashlib.sha256(b"".join(t.tobytes() for t in fixed_start(42, 5) if t is not None))
    golden = encode_network(network(5, 1, step=coded_step(0.01), spread=2, near_start=True))
    assert tables.hexdigest()[:16] == "8b0b43ca4cd724b3"
    assert starts.hexdigest()[:16] == "b0efb5a8f44c7270"
    assert golden.hex() == "250501bbbbbbbb12b913b3a3d23cc32c882afa042ad15dc7b6af87"
