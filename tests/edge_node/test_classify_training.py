"""The Rapid-INR pipeline: images in class folders, encoded, decoded batch by batch into a classifier."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.bitstream import decode_packet, encode_packet
from common.cli import build_parser, run_command
from common.datasets import open_source
from common.errors import LearningError
from common.frame import Box
from common.images import encode_png
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import decode_views
from common.learning.classifier import build_classifier, start_classifier
from common.learning.classifier_training import decode_classified, train_classifier
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.views import draw_views, plain_view
from common.learning.weights import read_weights
from edge_node import train_command
from fog_node.encode_command import encode_source
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.object_regions import object_regions
from tests.learning_packets import scene_packet

CPU = torch.device("cpu")


def run(capsys, *arguments):
    parser, subparsers = build_parser("edge-node", "test")
    train_command.add_parser(subparsers)
    code = run_command(parser, ["train", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def picture(seed, kind):
    """A dark scene with a bright disc (kind 0) or a bright frame (kind 1) somewhere."""
    rng = np.random.default_rng([seed, kind])
    y, x = np.mgrid[:48, :64]
    image = rng.uniform(20, 60) + 0.4 * np.stack([x, y, x], 2)
    cx, cy, r = rng.uniform(20, 44), rng.uniform(18, 30), rng.uniform(9, 14)
    far = np.hypot(x - cx, y - cy) if kind == 0 else np.maximum(abs(x - cx), abs(y - cy))
    inside = far < r if kind == 0 else (far < r) & (far > r - 4)
    image[inside] = rng.uniform(180, 240, 3) if kind == 0 else (30, 200, 60)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Class folders, and the packets of their training images, by profile."""
    root = tmp_path_factory.mktemp("classes")
    for part, start, count in (("train", 0, 16), ("val", 100, 6)):
        for kind, name in enumerate(("disc", "frame")):
            folder = root / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(start, start + count):
                (folder / f"{i}.png").write_bytes(encode_png(picture(i, kind)))
    settings = EncoderSettings(profile="pyramid", width=64)
    report, off_target = encode_source(root / "images", root / "pyramid", settings, device="cpu", threads=1)
    return root, report, off_target


def test_a_label_takes_no_network_and_has_no_target_of_its_own(data):
    root, report, off_target = data
    assert not off_target
    assert report["object_psnr_db"] is None
    assert report["reached_target"] == 1.0
    packet = decode_packet((root / "pyramid" / "disc-0.rinr").read_bytes())
    assert packet.boxes == (Box(0.0, 0.0, 64.0, 48.0, "disc"),)
    assert not packet.objects
    again, _ = encode_source(
        root / "images", root / "pyramid", EncoderSettings(profile="pyramid", width=64), device="cpu"
    )
    assert again["bytes_total"] == report["bytes_total"]


def test_only_where_every_box_covers_the_frame_are_boxes_labels():
    whole, part = Box(0, 0, 64, 48), Box(3, 3, 9, 9)
    assert object_regions([whole], 64, 48) == [(0, 0, 64, 48)]
    assert object_regions([whole], 64, 48, "label") == []
    assert object_regions([whole, part], 64, 48, "label") == [(0, 0, 64, 48), (3, 3, 9, 9)]
    assert object_regions([], 64, 48, "label") == []


def test_the_classifier_learns_from_packets_and_is_judged_on_original_images(data, tmp_path, capsys):
    root, *_ = data
    out = tmp_path / "out"
    options = (
        "--task", "classify", "--val", root / "images", "--imgsz", 64, "--epochs", 4, "--batch", 8,
        "--device", "cpu", "--threads", 1, "--out", out,
    )  # fmt: skip
    code, stdout, stderr = run(capsys, root / "pyramid", *options, "--json")
    assert code == 0, stderr
    assert stderr == ""
    answer = json.loads(stdout)
    assert set(answer) == {
        "top1", "top5", "baseline_top1", "baseline_top5", "images", "epochs", "seconds", "seconds_per_epoch",
    }  # fmt: skip
    assert (answer["images"], answer["epochs"], answer["top5"]) == (32, 4, 1.0)
    assert answer["top1"] >= 0.75
    assert answer["baseline_top1"] < answer["top1"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["steps"], metrics["validation_images"], metrics["validation_overlap"]) == (16, 12, 0)
    weights = read_weights(out / "weights.safetensors")
    assert (weights.model, weights.classes) == ("resnet18", ("disc", "frame"))
    assert sorted(file.name for file in out.iterdir()) == ["metrics.json", "weights.safetensors"]
    code, stdout, _ = run(
        capsys, root / "pyramid", *options, "--epochs", 1, "--model", out / "weights.safetensors", "--json"
    )
    assert code == 0
    assert json.loads(stdout)["baseline_top1"] == answer["top1"]


def classified(seed):
    name = ("red", "grey")[seed % 2]
    packet = scene_packet(seed)
    objects = packet.objects if name == "red" else ()
    # Networks of profile siren; the label covers the frame.
    boxes = (Box(0.0, 0.0, 64.0, 64.0, name), *(replace(box, name=name) for box in packet.boxes))
    objects = tuple(replace(part, box=part.box + 1) for part in objects)
    return replace(packet, boxes=boxes, objects=objects)


SETTINGS = TrainingSettings(
    model="resnet18", classes=("grey", "red"), imgsz=64, batch=4, epochs=2, device="cpu", checkpoint_seconds=0
)


def store_of(count=8):
    store = ResidentStore(CPU, 1 << 24, SETTINGS)
    store.add([classified(i) for i in range(count)])
    return store


def test_a_batch_has_the_class_of_each_image_however_it_is_augmented():
    store = store_of()
    wild = AugmentationSettings(degrees=90, scale=0.5, translate=0.5)
    views = [plain_view(3), *draw_views(wild, 64, (1,), [0, 1, 2], np.arange(8))]
    batch = decode_classified(store, views, 64)
    assert batch["cls"][:, 0].tolist() == [0, 1, 0, 1]
    assert torch.equal(batch["img"], decode_views(store, views, 64)["img"])


class Stop:
    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left <= 0


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(tmp_path):
    start = start_classifier(SETTINGS)
    whole = train_classifier(store_of(), SETTINGS, start, tmp_path / "whole")
    part = train_classifier(store_of(), SETTINGS, start, tmp_path / "part", TrainerHooks(should_stop=Stop(2)))
    assert (part.interrupted, part.steps) == (True, 2)
    rest = train_classifier(store_of(), SETTINGS, start, tmp_path / "part")
    assert (rest.interrupted, rest.steps, rest.epochs) == (False, 4, 2)
    torch.testing.assert_close(rest.curve, whole.curve)
    for name, tensor in whole.weights.state.items():
        torch.testing.assert_close(rest.weights.state[name], tensor)


def test_steps_and_a_diverging_loss_end_a_training(tmp_path):
    start = start_classifier(SETTINGS)
    short = SETTINGS.model_copy(update={"max_steps": 1})
    assert train_classifier(store_of(4), short, start, tmp_path / "a").steps == 1
    state = dict(start.state) | {"conv1.weight": torch.full((64, 3, 7, 7), 1e38)}
    with pytest.raises(LearningError, match="NaN or infinite"):
        train_classifier(store_of(4), SETTINGS, replace(start, state=state), tmp_path / "b")


def test_wrong_input_is_one_sentence(data, tmp_path, capsys):
    root, *_ = data
    detections = tmp_path / "packets"
    detections.mkdir()
    (detections / "x.rinr").write_bytes(encode_packet(replace(scene_packet(1), boxes=(), objects=())))
    common = ("--task", "classify", "--val", root / "images", "--imgsz", 64, "--device", "cpu")
    for packets, options, sentence in (
        (root / "pyramid", ("--model", "yolov8n.yaml"), "no classifier; use resnet18"),
        (root / "pyramid", ("--classes", "disc,frame,disc"), "lists a name twice"),
        (detections, ("--classes", "disc,frame"), "no image to train on"),
        (detections, ("--classes", "disc"), "class 'frame' is not one of disc"),
    ):
        code, stdout, stderr = run(capsys, packets, *common, "--out", tmp_path / "o", *options, "--json")
        assert code in (1, 2)
        assert stdout == ""
        assert sentence in stderr.splitlines()[-1]
        assert "unexpected" not in stderr
    with pytest.raises(LearningError, match="nothing to tell apart"):
        build_classifier("resnet18", ("a",))


def test_validation_images_come_from_the_class_folders(data):
    root, *_ = data
    frames = list(open_source(root / "images", split="val"))
    assert len(frames) == 12
    assert {frame.boxes[0].name for frame in frames} == {"disc", "frame"}
