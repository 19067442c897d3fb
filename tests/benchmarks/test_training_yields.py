"""Uploads beside a training: real daemons, each way timed and compared with no training."""

import json

import pytest

import training_yields

SMALL = [
    "--rounds",
    "1",
    "--rate",
    "20",
    "--size",
    "20000",
    "--profile",
    "siren",
    "--packets",
    "4",
    "--imgsz",
    "64",
]


def test_uploads_of_a_device_that_does_not_train_are_timed(tmp_path, capsys):
    assert (
        training_yields.main([*SMALL, "--seconds", "0.5", "--ways", "none", "--json", "--out", str(tmp_path)])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    (row,) = report["rows"]
    assert 0 < row["median_s"] <= row["p95_s"] < 10
    assert (row["median_ratio"], row["p95_ratio"], row["steps_per_s"]) == (1, 1, 0)
    assert json.loads((tmp_path / "training_yields.json").read_text()) == report


@pytest.mark.slow
def test_a_device_that_trains_is_compared_with_one_that_does_not(capsys):
    assert training_yields.main([*SMALL, "--seconds", "2", "--ways", "none,default", "--json"]) == 0
    none, default = json.loads(capsys.readouterr().out)["rows"]
    assert default["steps_per_s"] > 0
    assert default["median_ratio"] == pytest.approx(default["median_s"] / none["median_s"])


@pytest.mark.parametrize(
    "wrong", [["--ways", "none,some"], ["--ways", "default"], ["--seconds", "0.01"], ["--rounds", "0"]]
)
def test_wrong_options_are_refused_in_a_sentence(wrong, capsys):
    assert training_yields.main([*SMALL, *wrong]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
