"""``simulate loopback`` with real daemons: small by default, in full when marked slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.node.status_file import read_status
from simulations.loopback_scenario import SHIPPED

SMALL = {
    "edges": 2,
    "trainers": 1,
    "frames": 12,
    "width": 96,
    "coded_width": 96,
    "background_psnr": 15,
    "object_psnr": 15,
    "encode_seconds": 4,
    "imgsz": 96,
    "batch": 4,
    "starter_steps": 60,
    "adapt_steps": 8,
    "gate_min_boxes": 1,
    "timeout_s": 240,
}
"""Few small frames: enough to learn something, quick enough for every test run."""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(SHIPPED.read_text()) | SMALL))
    return path


def start(*arguments: str, threads: str | None = "1") -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    return subprocess.Popen(
        [sys.executable, "-m", "simulations.cli", "loopback", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def stopped(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_result(value: dict[str, Any], edges: int, trainers: int, out: Path) -> None:
    assert value["verified"] is True
    assert value["learned"] is True
    assert [n["name"] for n in value["nodes"]] == ["fog", *(f"edge {i + 1}" for i in range(edges))]
    assert len({n["pid"] for n in value["nodes"]}) == edges + 1
    assert all(stopped(n["pid"]) for n in value["nodes"])
    assert value["packets"] == value["frames"]
    # One record a frame, and the starter detector.
    assert {n["records"] for n in value["nodes"]} == {value["frames"] + 1}
    assert value["uplink_bytes"] >= value["jpeg_bytes"]
    assert value["downlink_packet_bytes"] == edges * value["packet_bytes"]
    assert len(value["scores"]) == 2 * (1 + trainers)
    assert [t["node"] for t in value["trainings"]] == ["fog", *(f"edge {i + 1}" for i in range(trainers))]
    assert value["sentence"] == value["plan"]["sentence"]
    assert value["plan"]["mean_receivers"] == edges - 1
    assert (out / "learning.png").exists()
    assert len(list((out / "pictures").glob("*.png"))) >= 4
    assert value["seconds"]["total"] > 0


def test_a_fog_and_two_edges_record_encode_train_adapt_and_agree(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("--scenario", str(small), "--out", str(out), "--json")
    stdout, stderr = process.communicate(timeout=280)
    assert process.returncode == 0, stderr
    assert stderr == ""
    assert stdout.count("\n") == 1
    value = json.loads(stdout)
    check_result(value, edges=2, trainers=1, out=out)
    assert "Crops of a few photographs" in value["caveat"]


def running(small: Path, out: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A deployment whose nodes all run; its process, and theirs by pid."""
    process = start("--scenario", str(small), "--out", str(out))
    stores = [out / "nodes" / name / "store" for name in ("fog", "edge1", "edge2")]
    wait_until(lambda: all((store / "status.json").exists() for store in stores), process)
    return process, [read_status(store)["pid"] for store in stores]


def test_ctrl_c_stops_every_node_and_exits_with_130(small: Path, tmp_path: Path) -> None:
    process, pids = running(small, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr == "simulate: stopped by Ctrl-C\n"
    assert all(stopped(pid) for pid in pids)


def test_a_killed_node_ends_the_run_with_one_sentence(small: Path, tmp_path: Path) -> None:
    process, pids = running(small, tmp_path / "out")
    os.kill(pids[1], signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "simulate: the edge 1 ended with code -9" in stderr
    assert stderr.count("\n") == 1
    assert all(stopped(pid) for pid in pids)


def test_wrong_options_are_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    for options, sentence in (
        (["--edges", "1"], "--edges: "),
        (["--frames", "9"], "at least 12 in all"),
        (["--data", "nowhere"], "there is no nowhere"),
    ):
        process = start(*options, "--out", str(tmp_path / "out"))
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == (1 if "--data" in options else 2)
        assert sentence in stderr
        assert stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_adapts_to_the_second_clip_within_its_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("--out", str(out), "--json", threads=None)
    stdout, stderr = process.communicate(timeout=880)
    assert process.returncode == 0, stderr
    value = json.loads(stdout)
    check_result(value, edges=3, trainers=2, out=out)
    scores = {(s["detector"], s["clip"]): s["map50"] for s in value["scores"]}
    assert scores["starter", "street"] > 0.4
    for edge in ("edge 1", "edge 2"):
        assert scores[edge, "match"] > scores["starter", "match"] + 0.2
    assert value["seconds"]["total"] <= 360


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_frames_go_the_same_way(real_data: Path, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = real_data / "otb100" / "Skiing"
    options = ["--data", str(source), "--scenario", str(small), "--frames", "24", "--out", str(out), "--json"]
    process = start(*options)
    stdout, stderr = process.communicate(timeout=880)
    # So short a training may find nothing on real frames: then the run says so and counts as failed.
    assert process.returncode in (0, 1), stderr
    if process.returncode == 0:
        assert json.loads(stdout)["clips"] == ["first half", "second half"]
    else:
        assert "mAP" in stderr
