"""decode, inspect and train on packets of every profile, keyframes and what refers to them in one folder."""

import json
from dataclasses import replace

import numpy as np
import pytest

from common.bitstream import encode_packet
from common.cli import build_parser, run_command
from common.frame import content_digest
from common.images import decode_image, encode_png
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from edge_node import decode_command, inspect_command, train_command
from tests.learning_packets import random_packet, scene_packet
from tests.raster_packets import image_packet, keyframe_of, picture, pyramid_packet, reference_packet

SIZE = {"width": 64, "height": 64}


def run(capsys, command, *arguments):
    parser, subparsers = build_parser("edge-node", "test")
    for module in (decode_command, inspect_command, train_command):
        module.add_parser(subparsers)
    code = run_command(parser, [command, *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def packets(tmp_path):
    """Packets by the stems of their files, keyframes behind what refers to them, and the folder."""
    digest, _ = keyframe_of(pyramid_packet(0, **SIZE))
    network, _ = keyframe_of(random_packet(9, **SIZE))
    made = {
        "a-turned": reference_packet(digest, 1, turned=True, **SIZE),
        "b-same": reference_packet(digest, 2, boxes=(), **SIZE),
        "c-of-networks": reference_packet(network, 3, kind="network", **SIZE),
        "d-key": pyramid_packet(0, **SIZE),
        "e-networks": random_packet(9, **SIZE),
        "f-jpeg": image_packet("jpeg", 4, **SIZE),
        "g-webp": image_packet("webp", 5, **SIZE),
        "h-avif": image_packet("avif", 6, **SIZE),
    }
    folder = tmp_path / "packets"
    folder.mkdir()
    for stem, packet in made.items():
        (folder / f"{stem}.rinr").write_bytes(encode_packet(packet))
    return folder, made


@pytest.fixture
def validation(tmp_path):
    folder = tmp_path / "val"
    folder.mkdir()
    rows = ["frame,x0,y0,w,h"]
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(encode_png(picture(64, 64, seed)))
        rows.append(f"{seed}.png,8,9,30,20")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


def test_a_folder_decodes_to_pictures_of_its_packets(tmp_path, packets, capsys):
    folder, made = packets
    code, stdout, stderr = run(
        capsys, "decode", folder, "--out", tmp_path / "png", "--device", "cpu", "--json"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["frames"] == len(made)
    keyframes = dict(map(keyframe_of, (made["d-key"], made["e-networks"])))
    for stem, packet in made.items():
        own = to_bytes(compose_packets([packet], keyframes=keyframes))[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(decode_image((tmp_path / "png" / f"{stem}.png").read_bytes()), own)


def test_a_damaged_payload_is_passed_over_and_named_and_the_others_are_decoded(tmp_path, packets, capsys):
    folder, made = packets
    broken = replace(made["d-key"], background=replace(made["d-key"].background, data=b"\xff" * 300))
    (folder / "a-broken.rinr").write_bytes(encode_packet(broken))
    code, stdout, stderr = run(
        capsys, "decode", folder, "--out", tmp_path / "png", "--device", "cpu", "--json"
    )
    assert code == 1
    assert json.loads(stdout)["frames"] == len(made)
    assert {file.stem for file in (tmp_path / "png").iterdir()} == set(made)
    assert "1 packets were passed over, the first because" in stderr
    assert "a-broken.rinr: " in stderr


def test_a_folder_is_described(packets, capsys):
    folder, made = packets
    code, stdout, stderr = run(capsys, "inspect", folder, "--json")
    assert code == 0, stderr
    kinds = [entry["background"]["kind"] for entry in json.loads(stdout)["packets"]]
    assert kinds == [*["reference"] * 3, "pyramid", "network", "jpeg", "webp", "avif"]
    assert run(capsys, "inspect", folder)[1].count("\n") == len(made)


def test_a_folder_trains(tmp_path, packets, validation, capsys):
    folder, made = packets
    options = ("--val", validation, "--imgsz", 64, "--epochs", 2, "--batch", 4, "--device", "cpu")
    code, stdout, stderr = run(
        capsys, "train", folder, *options, "--threads", 1, "--out", tmp_path / "out", "--json"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["images"] == len(made)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["steps"] == 4
    assert "left out" not in stderr


def test_only_frames_that_are_trained_on_count_as_overlap_with_the_validation_images(
    tmp_path, packets, validation, capsys
):
    folder, made = packets
    marks = [{}, {"validation": True}, {"labelled": False}]
    for seed, mark in enumerate(marks):
        digest = content_digest((validation.parent / f"{seed}.png").read_bytes())
        packet = replace(image_packet("jpeg", seed, **SIZE, **mark), source_digest=digest)
        (folder / f"{seed}.rinr").write_bytes(encode_packet(packet))
    (folder / "d-key.rinr").unlink()
    digest = content_digest((validation.parent / "1.png").read_bytes())
    lost = replace(made["b-same"], source_digest=digest)
    (folder / "b-same.rinr").write_bytes(encode_packet(lost))
    options = ("--val", validation, "--imgsz", 64, "--epochs", 1, "--batch", 4, "--device", "cpu")
    code, _, stderr = run(
        capsys, "train", folder, *options, "--threads", 1, "--out", tmp_path / "out", "--json"
    )
    assert code == 0, stderr
    assert "1 of the 3 validation images are also trained on" in stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["validation_overlap"] == 1


def test_what_lacks_its_keyframe_is_left_out_of_a_training_in_one_sentence(
    tmp_path, packets, validation, capsys
):
    folder, _ = packets
    (folder / "d-key.rinr").unlink()
    (folder / "i-scene.rinr").write_bytes(encode_packet(scene_packet(1)))
    options = ("--val", validation, "--imgsz", 64, "--epochs", 1, "--batch", 4, "--device", "cpu")
    code, stdout, stderr = run(
        capsys, "train", folder, *options, "--threads", 1, "--out", tmp_path / "out", "--json"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["images"] == 6
    assert "left out 2 of 8 packets that cannot be decoded, the first because the packet needs the" in stderr
