"""The benchmark of encoder workers: its frames, its table, and one run of it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from encode_workers import DEVICES, arriving, load_frames, plot, table

ROOT = Path(__file__).parents[2]

ROW = {
    "start_seconds": 1.0,
    "frames_per_second": 0.5,
    "rounds": [0.5],
    "bytes_per_frame": 900.0,
    "keyframes": 4,
}
REPORT = {
    "machine": "a machine",
    "workers": {"processes 1": ROW, "processes 2": {**ROW, "frames_per_second": 1.0, "over_one": 2.0}},
    "killed": {
        "workers": "processes 2",
        "frames": 8,
        "packets": 8,
        "distinct": 8,
        "tombstones": 0,
        "seconds": 9.0,
    },
}


def test_frames_of_cameras_come_mixed_and_are_new_in_every_round():
    cameras = load_frames(None, 2 * DEVICES)
    first, second = arriving(cameras, 1), arriving(cameras, 2)
    assert [frame.identity.number for frame in first] == [0] * DEVICES + [1] * DEVICES
    assert len({frame.identity for frame in first + second}) == 4 * DEVICES
    assert [frame.image for frame in first] == [frame.image for frame in second]


def test_the_table_and_the_plot_state_the_ratio(tmp_path):
    text = table(REPORT)
    assert "processes 2       1.000       2.00" in text
    assert "8 frames in, 8 packets out (8 distinct), 0 tombstones" in text
    plot(REPORT, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_run_loses_no_frame():
    command = [sys.executable, "benchmarks/encode_workers.py", "--frames", "4", "--rounds", "1", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    assert len(report["workers"]) == (2 if find_spec("ray") is None else 4)
    assert report["killed"]["killed"] == 1
    assert report["killed"]["distinct"] == 4
