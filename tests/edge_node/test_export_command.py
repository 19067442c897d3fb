"""``edge-node export``: a YOLO folder that others read, and detectors in other formats."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from common.bitstream import decode_packet, encode_packet
from common.cli import build_parser, run_command
from common.datasets import open_source
from common.frame import Box
from common.images import decode_image
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.learning.detector import build_detector, load_detector, snapshot, start_weights
from common.learning.settings import TrainingSettings
from common.learning.weights import read_weights, write_weights
from common.learning.yolo_environment import prepare_yolo
from edge_node import export_command
from edge_node.yolo_folder import label_text
from tests.learning_packets import random_packet, scene_packet

needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="onnx is not installed")


def run(capsys, *arguments):
    parser, subparsers = build_parser("edge-node", "test")
    export_command.add_parser(subparsers)
    try:
        code = run_command(parser, ["export", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def packets(tmp_path):
    """Two classes, a true negative, an unlabelled frame, two validation frames and a box at the edge."""
    folder = tmp_path / "packets"
    folder.mkdir()
    frames = [replace(scene_packet(i, validation=i >= 4), boxes=scene_packet(i).boxes) for i in range(6)]
    names = ("car", "person")
    for i, packet in enumerate(frames):
        boxes = tuple(replace(box, name=names[(i + n) % 2]) for n, box in enumerate(packet.boxes))
        frames[i] = replace(packet, boxes=boxes)
    frames.append(replace(scene_packet(6), boxes=(), objects=()))
    frames.append(replace(scene_packet(7), boxes=(), objects=(), labelled=False))
    edge = (Box(0.0, 50.5, 20.25, 64.0, "person"),)
    frames.append(replace(scene_packet(8), boxes=edge, objects=()))
    for i, packet in enumerate(frames):
        (folder / f"f{i}.rinr").write_bytes(encode_packet(packet))
    return folder


def pixels_of(file):
    packet = decode_packet(file.read_bytes())
    return to_bytes(compose_packets([packet]))[0].permute(1, 2, 0).numpy()


def test_the_folder_is_read_back_with_the_same_pixels_boxes_and_marks(tmp_path, packets, capsys):
    out = tmp_path / "yolo"
    code, stdout, stderr = run(capsys, packets, "--out", out, "--json")
    assert code == 0, stderr
    report = json.loads(stdout)
    assert {k: report[k] for k in ("frames", "train", "val", "unlabelled", "resumed")} == {
        "frames": 8, "train": 6, "val": 2, "unlabelled": 1, "resumed": 0,
    }  # fmt: skip
    assert set(report["classes"]) == {"car", "person"}
    assert "1 frames without labels" in stderr
    frames = {frame.name: frame for frame in open_source(out)}
    assert sorted(frames) == ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f8"]
    for name, frame in frames.items():
        packet = decode_packet((packets / f"{name}.rinr").read_bytes())
        assert frame.labelled
        assert frame.validation == packet.validation
        assert np.array_equal(decode_image(frame.image), pixels_of(packets / f"{name}.rinr"))
        assert [box.name for box in frame.boxes] == [box.name for box in packet.boxes]
        for got, want in zip(frame.boxes, packet.boxes, strict=True):
            edges = (want.x0, want.y0, want.x1, want.y1)
            assert (got.x0, got.y0, got.x1, got.y1) == pytest.approx(edges, abs=1e-4)
    assert report["boxes"] == sum(len(frame.boxes) for frame in frames.values())
    assert (out / "labels" / "train" / "f6.txt").read_text() == ""


def test_a_label_is_the_part_of_a_box_inside_the_frame():
    boxes = (Box(-5.0, 10.0, 32.0, 90.0, "b"), Box(70.0, 0.0, 90.0, 9.0, "a"))
    assert label_text(boxes, ["a", "b"], 64, 40) == "1 0.25000000 0.62500000 0.50000000 0.75000000\n"


def test_ultralytics_takes_the_folder_wherever_it_is_moved(tmp_path, packets, capsys):
    assert run(capsys, packets, "--out", tmp_path / "yolo")[0] == 0
    moved = tmp_path / "moved"
    (tmp_path / "yolo").rename(moved)
    prepare_yolo()
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset
    from ultralytics.utils import DEFAULT_CFG

    data = check_det_dataset(str(moved / "data.yaml"), autodownload=False)
    assert sorted(data["names"].values()) == ["car", "person"]
    found = build_yolo_dataset(DEFAULT_CFG, str(data["train"]), 2, data, mode="val")
    assert len(found) == 6
    assert sum(len(labels["cls"]) for labels in found.labels) == len(
        "".join(f.read_text() for f in (moved / "labels" / "train").glob("*.txt")).splitlines()
    )


def test_frames_of_other_packets_stay_only_while_their_class_numbers_hold(tmp_path, packets, capsys):
    out = tmp_path / "yolo"
    run(capsys, packets, "--out", out, "--classes", "car,person")
    kept = (out / "labels" / "train" / "f0.txt").read_text()
    (packets / "f0.rinr").unlink()
    code, stdout, stderr = run(capsys, packets, "--out", out, "--classes", "car,person,tram", "--json")
    assert code == 0
    assert json.loads(stdout)["others"] == 1
    assert "also holds 1 frames of packets not in" in stderr
    assert (out / "labels" / "train" / "f0.txt").read_text() == kept
    code, _, stderr = run(capsys, packets, "--out", out, "--classes", "person,car")
    assert code == 2
    assert "labelled by the classes car,person,tram" in stderr
    assert [frame.boxes[0].name for frame in open_source(out) if frame.name == "f1"] == ["person"]


def test_a_class_named_twice_is_refused(tmp_path, packets, capsys):
    code, _, stderr = run(capsys, packets, "--out", tmp_path / "yolo", "--classes", "car,person,car")
    assert (code, "lists a name twice" in stderr) == (2, True)


def test_a_frame_that_lost_its_labels_goes(tmp_path, packets, capsys):
    out = tmp_path / "yolo"
    run(capsys, packets, "--out", out)
    bare = replace(decode_packet((packets / "f1.rinr").read_bytes()), boxes=(), objects=(), labelled=False)
    (packets / "f1.rinr").write_bytes(encode_packet(bare))
    code, stdout, _ = run(capsys, packets, "--out", out, "--json")
    assert (code, json.loads(stdout)["others"]) == (0, 0)
    assert not list(out.glob("*/*/f1.*"))


def test_a_repetition_decodes_only_what_is_missing_or_changed(tmp_path, packets, capsys):
    out = tmp_path / "yolo"
    run(capsys, packets, "--out", out)
    before = {file: file.stat().st_mtime_ns for file in out.glob("images/*/*")}
    (out / "images" / "train" / "f1.png").unlink()
    changed = replace(decode_packet((packets / "f2.rinr").read_bytes()), validation=True)
    (packets / "f2.rinr").write_bytes(encode_packet(changed))
    record = out / "exported.jsonl"
    record.write_text(record.read_text() + '{"image": "train/f9')  # as a kill would leave it
    code, stdout, _ = run(capsys, packets, "--out", out, "--json")
    assert code == 0
    assert json.loads(stdout)["resumed"] == 6
    after = {file: file.stat().st_mtime_ns for file in out.glob("images/*/*")}
    assert (out / "images" / "train" / "f1.png").is_file()
    assert (out / "images" / "val" / "f2.png").is_file()
    assert not (out / "images" / "train" / "f2.png").exists()
    assert not (out / "labels" / "train" / "f2.txt").exists()
    same = [file for file in after if file.stem not in ("f1", "f2")]
    assert all(after[file] == before[file] for file in same)


def test_jpeg_quality_is_a_choice_and_is_not_mixed(tmp_path, packets, capsys):
    sizes = {}
    for quality in (30, 95):
        out = tmp_path / str(quality)
        options = ("--image", "jpg", "--quality", quality, "--json")
        code, stdout, _ = run(capsys, packets, "--out", out, *options)
        assert code == 0
        sizes[quality] = json.loads(stdout)["bytes"]
        assert {file.suffix for file in out.glob("images/*/*")} == {".jpg"}
    assert sizes[30] < sizes[95]
    code, _, stderr = run(capsys, packets, "--out", tmp_path / "30", "--image", "png")
    assert code == 2
    assert "an export with other options" in stderr


def test_class_numbers_are_those_of_the_list_that_is_given(tmp_path, packets, capsys):
    run(capsys, packets, "--out", tmp_path / "yolo", "--classes", "dog,person,car")
    names = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())["names"]
    assert names == {0: "dog", 1: "person", 2: "car"}
    text = (tmp_path / "yolo" / "labels" / "train" / "f8.txt").read_text()
    assert text.startswith("1 ")
    code, _, stderr = run(capsys, packets, "--out", tmp_path / "less", "--classes", "car")
    assert code == 1
    assert "'person', which --classes lacks" in stderr


def test_a_damaged_packet_is_passed_over_and_named(tmp_path, packets, capsys):
    data = bytearray((packets / "f1.rinr").read_bytes())
    data[-40] ^= 255
    (packets / "f1.rinr").write_bytes(data)
    code, stdout, stderr = run(capsys, packets, "--out", tmp_path / "yolo", "--json")
    assert code == 1
    assert json.loads(stdout)["frames"] == 7
    assert "1 packets were passed over" in stderr
    assert "f1.rinr" in stderr


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    classes = ("car", "person")
    write_weights(path, snapshot(build_detector("yolov8n.yaml", classes, 5), "yolov8n.yaml", classes, 96))
    return path


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--quality", 50), 2, "goes with --image jpg"),
        (("--image", "jpg", "--quality", 101), 2, "from 1 to 100"),
        (("--imgsz", 64), 2, "for detectors"),
        (("--onnx", "w.pt"), 2, "not allowed with"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(tmp_path, packets, capsys, options, code, sentence):
    got, _, stderr = run(capsys, packets, "--out", tmp_path / "o", *options)
    assert got == code
    assert sentence in stderr


def test_a_detector_needs_a_file_of_its_kind(tmp_path, weights, capsys):
    for options, code, sentence in (
        (("--onnx", weights, "--out", tmp_path / "w.pt"), 2, "is to be a .onnx file"),
        (("--onnx", tmp_path / "no.safetensors", "--out", tmp_path / "w.onnx"), 1, "cannot read the weights"),
        (("--safetensors", tmp_path / "no.pt", "--out", tmp_path / "w.safetensors"), 1, "no weights at"),
        (("--onnx", weights, "--imgsz", 70, "--out", tmp_path / "w.onnx"), 1, "a multiple of 32"),
        ((), 2, "required"),
    ):
        got, _, stderr = run(capsys, *options)
        assert got == code
        assert sentence in stderr
        assert "unexpected" not in stderr


@needs_onnx
@pytest.mark.parametrize("imgsz", [None, 64])
def test_the_onnx_file_detects_the_same_boxes(tmp_path, weights, capsys, imgsz):
    import cv2
    from ultralytics.utils.nms import non_max_suppression

    out = tmp_path / "w.onnx"
    options = () if imgsz is None else ("--imgsz", imgsz)
    code, stdout, stderr = run(capsys, "--onnx", weights, "--out", out, *options, "--json")
    assert code == 0, stderr
    assert stderr == ""
    report = json.loads(stdout)
    side = imgsz or 96
    assert (report["model"], report["classes"], report["imgsz"]) == (
        "yolov8n.yaml", ["car", "person"], side,
    )  # fmt: skip
    detector = load_detector(read_weights(weights)).eval()
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = detector(image)[0]
    network = cv2.dnn.readNetFromONNX(str(out))
    network.setInput(image.numpy())
    got = torch.from_numpy(network.forward())
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    # Random weights score low: with this threshold there are boxes, and they are the same ones.
    floor = float(want[0, 4:].max()) * 0.9
    ours, theirs = (non_max_suppression(prediction, floor)[0] for prediction in (want, got))
    assert len(ours) == len(theirs) > 0
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-2)
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        (ran,) = onnxruntime.InferenceSession(str(out)).run(None, {"images": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(ran), want, rtol=1e-3, atol=1e-3)


@needs_onnx
def test_the_onnx_file_names_the_classes_as_ultralytics_reads_them(tmp_path, weights, capsys):
    import onnx

    run(capsys, "--onnx", weights, "--out", tmp_path / "w.onnx")
    about = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "w.onnx")).metadata_props}
    assert about["names"] == "{0: 'car', 1: 'person'}"
    assert (about["task"], about["stride"]) == ("detect", "32")
    assert [file.name for file in tmp_path.iterdir()] == ["w.onnx"]


def test_without_onnx_the_sentence_says_what_to_install(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, stderr = run(capsys, "--onnx", weights, "--out", tmp_path / "w.onnx")
    assert code == 1
    assert "residual-inr[onnx]" in stderr


def test_an_ultralytics_checkpoint_becomes_safetensors(tmp_path, weights, capsys):
    prepare_yolo()
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml")
    model.model = load_detector(read_weights(weights))
    model.save(tmp_path / "saved.pt")
    sizes = []
    for options in ((), ("--half",)):
        out = tmp_path / "saved.safetensors"
        code, stdout, stderr = run(
            capsys, "--safetensors", tmp_path / "saved.pt", "--out", out, *options, "--json"
        )
        assert code == 0, stderr
        assert json.loads(stdout)["classes"] == ["car", "person"]
        sizes.append(out.stat().st_size)
    assert sizes[1] < 0.52 * sizes[0]
    settings = TrainingSettings(model=str(out), classes=("car", "person"), imgsz=96)
    start = start_weights(settings)
    # Ultralytics saves 16 bit floats.
    for name, tensor in read_weights(weights).state.items():
        torch.testing.assert_close(start.state[name], tensor, rtol=1e-3, atol=1e-6)


def test_a_single_packet_is_a_data_set_too(tmp_path, capsys):
    (tmp_path / "one.rinr").write_bytes(encode_packet(random_packet(3, boxes=[(4, 4, 20, 20)])))
    code, stdout, stderr = run(capsys, tmp_path / "one.rinr", "--out", tmp_path / "yolo")
    assert code == 0
    assert "1 frames to train on and 0 to validate with, 1 boxes" in stdout
    assert "images/val is empty" in stderr
