"""The benchmark of decoding speed measures any profile from a folder of packets."""

import json
import sys

import pytest
import torch

import decode_speed
from common.bitstream import encode_packet
from decoding import networks
from tests.learning_packets import random_packet
from tests.raster_packets import image_packet, keyframe_of, pyramid_packet, reference_packet


@pytest.fixture
def folders(tmp_path):
    digest, _ = keyframe_of(pyramid_packet(0))
    made = {
        "networks": [random_packet(i, boxes=[(4, 4, 20, 20)]) for i in range(3)],
        "pyramids": [
            pyramid_packet(0),
            reference_packet(digest, 1),
            reference_packet(digest, 2, turned=True),
        ],
        "files": [image_packet("jpeg", 3), image_packet("webp", 4)],
    }
    for name, packets in made.items():
        (tmp_path / name).mkdir()
        for number, packet in enumerate(packets):
            (tmp_path / name / f"{number}.rinr").write_bytes(encode_packet(packet))
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    options = ["--rounds", "1", "--imgsz", "64", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["decode_speed.py", *map(str, arguments), *options])
    decode_speed.main()
    return capsys.readouterr().out


def test_every_folder_is_measured_beside_pillow(folders, monkeypatch, capsys):
    names = ("networks", "pyramids", "files")
    report = json.loads(run(monkeypatch, capsys, *(folders / name for name in names), "--json"))
    assert report["same_pixels_as_alone"]
    assert report["largest_difference_from_plain_grey"] <= 1
    rows = report["profiles"]
    assert set(rows) == {
        "networks (siren)", "pyramids (pyramid)", "files (jpeg)", "Pillow JPEG", "Pillow AVIF",
    }  # fmt: skip
    assert all(row["frames_per_second"] > 0 and row["resident_bytes"] > 0 for row in rows.values())
    assert rows["pyramids (pyramid)"]["arrival_ms"] > 0


def test_the_ways_to_decode_networks_are_compared_and_drawn(tmp_path, monkeypatch, capsys):
    printed = run(monkeypatch, capsys, "--quick", "--frames", "2", "--json", "--out", tmp_path)
    report = json.loads(printed)
    for way in ("one_network_at_a_time", "stacked_matmul", "one_packet_at_a_time"):
        assert report[f"{way}_frames_per_second"] > 0
        assert report[f"grouped_over_{way}"] > 0
    assert report["path"] == "stacks"
    assert json.loads((tmp_path / "decode_speed.json").read_text()) == report
    assert (tmp_path / "decode_speed.png").read_bytes().startswith(b"\x89PNG")


def test_every_way_gives_the_same_pictures():
    packets = [random_packet(i, boxes=[(4, 4, 20, 20), (1, 30, 40, 44)]) for i in range(3)]
    device = torch.device("cpu")
    wanted = networks.grouped(packets, device)
    for way in networks.REFERENCES.values():
        for image, other in zip(wanted, way(packets, device), strict=True):
            assert (image.int() - other.int()).abs().max() <= 1


def test_the_table_is_for_people(folders, monkeypatch, capsys):
    table = run(monkeypatch, capsys, folders / "pyramids")
    assert "on arrival, ms" in table
    assert "grouped" not in table


def test_packets_that_cannot_be_decoded_end_the_measurement(folders, monkeypatch, capsys):
    (folders / "pyramids" / "0.rinr").unlink()
    with pytest.raises(SystemExit, match="only 0 of 2 packets can be decoded"):
        run(monkeypatch, capsys, folders / "pyramids")
