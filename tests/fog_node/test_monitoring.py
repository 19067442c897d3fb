"""/health and /metrics of real daemons: what they tell is what has happened."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from common.images import encode_jpeg
from common.wire.messages import Error
from tests.node_processes import ROOT, Deployment, write_frames
from tests.raw_peer import Peer
from tests.scrape import get, health, scrape


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def wait_for_health(node, code, check=None, timeout=30.0):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found, value = health(node)
        if found == code and (check is None or check in [entry["check"] for entry in value["failing"]]):
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited for {code} {check}: {found} {value}\n{node.text()}")


def test_the_numbers_agree_with_what_happened(deployment, tmp_path, photo):
    fog = deployment.start_fog()
    names = [*(f"{n:03d}" for n in range(38)), "refuse1", "refuse2"]
    source = write_frames(tmp_path / "a", photo, names)
    edge = deployment.edge("one", [source]).start()
    other = deployment.edge("two", subscribe=("*",)).start()
    edge.wait_for(lambda s: s["recording"]["state"] != "waiting", "recording")
    during = scrape(fog)
    assert during.get("residual_inr_fog_acknowledgements_total") <= 40
    for node in (edge, other):
        node.wait_for(lambda s: s["inbox"]["packet"] == 38 and s["inbox"]["tombstone"] == 2, "everything")
    fog.wait_for(lambda s: all(p.get("held_position") == 40 for p in s["peers"].values()), "confirmation")

    after = scrape(fog)
    expected = {
        "acknowledgements_total": 40,
        "uploads_total": 40,
        "frames_pending": 0,
        "frames_pending_oldest_seconds": 0,
        "log_position": 40,
        "log_packets": 38,
        "log_tombstones": 2,
        "packets_on_target_total": 38,
        "encode_seconds_count": 38,
        "background_psnr_db_count": 38,
        "background_psnr_db_sum": 38 * 30.0,
        "object_psnr_db_sum": 38 * 35.0,
        "packet_bytes_sum": 38 * 500,
        "encoded_packet_bytes_total": 38 * 500,
        "records_sent_total": 80,
        "peers_connected": 2,
        "peer_positions_behind": 0,
        "quarantined_items": 0,
        "healthy": 1,
        "messages_refused_total": 0,
        "retention_dropped_records_total": 0,
    }
    assert {name: after.get(f"residual_inr_fog_{name}") for name in expected} == expected
    assert after.get("residual_inr_fog_encode_seconds_sum") == pytest.approx(0.038)
    assert after.get("residual_inr_fog_frames_encoded_total", kind="tombstone") == 2
    assert after.get("residual_inr_fog_messages_received_total", type="Upload") == 40
    assert after.get("residual_inr_fog_peer_received_bytes_total", name="one") > sum(
        path.stat().st_size for path in (source / "img").iterdir()
    )
    assert after.get("residual_inr_fog_peer_credit_records", name="one") > 0
    assert after.get("residual_inr_fog_encoder_state", state="ready") == 1
    assert after.get("residual_inr_fog_plan", strategy="edge") == 1
    assert after.get("process_resident_memory_bytes") > 10e6
    assert after.get("residual_inr_fog_child_resident_memory_bytes") > 10e6
    assert after.types["residual_inr_fog_encode_seconds"] == "histogram"
    # Means that have no value in this run: nothing was trained.
    absent = {"fog_training_loss", "edge_training_loss", "fog_detector_map50", "edge_detector_map50"}
    shipped = "".join((ROOT / "configs" / name).read_text() for name in ("grafana.json", "alerts.yml"))
    asked = set(re.findall(r"residual_inr_\w+", shipped)) - {f"residual_inr_{name}" for name in absent}
    told = {name for samples in (after, scrape(edge)) for name, _ in samples.values}
    assert asked - told == set(), "the dashboard and the alerts ask for what is there"

    mine, theirs = scrape(edge), scrape(other)
    assert mine.get("residual_inr_edge_acknowledgements_total") == 40
    assert mine.get("residual_inr_edge_outbox_frames") == 0
    assert mine.get("residual_inr_edge_outbox_acknowledged") == 40
    assert mine.get("residual_inr_edge_recorder_state", state="done") == 1
    for samples in (mine, theirs):
        assert samples.get("residual_inr_edge_records_applied_total") == 40
        assert samples.get("residual_inr_edge_records_duplicate_total") == 0
        assert samples.get("residual_inr_edge_inbox_records", kind="packet") == 38
        assert samples.get("residual_inr_edge_fog_connected") == 1
        assert samples.get("residual_inr_edge_healthy") == 1


def test_what_is_sent_again_and_refused_is_counted_by_its_kind(deployment, photo):
    fog = deployment.start_fog()
    peer = Peer(deployment)
    image, other = encode_jpeg(photo, 90), encode_jpeg(photo[:, ::-1], 90)
    answers = [peer.upload(0, image), peer.upload(0, image), peer.upload(0, other)]
    assert [type(answer).__name__ for answer in answers] == ["Accepted", "Accepted", "Refused"]
    peer.raw([b"\xc1nonsense"])
    assert peer.answer(Error).code == "bad_message"
    peer.close()
    samples = scrape(fog)
    for outcome in ("stored", "duplicate", "conflict"):
        assert samples.get("residual_inr_fog_uploads_total", outcome=outcome) == 1
    assert samples.get("residual_inr_fog_acknowledgements_total") == 2
    assert samples.get("residual_inr_fog_uploads_refused_total", code="conflict") == 1
    assert samples.get("residual_inr_fog_errors_sent_total", code="bad_message") == 1
    assert samples.get("residual_inr_fog_messages_refused_total") == 1


def test_records_that_retention_took_from_an_edge_are_counted(deployment, tmp_path, photo):
    fog = deployment.start_fog(
        storage={"retention": {"check_s": 0.05, "max_records": 5, "when_full": "drop_oldest"}}
    )
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, [f"{n}" for n in range(12)])]).start()
    fog.wait_for(lambda s: s["retention"]["dropped_records"] == 7, "seven records gone")
    late = deployment.edge("two").start()
    late.wait_for(lambda s: s["log_position"] == 12, "the end of the log")
    samples = scrape(late)
    assert samples.get("residual_inr_edge_records_missed_total") == 7
    assert samples.get("residual_inr_edge_records_received_total", kind="gap") == 1
    assert scrape(fog).get("residual_inr_fog_retention_dropped_records_total") == 7
    assert scrape(fog).get("residual_inr_fog_store_records") == 5
    assert edge.process.poll() is None


def test_health_fails_while_no_encoder_runs(deployment, tmp_path, photo):
    fog = deployment.start_fog(children={"restart_first_s": 1.5, "restart_max_s": 1.5}, log_format="json")
    status = fog.wait_for(lambda s: s["workers"][0]["state"] == "ready", "an encoder")
    assert wait_for_health(fog, 200)["failing"] == []
    os.kill(status["workers"][0]["pid"], signal.SIGKILL)
    value = wait_for_health(fog, 503, "encoder")
    assert value["failing"][0]["sentence"] == "encoder 0 of 1 is not running"
    assert scrape(fog).get("residual_inr_fog_health_failing", check="encoder") == 1
    wait_for_health(fog, 200)
    assert scrape(fog).get("residual_inr_fog_encoder_crashes_total") == 1
    told = [line["message"] for line in log_of(fog) if line.get("job") == "encoder 0"]
    assert [line.partition(";")[0] for line in told] == ["encoder 0 has ended by signal SIGKILL"]


def test_health_fails_while_the_disk_is_full(deployment, tmp_path, photo):
    fog = deployment.start_fog()
    wait_for_health(fog, 200)
    fog.terminate()
    fog.start(storage={"min_free_bytes": 1 << 60})
    fog.wait_for(lambda s: s["state"] == "serving", "the fog")
    assert "min_free_bytes" in wait_for_health(fog, 503, "disk")["failing"][0]["sentence"]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["a", "b"])]).start()
    wait_for_health(fog, 503, "store")
    samples = scrape(fog)
    assert samples.get("residual_inr_fog_store_failing") == 1
    assert samples.get("residual_inr_fog_uploads_refused_total", code="full") >= 1
    edge.wait_for(lambda s: s["outbox"]["last_refusal"], "the reason")
    samples = scrape(edge)
    assert samples.get("residual_inr_edge_outbox_frames") == 2
    assert samples.get("residual_inr_edge_outbox_oldest_seconds") > 0
    fog.terminate()
    fog.start(storage={"min_free_bytes": 0})
    edge.wait_for(lambda s: s["outbox"]["waiting"] == 0, "room")
    wait_for_health(fog, 200)


def test_an_edge_is_healthy_while_it_has_its_fog(deployment):
    fog = deployment.start_fog()
    edge = deployment.edge("one").start()
    edge.wait_for(lambda s: s["connection"] == "open", "the fog")
    wait_for_health(edge, 200)
    fog.kill()
    assert "no connection to the fog" in wait_for_health(edge, 503, "fog")["failing"][0]["sentence"]
    deployment.start_fog()
    wait_for_health(edge, 200)
    assert scrape(edge).get("residual_inr_edge_sessions_total") == 2


def test_the_oldest_waiting_frame_ages_while_nothing_encodes(deployment, tmp_path, photo):
    fog = deployment.start_fog(workers={"workers": 0})
    deployment.edge("one", [write_frames(tmp_path / "a", photo, ["a", "b", "c"])]).start()
    fog.wait_for(lambda s: s["frames_pending"] == 3, "the frames")
    first = scrape(fog).get("residual_inr_fog_frames_pending_oldest_seconds")
    time.sleep(0.3)
    second = scrape(fog).get("residual_inr_fog_frames_pending_oldest_seconds")
    assert 0.2 < second - first < 5


def test_slow_and_many_clients_cost_the_daemon_nothing(deployment, tmp_path, photo):
    fog = deployment.start_fog(monitoring={"connections": 3, "request_s": 1.0})
    host, port = fog.status()["monitoring"]["address"].removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(3)]
    for client in slow:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, [f"{n}" for n in range(10)])]).start()
    # Beyond the bound connections are closed at once.
    time.sleep(0.2)
    extra = socket.create_connection((host, int(port)), timeout=5)
    with extra, contextlib.suppress(ConnectionResetError):
        assert extra.recv(1) == b""
    edge.wait_for(lambda s: s["inbox"]["packet"] == 10, "all packets meanwhile")
    # A client that trickles its request is cut off in the end.
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            slow[0].sendall(b"x")
        except OSError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("a client that never ends its request keeps its connection")
    for client in slow:
        client.close()
    assert get(fog, "/health")[0] == 200


def test_a_taken_port_is_told_and_harms_nothing(deployment, tmp_path, photo):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        fog = deployment.start_fog(monitoring={"port": port})
        status = fog.status()
        assert status["monitoring"]["address"] is None
        assert str(port) in status["monitoring"]["problem"]
        fog.wait_for_log("set monitoring.port to a free one")
    fog.terminate()
    fog.start(monitoring={"port": None})
    status = fog.wait_for(lambda s: s["state"] == "serving", "the fog")
    assert status["monitoring"] == {"address": None, "problem": ""}


def test_other_paths_and_methods(deployment):
    fog = deployment.start_fog()
    assert get(fog, "/")[0] == 404
    code, text = get(fog, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert code == 200
    assert text.endswith("# EOF\n")


def log_of(node):
    """The lines of a daemon's log in JSON, without what the encoder of these tests prints itself."""
    return [json.loads(line) for line in node.text().splitlines() if "stray print" not in line]


def command(module, node, *arguments):
    """(exit code, stdout, stderr) of a command about a running node."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", module, "status", "--config", str(node.config), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_status_shows_people_what_json_tells_programs(deployment, tmp_path, photo):
    fog = deployment.start_fog()
    edge = deployment.edge("camera-1", [write_frames(tmp_path / "a", photo, ["a", "b", "refuse"])]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 2 and s["inbox"]["tombstone"] == 1, "the frames")
    fog.wait_for(lambda s: any(p.get("held_position") == 3 for p in s["peers"].values()), "confirmation")
    code, text, _ = command("fog_node.cli", fog)
    assert code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "state serving, healthy" in lines
    assert "encoded 2 packets, 1 tombstones" in lines
    assert "uploads 3 stored" in lines
    assert "background PSNR 30.00 dB" in lines
    device = next(line for line in lines if line.startswith("camera-1"))
    assert f"camera-1 {edge.keys.public[:8]} yes 2 1.00 kB" in device
    code, text, _ = command("fog_node.cli", fog, "--json")
    status = json.loads(text)
    assert (code, status["health"]["healthy"], status["counters"]["uploads"]["stored"]) == (0, True, 3)

    code, text, _ = command("edge_node.cli", edge)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert code == 0
    assert "recorded 3, of which the fog has 3" in lines
    assert "records 2 packet, 1 tombstone" in lines
    assert any("(own) open" in line for line in lines)
    fog.kill()
    code, text, error = command("fog_node.cli", fog)
    assert code == 1
    assert "not running (last seen serving)" in text
    assert "is not running" in error
    code, _, error = command("fog_node.cli", fog, "--watch", "--json")
    assert (code, "leave out --json" in error) == (2, True)


def test_two_hundred_frames_leave_no_line_each(deployment, tmp_path, photo):
    fog = deployment.start_fog(log_format="json")
    names = [f"{n:03d}" for n in range(200)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)], log_format="json").start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 200, "all packets", 120)
    for node in (fog, edge):
        lines = log_of(node)
        assert len(lines) < 20, node.text()
        assert {line["node"] for line in lines} <= {"fog-node", "edge-node"}
    told = [line for line in log_of(fog) if line.get("device")]
    assert [line["message"] for line in told] == [f"edge {edge.keys.public} is connected"]


def test_frames_that_fail_one_after_the_other_are_told_of_a_few_times(deployment, tmp_path, photo):
    fog = deployment.start_fog(log_format="json", log_lines_per_minute=5)
    names = [f"refuse{n:03d}" for n in range(40)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    edge.wait_for(lambda s: s["inbox"]["tombstone"] == 40, "all tombstones")
    told = [line for line in log_of(fog) if "was not encoded" in line["message"]]
    assert [line["frame"] for line in told] == [0, 1, 2, 3, 4]
    assert {line["device"] for line in told} == {edge.keys.public}
    assert scrape(fog).get("residual_inr_fog_frames_encoded_total", kind="tombstone") == 40
