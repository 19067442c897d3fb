"""``edge-node train``: packets in, weights and an honest report out."""

import json
import math

import pytest

from common.bitstream import encode_packet
from common.cli import build_parser, run_command
from common.learning.weights import read_weights
from edge_node import train_command
from tests.learning_packets import original_of, scene_packet


def run(capsys, *arguments):
    parser, subparsers = build_parser("edge-node", "test")
    train_command.add_parser(subparsers)
    code = run_command(parser, ["train", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def source(tmp_path):
    """A folder of packets, and a CSV of validation images, the first of which is also trained on."""
    packets, images = tmp_path / "packets", tmp_path / "val"
    packets.mkdir()
    images.mkdir()
    rows = ["frame,x0,y0,w,h"]
    for i in range(6):
        packet = scene_packet(i)
        frame = original_of(scene_packet(i if i == 0 else 50 + i), f"{i:04d}")
        if i == 0:
            packet = type(packet)(
                packet.profile,
                64,
                64,
                True,
                False,
                packet.boxes,
                frame.digest,
                packet.background,
                packet.objects,
            )
        (packets / f"{i:04d}.rinr").write_bytes(encode_packet(packet))
        (images / f"{i:04d}.png").write_bytes(frame.image)
        rows += [f"{i:04d}.png,{b.x0},{b.y0},{b.x1 - b.x0},{b.y1 - b.y0}" for b in frame.boxes]
    (images / "boxes.csv").write_text("\n".join(rows) + "\n")
    return packets, images / "boxes.csv"


def test_training_writes_weights_and_figures_and_warns_of_overlap(tmp_path, source, capsys):
    packets, images = source
    out = tmp_path / "out"
    options = ("--imgsz", 64, "--epochs", 2, "--batch", 4, "--device", "cpu", "--threads", 1, "--out", out)
    code, stdout, stderr = run(capsys, packets, "--val", images, *options, "--json")
    assert code == 0, stderr
    assert stdout.count("\n") == 1
    answer = json.loads(stdout)
    assert set(answer) == {
        "map50", "map50_95", "baseline_map50", "baseline_map50_95",
        "images", "epochs", "seconds", "seconds_per_epoch",
    }  # fmt: skip
    assert (answer["images"], answer["epochs"]) == (6, 2)
    assert math.isclose(answer["seconds"], 2 * answer["seconds_per_epoch"])
    assert "1 of the 6 validation images are also trained on" in stderr
    assert read_weights(out / "weights.safetensors").classes == ("object",)
    metrics = json.loads((out / "metrics.json").read_text())
    assert {k: metrics[k] for k in answer} == answer
    assert (metrics["steps"], metrics["validation_images"], metrics["validation_overlap"]) == (4, 6, 1)
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in out.iterdir()) == ["metrics.json", "training.png", "weights.safetensors"]

    augmented = ("--augment", "mosaic=1", "close_mosaic=1", "degrees=10")
    again = run(
        capsys, packets, "--val", images, *options, *augmented, "--model", out / "weights.safetensors"
    )
    assert again[0] == 0
    assert "mAP50-95  " in again[1]


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--imgsz", 100), 2, "--imgsz"),
        (("--epochs", 0), 2, "--epochs"),
        (("--model", "nosuch.yaml"), 1, "nosuch.yaml"),
        (("--model", "nosuch.pt"), 1, "nothing is downloaded"),
        (("--model", "yolov8n-seg.yaml"), 1, "does not detect boxes"),
        (("--model", __file__), 1, "neither a name"),
        (("--out", __file__), 2, "a file is in the way"),
        (("--classes", "a,a"), 2, "bad value for --classes: classes lists a name twice"),
        (("--device", "cuda:1,1"), 2, "bad value for --device: device names a GPU twice: cuda:1,1"),
        (("--memory", "nan"), 2, "bad value for --memory"),
        (("--device", "tpu"), 2, "--device"),
        (("--augment", "fliplr=0.5", "mosaic=2"), 2, "bad value for --augment mosaic"),
        (("--augment", "mosaik=1"), 2, "one of the names fliplr, "),
        (("--augment", "degrees"), 2, "give NAME=X"),
        (("--memory", 0.000005), 1, "raise --memory"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, source, capsys, options, code, sentence):
    packets, images = source
    got, stdout, stderr = run(
        capsys,
        packets,
        "--val",
        images,
        "--imgsz",
        64,
        "--device",
        "cpu",
        "--out",
        tmp_path / "o",
        *options,
        "--json",
    )
    assert (got, stdout) == (code, "")
    assert sentence in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


def test_a_folder_without_packets_is_one_sentence(tmp_path, source, capsys):
    code, _, stderr = run(capsys, tmp_path, "--val", source[1], "--out", tmp_path / "o")
    assert code == 1
    assert "no folder of .rinr packets" in stderr


def test_images_without_boxes_cannot_be_evaluated_on(tmp_path, source, capsys):
    code, _, stderr = run(
        capsys, source[0], "--val", source[1].parent, "--format", "folder", "--out", tmp_path / "o"
    )
    assert code == 1
    assert "no labelled frame" in stderr
