"""The shared model: what is shipped is usable and small, and what is malformed is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from common.errors import PacketFormatError
from common.pyramid import model as module
from common.pyramid.contexts import BAND_FEATURES, FEATURES
from common.pyramid.model import (
    MAX_MODEL_BYTES,
    STATES,
    ModelError,
    default_model,
    find_model,
    install_model,
    load_model,
)

SHIPPED = sorted(module._SHIPPED.glob("*.safetensors"))


@pytest.fixture
def tensors():
    return {key: value.copy() for key, value in load(SHIPPED[-1].read_bytes()).items()}


def test_the_shipped_models_are_usable_and_within_256_kb():
    assert SHIPPED
    for path in SHIPPED:
        assert path.stat().st_size <= 256 * 1024
        model = load_model(path.read_bytes())
        assert find_model(model.id).id == model.id
        np.testing.assert_allclose(np.exp2(-model.bits).sum(1), 1)


def test_a_model_that_is_not_installed_is_named():
    with pytest.raises(PacketFormatError, match="deadbeef, which is not installed"):
        find_model(bytes.fromhex("deadbeef"))


def test_another_model_can_be_installed(tmp_path, tensors, monkeypatch):
    models = dict(module._models())
    monkeypatch.setattr(module, "_models", lambda: models)
    tensors["centres"] = tensors["centres"] * np.float32(0.5)
    path = tmp_path / "mine.safetensors"
    path.write_bytes(save(tensors))
    mine = install_model(path)
    assert mine.id != default_model().id
    assert find_model(mine.id) is mine


def changed(tensors, key, change):
    return save({**tensors, key: np.ascontiguousarray(change(tensors[key]))})


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("w2", lambda w: w + np.float16(0.5)),
        ("w1", lambda w: w[:, :-1]),
        ("w2", lambda w: w[:-1]),
        ("b3", lambda w: w[None]),
        ("symbols", lambda t: t[:, :-1]),
        ("symbols", lambda t: t * 0),
        ("symbols", lambda t: t.astype(np.float64) * np.nan),
        ("low", lambda t: t[:-1]),
        ("empty", lambda t: t * 0),
        ("empty", lambda t: t[:, :1]),
        ("centres", lambda t: t[..., :-1]),
        ("filter.weight0", lambda w: w[:, :-1]),
        ("filter.weight1", lambda w: w[:-1]),
        ("filter.weight2", lambda w: w[:-1]),
        ("filter.bias0", lambda w: w[:-1]),
        ("centres", lambda t: t * 0 + np.float32(np.inf)),
        ("filter.weight0", lambda w: w * np.float32(np.nan)),
    ],
)
def test_a_malformed_model_is_refused(tensors, key, change):
    with pytest.raises(ModelError, match="is no pyramid model"):
        load_model(changed(tensors, key, change))


@pytest.mark.parametrize("key", ["w1", "w2", "w3", "b2", "symbols", "low", "empty", "centres"])
def test_a_model_that_lacks_a_tensor_is_refused(tensors, key):
    del tensors[key]
    with pytest.raises(ModelError):
        load_model(save(tensors))


@pytest.mark.parametrize("key", ["w2", "w3", "b2", "b3"])
def test_weights_whose_sums_are_not_exact_in_float32_are_refused(tensors, key):
    with pytest.raises(ModelError, match="too large to be summed exactly"):
        load_model(changed(tensors, key, lambda w: w.astype(np.float32) * 0 + np.float32(2**24)))


def test_bytes_that_are_no_model_are_refused():
    for data in (b"", b"no model", bytes(1000), SHIPPED[0].read_bytes()[:-10]):
        with pytest.raises(ModelError):
            load_model(data)
    with pytest.raises(ModelError, match="above the limit"):
        load_model(bytes(MAX_MODEL_BYTES + 1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.integers(0, 99))
def test_states_are_exact_whatever_the_order_of_the_sums(orientation, colour, number, seed):
    model = default_model()
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 65, (50, FEATURES - BAND_FEATURES)).astype(np.float32)
    shared = rng.integers(-64, 65, BAND_FEATURES).astype(np.float32)
    states = model.states(orientation, colour, number, inputs, shared)
    assert states.min() >= 0
    assert states.max() < STATES
    # The same in 64-bit integers, with floor divisions.
    at = (orientation * 3 + colour) * 4 + number
    w = {key: value[at].astype(np.int64) for key, value in model.layers.items()}
    everything = np.concatenate([inputs, np.tile(shared, (50, 1))], 1).astype(np.int64)
    hidden = np.clip((everything @ w["w1"]) // 64, 0, 1023)
    hidden = np.clip((hidden @ w["w2"] + w["b2"]) // 64, 0, 1023)
    out = (hidden @ w["w3"] + w["b3"] + 256) // 512
    np.testing.assert_array_equal(states, np.clip(out, 0, STATES - 1))
    np.testing.assert_array_equal(model.states(orientation, colour, number, inputs[7:8], shared), states[7:8])
