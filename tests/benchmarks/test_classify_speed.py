"""The classifier's epoch against torchvision's reading of the same files: both ways train."""

import json

import pytest

import classify_speed


@pytest.mark.slow
def test_both_ways_are_timed_and_compared(tmp_path, capsys):
    options = "--profiles jpeg --imgsz 64 --frames 4 --batch 2 --rounds 1 --epochs 1 --workers 0 --device cpu"
    assert classify_speed.main([*options.split(), "--json", "--out", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["rows"]
    assert row["profile"] == "jpeg"
    assert row["ratio"] == pytest.approx(row["peer_epoch_s"] / row["ours_epoch_s"])
    assert json.loads((tmp_path / "classify_speed.json").read_text()) == report
