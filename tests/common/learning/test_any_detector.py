"""Any detector of Ultralytics' catalogue trains here; files of theirs are taken over with care."""

import pickle
from dataclasses import replace

import pytest
import torch

from common.errors import LearningError
from common.learning.detector import build_detector, load_detector, snapshot, start_weights
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.trainer import train
from common.learning.validation import ValidationSet, evaluate
from common.learning.weights import decode_weights, encode_weights, write_weights
from tests.learning_packets import original_of, scene_packet

CPU = torch.device("cpu")
CLASSES = ("car", "person", "dog")


def named(packet, first):
    boxes = tuple(replace(b, name=CLASSES[(first + n) % 2]) for n, b in enumerate(packet.boxes))
    return replace(packet, boxes=boxes)


def packets():
    """Two of three classes, several objects a frame, and a true negative."""
    found = [named(scene_packet(i), i) for i in range(6)]
    return [*found, replace(scene_packet(6), boxes=(), objects=())]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "model",
    [
        "yolo11n.yaml",
        "yolo26n.yaml",
        pytest.param("yolov8x.yaml", marks=slow),
        pytest.param("yolov9t.yaml", marks=slow),
        pytest.param("yolov10n.yaml", marks=slow),
        pytest.param("yolo12n.yaml", marks=slow),
    ],
)
def test_every_family_trains_and_is_evaluated(tmp_path, model):
    settings = TrainingSettings(model=model, classes=CLASSES, imgsz=64, max_steps=2, batch=4, device="cpu")
    start = start_weights(settings)
    store = ResidentStore(CPU, 1 << 24, settings)
    store.add(packets())
    result = train(store, settings, start, tmp_path)
    assert result.curve.shape == (2, len(result.losses))
    assert result.losses[:2] == ("box", "class")
    assert torch.isfinite(result.curve).all()
    assert not torch.equal(result.weights.state["model.0.conv.weight"], start.state["model.0.conv.weight"])
    received = load_detector(decode_weights(encode_weights(result.weights, half=True), start.state))
    frames = [original_of(packet) for packet in packets()]
    (found,) = evaluate([received], ValidationSet(frames, settings), settings, CPU)
    assert len(found.images) == 7


def test_detectors_with_two_heads_go_on_weighing_them_where_they_stopped(tmp_path):
    settings = TrainingSettings(
        model="yolo26n.yaml",
        imgsz=64,
        epochs=4,
        batch=4,
        device="cpu",
        checkpoint_seconds=0,
        learning_rate=1e-4,
    )
    start, scenes = start_weights(settings), [scene_packet(i) for i in range(4)]

    def store():
        found = ResidentStore(CPU, 1 << 24, settings)
        found.add(scenes)
        return found

    whole = train(store(), settings, start, tmp_path / "whole")
    stops = iter([False, True])
    train(store(), settings, start, tmp_path / "part", TrainerHooks(should_stop=lambda: next(stops)))
    rest = train(store(), settings, start, tmp_path / "part")
    torch.testing.assert_close(rest.curve, whole.curve)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("yolov8n-seg.yaml", "does not detect boxes"),
        ("yolov8n-obb.yaml", "does not detect boxes"),
        ("yolo11n-pose.yaml", "does not detect boxes"),
        ("rtdetr-l.yaml", "does not detect boxes"),
        ("weights.onnx", "neither a name"),
    ],
)
def test_models_of_other_tasks_are_one_sentence(model, sentence):
    with pytest.raises(LearningError, match=sentence):
        start_weights(TrainingSettings(model=model, imgsz=64))


def test_a_detector_of_a_coarser_stride_says_which_sizes_it_takes():
    with pytest.raises(LearningError, match="multiple of 64 pixels; set imgsz to 128"):
        start_weights(TrainingSettings(model="yolov8n-p6.yaml", imgsz=96))
    assert start_weights(TrainingSettings(model="yolov8n-p6.yaml", imgsz=64)).model == "yolov8n-p6.yaml"


def weights_of(model, classes, seed=3):
    return snapshot(build_detector(model, classes, seed), model, classes, 64)


def changed(one, other):
    return {name for name in one.state if not torch.equal(one.state[name], other.state[name])}


def test_classes_that_both_know_keep_their_outputs(tmp_path):
    path = tmp_path / "w.safetensors"
    before = weights_of("yolov8s.yaml", ("car", "bus", "person"))
    for name, tensor in before.state.items():
        if name.endswith("2.bias"):
            tensor += torch.arange(len(tensor))
    write_weights(path, before)
    said = []
    settings = TrainingSettings(model=str(path), classes=("person", "dog", "car"), imgsz=64)
    after = start_weights(settings, said.append)
    assert changed(before, after) == {
        f"model.22.cv3.{i}.2.{part}" for i in range(3) for part in ("weight", "bias")
    }
    for name in ("model.22.cv3.1.2.weight", "model.22.cv3.1.2.bias"):
        assert torch.equal(after.state[name][0], before.state[name][2])
        assert torch.equal(after.state[name][2], before.state[name][0])
        assert not torch.equal(after.state[name][1], before.state[name][1])
    (sentence,) = said
    assert "backbone and neck are kept" in sentence
    assert "the outputs of person, car are kept" in sentence


def test_a_head_of_other_width_starts_anew_and_the_backbone_stays(tmp_path):
    path = tmp_path / "w.safetensors"
    many = tuple(f"c{i}" for i in range(80))
    before = weights_of("yolov8n.yaml", many)
    write_weights(path, before)
    said = []
    # Of 80 classes the smallest detector's class branch is wider than of one: its shapes differ.
    after = start_weights(TrainingSettings(model=str(path), classes=("c7",), imgsz=64), said.append)
    different = {n for n in after.state if after.state[n].shape != before.state[n].shape}
    assert different
    assert all(name.startswith("model.22.cv3.") for name in different)
    same = {n for n in after.state if not n.startswith("model.22.cv3.")}
    assert all(torch.equal(after.state[n], before.state[n]) for n in same)
    assert "c0, c1, c2, c3 and 76 more, not c7: its backbone and neck are kept" in said[0]
    assert "tensors of its head start from random weights" in said[0]
    assert "outputs of" not in said[0]


def test_the_same_classes_keep_everything_and_nothing_is_said(tmp_path):
    path = tmp_path / "w.safetensors"
    before = weights_of("yolo26n.yaml", CLASSES)
    write_weights(path, before)
    said = []
    after = start_weights(TrainingSettings(model=str(path), classes=CLASSES, imgsz=64), said.append)
    assert not changed(before, after)
    assert not said


def test_both_heads_of_a_two_headed_detector_are_fitted_to_the_classes(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, weights_of("yolo26n.yaml", ("a", "b")))
    after = start_weights(TrainingSettings(model=str(path), classes=("b", "a"), imgsz=64))
    before = weights_of("yolo26n.yaml", ("a", "b"))
    flipped = [name for name in changed(before, after) if name.endswith("weight")]
    assert len(flipped) == 6
    assert all(torch.equal(after.state[name].flip(0), before.state[name]) for name in flipped)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as Ultralytics' own trainer saves it, while training and when it has ended."""
    from common.bitstream import encode_packet
    from common.learning.yolo_environment import prepare_yolo
    from edge_node.export_command import export_frames

    prepare_yolo(1)
    from ultralytics.models.yolo.detect import DetectionTrainer

    folder = tmp_path_factory.mktemp("theirs")
    (folder / "packets").mkdir()
    for i in range(6):
        data = encode_packet(named(scene_packet(i, validation=i > 3), i))
        (folder / "packets" / f"{i}.rinr").write_bytes(data)
    export_frames(folder / "packets", folder / "yolo", classes=CLASSES[:2], device="cpu")
    trainer = DetectionTrainer(
        overrides={
            "model": "yolov8n.yaml", "data": str(folder / "yolo" / "data.yaml"), "epochs": 2, "imgsz": 64,
            "batch": 4, "workers": 0, "device": "cpu", "amp": False, "plots": False, "verbose": False,
            "project": str(folder), "name": "run", "save_period": 1,
        }
    )  # fmt: skip
    trainer.train()
    return folder / "run" / "weights"


@pytest.mark.parametrize("name", ["epoch0.pt", "last.pt", "best.pt"])
def test_a_checkpoint_of_ultralytics_own_training_is_taken_over(checkpoint, name):
    from ultralytics.nn.tasks import load_checkpoint

    theirs = load_checkpoint(str(checkpoint / name))[0]
    said = []
    settings = TrainingSettings(model=str(checkpoint / name), classes=CLASSES[:2], imgsz=64)
    ours = load_detector(start_weights(settings, said.append)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[0], theirs(image)[0])
    assert not said
    assert list(ours.names.values()) == ["car", "person"]


def test_a_checkpoint_whose_yaml_lacks_the_scale_is_still_known(tmp_path):
    detector = build_detector("yolov8s.yaml", ("a",))
    detector.yaml["yaml_file"] = "C:\\models\\yolov8.yaml"
    torch.save({"model": detector.half(), "ema": None, "train_args": {"imgsz": 320}}, tmp_path / "x.pt")
    found = start_weights(TrainingSettings(model=str(tmp_path / "x.pt"), classes=("a",), imgsz=64))
    assert found.model == "yolov8s.yaml"
    assert found.state["model.0.conv.weight"].dtype == torch.float32


def _junk(path, kind):
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_bytes(b"hello world" * 99)
        case "pickle":
            path.write_bytes(pickle.dumps({"model": [1, 2]}))
        case "dictionary":
            torch.save({"weights": 1}, path)
        case "tensor":
            torch.save(torch.zeros(2), path)
        case "other network":
            torch.save({"model": torch.nn.Linear(2, 2)}, path)
        case "cut short":
            torch.save({"model": build_detector("yolov8n.yaml", ("a",))}, path)
            path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    "kind", ["empty", "text", "pickle", "dictionary", "tensor", "other network", "cut short"]
)
def test_a_file_that_is_no_checkpoint_is_one_plain_sentence(tmp_path, kind):
    path = tmp_path / "junk.pt"
    _junk(path, kind)
    with pytest.raises(LearningError) as caught:
        start_weights(TrainingSettings(model=str(path), imgsz=64))
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} is no Ultralytics detector that can be loaded safely: it ")
    assert "\n" not in sentence
    assert "❌" not in sentence


def test_a_checkpoint_with_nan_is_not_used(tmp_path):
    detector = build_detector("yolov8n.yaml", ("a",))
    with torch.no_grad():
        detector.model[0].conv.weight[0] = float("nan")
    torch.save({"model": detector}, tmp_path / "x.pt")
    with pytest.raises(LearningError, match="NaN"):
        start_weights(TrainingSettings(model=str(tmp_path / "x.pt"), classes=("a",), imgsz=64))
