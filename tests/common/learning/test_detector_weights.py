"""Weights travel as bounded safetensors; anything else is refused with one sentence, before use."""

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from common.errors import LearningError
from common.learning.detector import build_detector, load_detector, snapshot, start_weights
from common.learning.settings import TrainingSettings
from common.learning.weights import (
    DetectorWeights,
    decode_weights,
    encode_weights,
    read_weights,
    write_weights,
)

FORMAT = "residual-inr-detector"
ABOUT = {"version": 1, "model": "yolov8n.yaml", "classes": ["object"], "imgsz": 64}


def small(state=None):
    state = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)} if state is None else state
    return DetectorWeights("yolov8n.yaml", ("object", "car"), 160, state)


@pytest.fixture(scope="module")
def detector_weights():
    return snapshot(build_detector("yolov8n.yaml", ("object",), 3), "yolov8n.yaml", ("object",), 64)


def test_weights_come_back_as_they_went(tmp_path):
    path = tmp_path / "w.safetensors"
    assert write_weights(path, small()) == path.stat().st_size
    back = read_weights(path)
    assert (back.model, back.classes, back.imgsz) == ("yolov8n.yaml", ("object", "car"), 160)
    assert all(torch.equal(back.state[k], v) for k, v in small().state.items())


def test_half_precision_halves_the_bytes_and_stays_finite():
    state = {"a": torch.randn(1000, 10), "big": torch.tensor([1e6, -1e6])}
    full, half = encode_weights(small(state)), encode_weights(small(state), half=True)
    assert len(half) < 0.52 * len(full)
    back = decode_weights(half).state
    assert back["a"].dtype == torch.float32
    torch.testing.assert_close(back["a"], state["a"], rtol=1e-3, atol=1e-6)
    assert torch.isfinite(back["big"]).all()


def test_a_detector_is_the_same_after_the_round_trip(detector_weights):
    data = encode_weights(detector_weights)
    detector = load_detector(decode_weights(data, detector_weights.state)).eval()
    other = load_detector(detector_weights).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(detector(image)[0], other(image)[0])


def with_entry(**entry):
    """Sound weights whose header tells of one more tensor, without bytes."""
    data = encode_weights(small())
    (length,) = struct.unpack_from("<Q", data)
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    end = len(tensors)
    header["x"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end], **entry}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def test_a_tensor_without_elements_is_one():
    assert decode_weights(with_entry()).state["x"].numel() == 0


@pytest.mark.parametrize(
    "dtype", ["F4", "F6_E2M3", "F8_E4M3", "F8_E8M0", "C64", "U64", "X", "", None, 3, ["F32"]]
)
def test_types_that_no_detector_has_are_refused_before_torch_meets_them(dtype):
    with pytest.raises(LearningError, match="'x' are of the type"):
        decode_weights(with_entry(dtype=dtype))


@pytest.mark.parametrize("shape", [[2**63, 0], [0] * 70, [True], [-1], [0.0], "0", None, {}, [[0]]])
def test_shapes_that_no_tensor_has_are_refused_before_torch_meets_them(shape):
    with pytest.raises(LearningError, match="'x' have a malformed shape"):
        decode_weights(with_entry(shape=shape))


def test_weights_with_nan_are_neither_sent_nor_accepted():
    bad = {"a": torch.tensor([float("nan")])}
    with pytest.raises(LearningError, match="NaN"):
        encode_weights(small(bad))
    with pytest.raises(LearningError, match="NaN"):
        decode_weights(save(bad, {FORMAT: json.dumps(ABOUT)}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 9}, "version '9'"),
        ({"model": "../../etc/passwd"}, "no plain .yaml name"),
        ({"model": "/tmp/evil.yaml"}, "no plain .yaml name"),
        ({"classes": [1]}, "class list"),
        ({"classes": "object"}, "class list"),
        ({"classes": []}, "class list"),
        ({"classes": ["a", "a"]}, "class list"),
        ({"imgsz": -1}, "image size"),
        ({"imgsz": "64"}, "image size"),
    ],
)
def test_wrong_metadata_is_refused(change, sentence):
    with pytest.raises(LearningError, match=sentence):
        decode_weights(save({"a": torch.zeros(1)}, {FORMAT: json.dumps(ABOUT | change)}))


def test_safetensors_of_something_else_are_refused():
    for metadata in (None, {"format": "pt"}, {FORMAT: "["}, {FORMAT: "[]"}):
        with pytest.raises(LearningError, match="no detector of this system"):
            decode_weights(save({"a": torch.zeros(1)}, metadata))


def test_equal_weights_have_equal_bytes():
    assert len({encode_weights(small()) for _ in range(20)}) == 1


def test_a_pickle_is_refused():
    with pytest.raises(LearningError, match="no safetensors file"):
        decode_weights(pickle.dumps({"a": [1.0] * 100}))


def test_a_header_that_claims_to_be_huge_is_refused_before_it_is_read():
    with pytest.raises(LearningError, match="no safetensors file"):
        decode_weights(struct.pack("<Q", 1 << 60) + b"{}" * 50)


def test_a_tensor_that_claims_to_be_huge_is_refused():
    header = {
        "__metadata__": {FORMAT: json.dumps(ABOUT)},
        "a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
    }
    for shape, sentence in (([1 << 40], "malformed shape"), ([1 << 29, 1 << 11], "no valid safetensors")):
        header["a"]["shape"] = shape
        body = json.dumps(header).encode()
        with pytest.raises(LearningError, match=sentence):
            decode_weights(struct.pack("<Q", len(body)) + body)


def test_more_bytes_than_the_limit_are_refused():
    with pytest.raises(LearningError, match="over the limit"):
        decode_weights(encode_weights(small()), max_bytes=100)


def test_weights_of_another_detector_are_refused_before_a_tensor_is_read(detector_weights):
    own = detector_weights.state
    extra = dict(own) | {"model.99.weight": torch.zeros(1)}
    name = "model.0.conv.weight"
    for state, sentence in (
        (extra, r"unknown 'model\.99"),
        ({k: v for k, v in own.items() if k != name}, "lack 'model.0.conv.weight'"),
        (dict(own) | {name: torch.zeros(1, 2)}, r"is \(1, 2\), not \(16, 3, 3, 3\)"),
    ):
        data = encode_weights(DetectorWeights("yolov8n.yaml", ("object",), 64, state))
        with pytest.raises(LearningError, match=sentence):
            decode_weights(data, own)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_weights_give_a_typed_error_or_finite_tensors(data):
    good = bytearray(encode_weights(small()))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for damaged in (bytes(good), bytes(good[:cut])):
        try:
            weights = decode_weights(damaged)
        except LearningError:
            continue
        assert all(torch.isfinite(v).all() for v in weights.state.values() if v.is_floating_point())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_refused(dtype):
    data = save({"a": torch.ones(2, 3).to(dtype)}, {FORMAT: json.dumps(ABOUT)})
    with pytest.raises(LearningError, match="which no detector here has"):
        decode_weights(data)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(LearningError, match="cannot read the weights"):
        read_weights(tmp_path / "none.safetensors")


def test_start_weights_from_a_file_keep_what_fits_another_class_list(tmp_path, detector_weights):
    path = tmp_path / "w.safetensors"
    write_weights(path, detector_weights)
    same = start_weights(TrainingSettings(model=str(path)))
    assert all(torch.equal(same.state[k], v) for k, v in detector_weights.state.items())
    other = start_weights(TrainingSettings(model=str(path), classes=("car", "bus")))
    assert torch.equal(other.state["model.0.conv.weight"], detector_weights.state["model.0.conv.weight"])
    renamed = start_weights(TrainingSettings(model=str(path), classes=("car",)))
    outputs = "model.22.cv3.0.2.bias"
    assert renamed.state[outputs].shape == detector_weights.state[outputs].shape
    weight = outputs.replace("bias", "weight")
    assert not torch.equal(renamed.state[weight], detector_weights.state[weight])


def test_a_model_that_is_no_detector_is_refused():
    for name, sentence in (
        ("nosuch.yaml", "no detector"),
        ("yolov8n-cls.yaml", "does not detect"),
        ("../x.yaml", "no name"),
    ):
        with pytest.raises(LearningError, match=sentence):
            build_detector(name, ("object",))


def test_a_local_pt_file_is_loaded_safely_and_a_foreign_pickle_is_refused(tmp_path, detector_weights):
    detector = load_detector(detector_weights)
    good = tmp_path / "good.pt"
    torch.save({"model": detector, "ema": None, "train_args": {}}, good)
    weights = start_weights(TrainingSettings(model=str(good)))
    assert weights.model == "yolov8n.yaml"
    assert all(torch.equal(weights.state[k], v) for k, v in detector_weights.state.items())
    evil = tmp_path / "evil.pt"
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return (open, (str(touched), "w"))

    torch.save({"model": Evil()}, evil)
    with pytest.raises(LearningError, match="loaded safely"):
        start_weights(TrainingSettings(model=str(evil)))
    assert not touched.exists()
