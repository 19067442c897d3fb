"""Backup of a running fog, and its restoration, as a person does it; edges go on."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.node_processes import Deployment, write_frames
from tests.scrape import scrape


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def command(name, fog, folder, *options):
    return subprocess.run(
        [sys.executable, "-m", "fog_node.cli", name, str(folder), "--config", str(fog.config), *options],
        capture_output=True,
        text=True,
    )


def test_a_fog_is_backed_up_as_it_runs_lost_and_restored(deployment, tmp_path, photo):
    deployment.start_fog()
    fog = deployment.fog
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, [f"slow{n:03d}" for n in range(30)])])
    edge.settings["sources"][0]["frames_per_second"] = 40
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] >= 8, "some packets")
    answer = command("backup", fog, tmp_path / "backup", "--json")
    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stdout)
    assert summary["records"] >= 8
    assert summary["damaged"] == []
    noted = fog.wait_for(lambda s: s["last_backup"] is not None, "the note of the backup")["last_backup"]
    assert (noted["position"], noted["bytes"]) == (summary["position"], summary["bytes"])
    assert scrape(fog).get("residual_inr_fog_last_backup_timestamp_seconds") == noted["time"]
    edge.wait_for(lambda s: s["inbox"]["packet"] == 30, "all packets")
    assert fog.status()["quarantine"]["items"] == 0
    refused = command("restore", fog, tmp_path / "backup")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "in use by another process" in refused.stderr
    fog.kill()
    shutil.move(fog.store, tmp_path / "lost")
    answer = command("restore", fog, tmp_path / "backup")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"restored: {summary['records']} records up to position")
    fog.start()
    # What the backup holds is encoded again where need be; the edge stores nothing twice.
    kept = summary["frames"]
    fog.wait_for(lambda s: s["log_position"] == kept and not s["frames_pending"], "the rest of the backup")
    log_id = fog.status()["log_id"]
    status = edge.wait_for(lambda s: s["log_id"] == log_id and s["log_position"] == kept, "the new log")
    assert status["inbox"]["packet"] == 30
    late = deployment.edge("two").start()
    late.wait_for(lambda s: s["inbox"]["packet"] == kept, "what the fog has")


def test_salvage_of_a_damaged_store_goes_by_way_of_a_backup(deployment, tmp_path, photo):
    deployment.start_fog()
    fog = deployment.fog
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, [f"{n:03d}" for n in range(12)])])
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 12, "all packets")
    assert fog.terminate() == 0
    path = fog.store / "store.sqlite3"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 2 * 4096])
    fog.start()
    assert fog.process.wait(20) == 1
    assert "fog-node salvage" in fog.text()
    answer = command("salvage", fog, tmp_path / "salvaged", "--json")
    assert answer.returncode == 0, answer.stderr
    shutil.move(fog.store, tmp_path / "lost")
    assert command("restore", fog, tmp_path / "salvaged").returncode == 0
    fog.start()
    fog.wait_for(lambda s: s["port"] > 0, "the fog")
    more = deployment.edge("two", [write_frames(tmp_path / "b", photo, ["100", "101"], 40)]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 14, "new packets of a restored fog")
    more.wait_for(lambda s: s["inbox"]["packet"] >= 2, "what there is")


def test_wrong_use_is_one_sentence(deployment, tmp_path):
    deployment.fog.config.write_text("{}\n")
    for name in ("backup", "restore", "salvage"):
        answer = command(name, deployment.fog, tmp_path / "nothing")
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.count("\n") == 1, answer.stderr
        assert command(name, deployment.fog, tmp_path, "--nonsense").returncode == 2
