"""A ResNet-18 learns from packets of real frames: which sequence a later frame comes from."""

import json

import pytest

from common.cli import build_parser, run_command
from edge_node import train_command
from fog_node.encode_command import encode_source
from fog_node.encoders.encoder_settings import EncoderSettings

SEQUENCES = ("otb100/Crossing", "otb100/MotorRolling", "uav123/building5", "dtb70/Surfing06")
TRAIN, VALIDATE = 12, 6


@pytest.mark.slow
def test_it_tells_real_sequences_apart_on_frames_of_later_moments(real_data, tmp_path, capsys):
    for place in SEQUENCES:
        frames = sorted((real_data / place / "img").iterdir())
        # The first half trains and the last third judges: no frame is next to one of the other part.
        parts = {"train": frames[: len(frames) // 2], "val": frames[-(len(frames) // 3) :]}
        for (part, found), count in zip(parts.items(), (TRAIN, VALIDATE), strict=True):
            folder = tmp_path / "images" / part / place.partition("/")[2]
            folder.mkdir(parents=True)
            for number in range(count):
                frame = found[number * len(found) // count]
                (folder / frame.name).symlink_to(frame)
    settings = EncoderSettings(profile="pyramid", width=160)
    report, _ = encode_source(
        tmp_path / "images" / "train",
        tmp_path / "packets",
        settings,
        device="cpu",
        threads=1,
        layout="class-folders",
    )
    assert report["frames"] == TRAIN * len(SEQUENCES)
    parser, subparsers = build_parser("edge-node", "test")
    train_command.add_parser(subparsers)
    options = (
        "--task", "classify", "--val", tmp_path / "images", "--imgsz", 96, "--epochs", 6, "--batch", 8,
        "--device", "cpu", "--threads", 1, "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    code = run_command(parser, ["train", str(tmp_path / "packets"), *map(str, options)])
    answer = json.loads(capsys.readouterr().out)
    assert code == 0
    assert answer["images"] == TRAIN * len(SEQUENCES)
    chance = 1 / len(SEQUENCES)
    # Of 24 images 14 or more are right by chance once in 2,000 times.
    assert answer["top1"] >= 14 / 24 > 2 * chance
    assert answer["top1"] > answer["baseline_top1"]
