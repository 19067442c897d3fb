"""``fog-node encode``, then ``edge-node inspect`` and ``decode``: the offline path through files."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from edge_node.cli import main as edge_node
from fog_node.cli import main as fog_node
from tests.conftest import make_photo

FAST = [
    "--width",
    "96",
    "--background-psnr",
    "20",
    "--object-psnr",
    "24",
    "--time-budget",
    "20",
    "--threads",
    "1",
]
ENCODE_KEYS = {
    *("frames", "objects", "bytes_total", "bytes_per_frame", "background_psnr_db", "object_psnr_db"),
    *("seconds", "profile", "device", "reached_target"),
}


@pytest.fixture
def sequence(tmp_path):
    """A tracking sequence of three frames with one object."""
    folder = tmp_path / "clip"
    (folder / "img").mkdir(parents=True)
    for number in range(3):
        picture = cv2.GaussianBlur(make_photo(96, 64, number), (0, 0), 2)
        cv2.imwrite(str(folder / "img" / f"{number + 1:04d}.jpg"), picture[..., ::-1])
    (folder / "groundtruth_rect.txt").write_text("11,11,30,30\n21,11,30,30\n31,11,30,30\n")
    return folder


@pytest.fixture
def run(capsys):
    def call(main, *arguments):
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_frames_to_packets_to_pictures(run, sequence, tmp_path):
    packets, pictures = tmp_path / "packets", tmp_path / "pictures"
    code, out, _ = run(fog_node, "encode", sequence, "--out", packets, *FAST, "--json")
    assert code == 0
    report = json.loads(out)
    assert set(report) == ENCODE_KEYS
    assert (report["frames"], report["objects"], report["profile"]) == (3, 3, "pyramid")
    assert sorted(p.name for p in packets.iterdir()) == ["0001.rinr", "0002.rinr", "0003.rinr"]
    assert report["bytes_total"] == sum(p.stat().st_size for p in packets.iterdir())
    assert report["bytes_per_frame"] == report["bytes_total"] / 3
    assert report["reached_target"] == 1.0
    assert report["background_psnr_db"] >= 20
    assert report["object_psnr_db"] >= 24

    code, out, _ = run(edge_node, "inspect", packets, "--json")
    assert code == 0
    first = json.loads(out)["packets"][0]
    assert (first["width"], first["height"], first["labelled"]) == (96, 64, True)
    assert first["boxes"] == [{"class": "object", "x0": 10.0, "y0": 10.0, "x1": 40.0, "y1": 40.0}]

    code, out, _ = run(edge_node, "decode", packets, "--out", pictures, "--json")
    assert code == 0
    assert set(json.loads(out)) == {"frames", "seconds", "frames_per_second"}
    decoded = cv2.imread(str(pictures / "0002.png"))
    original = cv2.imread(str(sequence / "img" / "0002.jpg"))
    error = (decoded.astype(float) - original)[10:40, 20:50]
    assert 10 * np.log10(255**2 / np.square(error).mean()) >= 24

    code, _, _ = run(edge_node, "decode", packets / "0001.rinr", "--out", pictures, "--size", "32x48")
    assert code == 0
    assert cv2.imread(str(pictures / "0001.png")).shape == (32, 48, 3)


def test_a_second_run_keeps_what_is_there_and_adds_the_rest(run, sequence, tmp_path):
    packets = tmp_path / "packets"
    assert run(fog_node, "encode", sequence, "--out", packets, *FAST, "--max-frames", 2)[0] == 0
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in packets.iterdir()}
    (packets / "0002.rinr").write_bytes(before["0002.rinr"][1][:100])
    code, out, _ = run(fog_node, "encode", sequence, "--out", packets, *FAST, "--json")
    assert code == 0
    assert json.loads(out)["frames"] == 3
    assert (packets / "0001.rinr").stat().st_mtime_ns == before["0001.rinr"][0], "kept"
    assert (packets / "0002.rinr").stat().st_size > 100, "a cut-off packet is written again"


def test_a_killed_run_leaves_only_whole_packets(sequence, tmp_path):
    packets = tmp_path / "packets"
    command = [sys.executable, "-m", "fog_node.cli", "encode", str(sequence), "--out", str(packets), *FAST]
    config = tmp_path / "encoder.yaml"
    config.write_text("batch_frames: 1\n")
    process = subprocess.Popen(
        [*command, "--config", str(config)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 60
    while not list(packets.glob("*.rinr")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = list(packets.glob("*.rinr"))
    assert whole
    from edge_node.packet_files import read_packet

    for path in whole:
        read_packet(path)


def test_another_frames_packet_is_never_overwritten(run, sequence, tmp_path):
    packets = tmp_path / "packets"
    run(fog_node, "encode", sequence, "--out", packets, *FAST, "--max-frames", 1)
    other = cv2.imread(str(sequence / "img" / "0001.jpg"))
    cv2.imwrite(str(sequence / "img" / "0001.jpg"), 255 - other)
    code, _, err = run(fog_node, "encode", sequence, "--out", packets, *FAST)
    assert code == 1
    assert "packet of another frame" in err


def test_new_labels_and_missed_targets_are_encoded_again(run, sequence, tmp_path):
    packets = tmp_path / "packets"
    one = ["encode", sequence, "--out", packets, *FAST, "--max-frames", 1, "--json"]
    run(fog_node, *one)
    first = (packets / "0001.rinr").read_bytes()
    run(fog_node, *one)
    assert (packets / "0001.rinr").read_bytes() == first
    (sequence / "groundtruth_rect.txt").write_text("5,5,30,30\n21,11,30,30\n31,11,30,30\n")
    run(fog_node, *one)
    second = (packets / "0001.rinr").read_bytes()
    assert second != first
    _, out, _ = run(edge_node, "inspect", packets, "--json")
    assert json.loads(out)["packets"][0]["boxes"][0]["x0"] == 4
    _, out, _ = run(fog_node, *one, "--background-psnr", 24)
    assert json.loads(out)["background_psnr_db"] >= 24


@pytest.mark.parametrize("content", [b"notes of somebody", b"RINR\xff a packet from the future"])
def test_what_is_in_the_way_is_never_overwritten(run, sequence, tmp_path, content):
    (tmp_path / "packets").mkdir()
    path = tmp_path / "packets" / "0001.rinr"
    path.write_bytes(content)
    code, _, err = run(fog_node, "encode", sequence, "--out", tmp_path / "packets", *FAST)
    assert code == 1
    assert "no packet of this version" in err
    assert path.read_bytes() == content


def test_one_bad_frame_does_not_keep_the_others(run, sequence, tmp_path):
    good = sequence / "img" / "0002.jpg"
    data = good.read_bytes()
    (sequence / "img" / "0002.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    code, _, err = run(fog_node, "encode", sequence, "--out", tmp_path / "o", *FAST)
    assert code == 1
    assert "1 of 3 frames cannot be encoded; the first, 0002" in err
    assert sorted(p.stem for p in (tmp_path / "o").iterdir()) == ["0001", "0003"]


def test_one_damaged_packet_does_not_keep_the_others(run, sequence, tmp_path):
    packets = tmp_path / "packets"
    run(fog_node, "encode", sequence, "--out", packets, *FAST)
    path = packets / "0002.rinr"
    path.write_bytes(path.read_bytes()[:-20])
    code, out, err = run(edge_node, "decode", packets, "--out", tmp_path / "o", "--json")
    assert code == 1
    assert json.loads(out)["frames"] == 2
    assert "1 packets were passed over" in err
    assert "0002.rinr" in err
    code, out, err = run(edge_node, "inspect", packets, "--json")
    assert code == 1
    assert len(json.loads(out)["packets"]) == 2


def test_bytes_a_frame_are_of_the_frames_of_the_run(run, sequence, tmp_path):
    run(fog_node, "encode", sequence, "--out", tmp_path / "o", *FAST)
    _, out, _ = run(fog_node, "encode", sequence, "--out", tmp_path / "o", *FAST, "--max-frames", 1, "--json")
    report = json.loads(out)
    assert report["bytes_per_frame"] == (tmp_path / "o" / "0001.rinr").stat().st_size
    assert report["bytes_total"] == sum(p.stat().st_size for p in (tmp_path / "o").iterdir())


def test_two_frames_of_one_name_are_refused(run, tmp_path):
    (tmp_path / "img").mkdir()
    for suffix in ("png", "jpg"):
        cv2.imwrite(str(tmp_path / "img" / f"same.{suffix}"), make_photo(32, 32)[..., ::-1])
    code, _, err = run(fog_node, "encode", tmp_path / "img", "--out", tmp_path / "o", *FAST)
    assert code == 1
    assert "two frames" in err


def test_misses_are_listed_with_their_decibels(run, sequence, tmp_path):
    hard = ["--profile", "siren", "--width", 96, "--background-psnr", 55, "--time-budget", 0.2]
    hard += ["--threads", 1, "--max-frames", 1]
    code, out, err = run(fog_node, "encode", sequence, "--out", tmp_path / "o", *hard)
    assert code == 0
    assert "on target: 0%" in out
    assert "off target: 0001: background" in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["encode", "nowhere", "--out", "o"], 1, "nowhere"),
        (["encode", "clip", "--out", "o", "--max-frames", "0"], 2, "--max-frames is 0"),
        (["encode", "clip", "--out", "o", "--width", "5000"], 2, "--width is 5000: input should be less"),
        (["encode", "clip", "--out", "o", "--threads", "-1"], 2, "--threads is -1"),
        (["encode", "clip", "--out", "clip/groundtruth_rect.txt"], 2, "a file is in the way"),
        (["encode", "clip", "--out", "clip/groundtruth_rect.txt/x"], 2, "a file is in the way"),
        (["encode", "clip", "--out", "o", "--device", "cuda:42"], 2, "cuda:42"),
        (["encode", "clip", "--out", "o", "--background-psnr", "nan"], 2, "--background-psnr"),
        (["encode", "clip", "--out", "o", "--format", "mpeg7"], 2, "mpeg7"),
        (
            ["encode", "clip", "--out", "o", "--stream", "--profile", "webp"],
            2,
            "--stream works with profile py",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(run, sequence, tmp_path, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    actual, out, err = run(fog_node, *arguments)
    assert (actual, out) == (code, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_a_target_size_is_refused_where_it_would_be_ignored(run, sequence, tmp_path):
    config = tmp_path / "encoder.yaml"
    config.write_text("profile: siren\nmax_packet_bytes: 4000\n")
    arguments = ["encode", sequence, "--out", tmp_path / "o", "--config", config, "--profile", "jpeg"]
    code, _, err = run(fog_node, *arguments)
    assert code == 2
    assert "max_packet_bytes works with profile siren only, not jpeg" in err
    assert len(err.strip().splitlines()) == 1


def test_a_misspelt_setting_is_named_with_its_line(run, sequence, tmp_path):
    config = tmp_path / "encoder.yaml"
    config.write_text("background_psnr: 28\nobject_psrn: 33\n")
    code, _, err = run(fog_node, "encode", sequence, "--out", tmp_path / "o", "--config", config)
    assert code == 2
    assert "'object_psrn' in encoder.yaml line 2; did you mean 'object_psnr'?" in err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"RINR", "too short"), (b"\xff\xd8 a JPEG, not a packet", "do not begin with RINR")],
)
def test_what_is_no_packet_is_refused_by_name(run, tmp_path, content, sentence):
    path = tmp_path / "bad.rinr"
    path.write_bytes(content)
    for command in (["inspect", path], ["decode", path, "--out", tmp_path / "o"]):
        code, _, err = run(edge_node, *command)
        assert code == 1
        assert "bad.rinr" in err
        assert sentence in err


@pytest.mark.parametrize("size", ["٣x٣", "0x5", "360", "99999x10", "axb"])
def test_an_impossible_output_size_is_wrong_usage(run, tmp_path, size):
    code, _, err = run(edge_node, "decode", tmp_path, "--out", tmp_path / "o", "--size", size)
    assert code == 2
    assert "--size" in err
