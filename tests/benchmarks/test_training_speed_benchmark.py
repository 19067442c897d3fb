"""The benchmark of training speed: both ways train on the same frames, and their times add up."""

import json

import training_speed
from common.learning.settings import TrainingSettings
from decoding.packets import crop_frames
from detection.stopwatch import Epoch


def test_both_ways_are_timed_on_the_same_frames(tmp_path, capsys):
    arguments = [
        "--profiles", "webp", "--sizes", "64", "--frames", "8", "--batch", "4", "--rounds", "1",
        "--epochs", "1", "--workers", "0", "--device", "cpu", "--json", "--out", str(tmp_path),
    ]  # fmt: skip
    assert training_speed.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["rows"]
    assert (row["profile"], row["imgsz"], report["target"]) == ("webp", 64, None)
    assert row["ratio"] > 0
    assert row["low"] is row["high"] is None
    for way in ("ours", "peer"):
        found = row[way]
        assert 0 < found["network_s"] < found["epoch_s"]
        assert abs(found["epoch_s"] - found["network_s"] - found["waiting_s"]) < 1e-6
    assert row["ours"]["decoding_s"] > 0
    assert row["peer"]["workers_reading_s"] > 0
    assert (tmp_path / "training_speed.png").stat().st_size > 0


def test_the_peer_reads_the_same_boxes(tmp_path):
    from common.learning.yolo_environment import prepare_yolo

    prepare_yolo()
    from detection.ultralytics_peer import write_yolo_folder

    frames = crop_frames(3)
    classes = tuple(dict.fromkeys(box.name for frame in frames for box in frame.boxes))
    data = write_yolo_folder(tmp_path, frames, TrainingSettings(classes=classes))
    assert json.loads(data.read_text())["names"] == list(classes)
    rows = (tmp_path / "labels" / "000000.txt").read_text().split("\n")[:-1]
    assert len(rows) == len(frames[0].boxes)
    label, x, _, width, _ = map(float, rows[0].split())
    box = frames[0].boxes[0]
    assert classes[int(label)] == box.name
    assert abs((x - width / 2) * frames[0].width - max(0, box.x0)) < 0.01


def test_what_does_not_wait_is_the_network():
    assert Epoch(3.0, 0.5).network == 2.5


def test_an_unknown_profile_is_one_sentence(capsys):
    assert training_speed.main(["--profiles", "fog"]) == 2
    assert "--profiles names 'fog'" in capsys.readouterr().err
