"""A fog and edges as real processes over CURVE: what is acknowledged arrives, once, whatever dies."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import yaml

from common.bitstream import decode_packet
from common.inr.decode import compose_packets
from common.store import open_edge_store, open_fog_store
from common.store.records import RecordKind
from tests.node_processes import Deployment, write_frames

PACKETS = (RecordKind.PACKET,)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def log_of(fog):
    """(device, epoch, number, kind) -> digest of every record in the fog's log."""
    with open_fog_store(fog.store) as store:
        records, after = [], 0
        while True:
            page = store.read(after, 100, 1 << 24)
            records += page.records
            after = page.through
            if not page.more:
                break
    keys = [(record.device, record.epoch, record.number, record.kind) for record in records]
    assert len(set(keys)) == len(keys), "a record stands twice in the log"
    return dict(zip(keys, [record.digest for record in records], strict=True))


def inbox_of(edge):
    with open_edge_store(edge.store, edge.keys.public) as store:
        records = [record for _, record in store.records(0, 10_000)]
    keys = [(record.device, record.epoch, record.number, record.kind) for record in records]
    assert len(set(keys)) == len(keys), "a record was applied twice"
    return dict(zip(keys, [record.digest for record in records], strict=True))


def test_frames_travel_from_every_edge_to_every_edge(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"{n:03d}" for n in range(12)]
    one = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    two = deployment.edge("two", [write_frames(tmp_path / "b", photo, [*names, "large"], 50)]).start()
    for edge in (one, two):
        edge.wait_for(lambda s: s["inbox"]["packet"] == 25, "25 packets")
    status = deployment.fog.wait_for(lambda s: s["log_position"] == 25, "25 records")
    assert status["encoded"]["packets"] == 25
    assert status["encoded"]["background_psnr_db"] == 30.0
    for edge in (one, two):
        assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    log = log_of(deployment.fog)
    assert len(log) == 25
    assert inbox_of(one) == log
    assert inbox_of(two) == log


def test_nothing_acknowledged_is_lost_or_doubled_when_the_fog_is_killed(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"slow{n:03d}" for n in range(60)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)])
    edge.settings["sources"][0]["frames_per_second"] = 60
    edge.start()
    for acknowledged in (10, 30):
        edge.wait_for(lambda s, n=acknowledged: s["outbox"]["acknowledged"] >= n, "acknowledgements")
        deployment.fog.kill()
        deployment.fog.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 60, "all packets", 60)
    assert edge.status()["outbox"]["acknowledged"] == 60
    assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    log = log_of(deployment.fog)
    assert sorted(key[2] for key in log) == list(range(60))
    assert inbox_of(edge) == log


def test_nothing_is_lost_or_doubled_when_an_edge_is_killed(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"slow{n:03d}" for n in range(40)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)])
    edge.settings["sources"][0]["frames_per_second"] = 80
    edge.start()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] >= 5, "some acknowledgements")
    edge.kill()
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] >= 20, "some packets")
    edge.kill()
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 40, "all packets", 60)
    assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    log = log_of(deployment.fog)
    assert sorted(key[2] for key in log) == list(range(40))
    assert inbox_of(edge) == log


def test_an_unknown_key_gets_nowhere_and_is_told_how_to_get_in(deployment, tmp_path, photo):
    deployment.start_fog()
    source = write_frames(tmp_path / "a", photo, ["000"])
    edge = deployment.edge("one", [source], allowed=False).start()
    sentence = f"does not know this node; run there: fog-node allow '{edge.keys.public}' --may-upload"
    edge.wait_for(lambda s: sentence in s["problem"], "the sentence")
    assert edge.text().count(sentence) == 1
    assert deployment.fog.status()["log_position"] == 0
    command = [sys.executable, "-m", "fog_node.cli", "allow", edge.keys.public, "--may-upload"]
    options = ["--may-subscribe", "*", "--config", deployment.fog.config]
    subprocess.run([*command, *options], check=True, capture_output=True)
    edge.wait_for(lambda s: s["inbox"]["packet"] == 1, "the packet once it is allowed")


def test_a_wrong_server_key_is_named(deployment, tmp_path, photo):
    deployment.start_fog()
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000"])])
    edge.settings["fog"]["public_key"] = edge.keys.public
    edge.start()
    edge.wait_for(lambda s: "check that fog.public_key" in s["problem"], "the sentence", 40)
    assert edge.terminate() == 0


def test_a_key_taken_off_the_list_is_disconnected(deployment, tmp_path, photo):
    deployment.start_fog()
    edge = deployment.edge("one").start()
    edge.wait_for(lambda s: s["connection"] == "open", "a session")
    deployment.allow.path.write_text("devices: []\n")
    edge.wait_for_log("is not on the fog's allow list", 5)
    deployment.fog.wait_for(lambda s: not any(p["connected"] for p in s["peers"].values()), "no peer", 5)


def test_ctrl_c_drains_and_exits_0(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"slow{n:03d}" for n in range(30)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] > 0, "an acknowledgement")
    assert deployment.fog.terminate(signal.SIGINT) == 0
    assert edge.terminate(signal.SIGINT) == 0
    assert deployment.fog.status()["state"] == "stopped"
    assert not deployment.fog.status()["alive"]


def test_a_full_disk_at_the_fog_holds_uploads_until_there_is_room(deployment, tmp_path, photo):
    deployment.start_fog(storage={"max_database_bytes": 200_000})
    names = [f"{n:03d}" for n in range(60)]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    deployment.fog.wait_for(lambda s: s["store_full"], "a full store")
    edge.wait_for_log("was refused for now")
    full = edge.status()["outbox"]
    assert full["refused"] == 0
    assert full["waiting"] > 0
    assert deployment.fog.process.poll() is None
    assert deployment.fog.terminate() == 0
    deployment.fog.start(storage={"max_database_bytes": None})
    edge.wait_for(lambda s: s["inbox"]["packet"] == 60, "all packets once there is room")


def test_a_frame_that_kills_encoders_becomes_a_tombstone_and_harms_no_other(
    deployment, tmp_path, photo, worker_settings
):
    deployment.start_fog(workers=worker_settings)
    names = ["000", "001poison", "002", "003refuse", "004", "005"]
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 4 and s["inbox"]["tombstone"] == 2, "all records", 60)
    assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    with open_fog_store(deployment.fog.store) as store:
        records = store.read(0, 100, 1 << 24).records
    assert [record.number for record in records] == list(range(6)), "the order of the device is kept"
    reasons = {record.number: record.meta.get("reason", "") for record in records}
    assert "died 3 times on this frame (" in reasons[1]
    assert ("the death of its process" if worker_settings else "exit code 9") in reasons[1]
    assert "is refused by the stub" in reasons[3]


def test_a_hung_encoder_is_killed_and_its_frame_tried_again(deployment, tmp_path, photo, worker_settings):
    deployment.start_fog(workers={"batch_timeout_s": 0.3, "attempts": 2, **worker_settings})
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000hang", "001"])]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 1 and s["inbox"]["tombstone"] == 1, "both records", 60)
    deployment.fog.wait_for_log("is silent for too long and is killed")


@pytest.mark.parametrize(
    ("module", "command"), [("fog_node.cli", "serve"), ("edge_node.cli", "run")], ids=["fog", "edge"]
)
def test_a_misspelt_key_is_one_sentence_and_exit_code_2(tmp_path, module, command):
    config = tmp_path / "node.yaml"
    config.write_text("# a comment\nstroe: here\n")
    run = subprocess.run(
        [sys.executable, "-m", module, command, "--config", str(config)], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "unknown key 'stroe' in node.yaml line 2; did you mean 'store'?" in run.stderr


@pytest.mark.parametrize("module", ["fog_node.daemon", "edge_node.daemon", "fog_node.cli", "edge_node.cli"])
def test_no_daemon_process_imports_torch(module):
    code = f"import {module}, sys; print(sorted({{'torch', 'ultralytics', 'triton'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_fogs_detector_reaches_an_edge_and_starts_what_waited_for_it(deployment, tmp_path, photo):
    deployment.start_fog(training={"module": "stub_trainer", "starter_frames": 5, "strategy": "edge"})
    first = write_frames(tmp_path / "a", photo, [f"{n:03d}" for n in range(5)])
    second = write_frames(tmp_path / "b", photo, [f"{n:03d}" for n in range(4)], 50)
    edge = deployment.edge("one", [first, second])
    edge.settings["sources"][1]["wait_for_detector"] = True
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["weights"] == 1 and s["inbox"]["packet"] == 9, "weights and packets")
    status = edge.wait_for(lambda s: s["training"]["detector"], "a detector in use")
    assert status["training"]["last_decision"]["source"] == "received"
    weights = (edge.store / "detector" / "weights.safetensors").read_bytes()
    assert weights == b"fog weights 1 " * 15_000
    # Neither node does it again after a restart.
    edge.kill()
    assert deployment.fog.terminate() == 0
    deployment.fog.start()
    edge.start()
    edge.wait_for(
        lambda s: s["connection"] == "open" and s["training"]["detector"], "the detector after a kill"
    )
    assert edge.status()["training"]["decisions"] == 1
    assert deployment.fog.status()["training"]["rounds"] == 1


def test_an_edge_trains_on_packets_and_judges_later_weights_of_the_fog(deployment, tmp_path, photo):
    deployment.start_fog(training={"module": "stub_trainer", "starter_frames": 12, "strategy": "edge"})
    first = write_frames(tmp_path / "a", photo, [f"{n:03d}" for n in range(6)])
    training = {"mode": "auto", "module": "stub_trainer", "min_new_frames": 6, "max_rounds": 1}
    edge = deployment.edge("one", [first], training=training).start()
    status = edge.wait_for(lambda s: s["training"]["decisions"] == 1, "a round of the edge")
    assert status["training"]["last_decision"] == {
        "source": "trained",
        "deploy": True,
        "reason": "it is better",
        "metrics": {"map50": 0.6, "map50_95": 0.4, "seconds": 2.5},
    }
    other = write_frames(tmp_path / "b", photo, [f"{n:03d}" for n in range(6)], 50)
    deployment.edge("two", [other]).start()
    status = edge.wait_for(lambda s: s["training"]["decisions"] == 2, "a judgement")
    assert status["training"]["last_decision"]["source"] == "received"
    assert status["training"]["last_decision"]["reason"] == "it is not worse"
    assert (edge.store / "detector" / "weights.safetensors").read_bytes().startswith(b"fog weights")


def test_validation_originals_reach_edges_that_only_receive(deployment, tmp_path, photo):
    deployment.start_fog()
    source = write_frames(tmp_path / "a", photo, [f"{n:03d}" for n in range(10)])
    deployment.edge("one", [source], validation={"block": 5, "held_out": 2}).start()
    two = deployment.edge("two", upload=False, fetch={"validation_originals": 3}).start()
    two.wait_for(lambda s: s["inbox"]["packet"] == 10 and s["originals_fetched"] == 3, "3 originals")
    assert two.terminate() == 0
    with open_edge_store(two.store, two.keys.public) as store, store.training_view() as view:
        originals = view.validation_originals(10)
    sent = {path.read_bytes() for path in (source / "img").glob("*.jpg")}
    assert len(originals) == 3
    assert all(frame.image in sent and len(frame.boxes) == 1 for frame in originals)


@pytest.mark.parametrize("key", ["000key", "000keylarge"])
def test_an_edge_that_joins_late_fetches_the_keyframe_it_lacks(deployment, tmp_path, photo, key):
    deployment.start_fog()
    names = [key, "001needs", "002needs", "003"]
    one = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    status = one.wait_for(lambda s: s["inbox"]["packet"] == 4, "4 packets")
    assert status["waiting_for_keyframe"] == 0, "in the log the keyframe comes first"
    assert deployment.fog.terminate() == 0
    with open_fog_store(deployment.fog.store) as store:
        assert store.trim(1) == 0, "two packets refer to it"
    deployment.fog.start()
    two = deployment.edge("two", upload=False).start()
    two.wait_for(lambda s: s["inbox"]["packet"] == 3 and s["inbox"]["gap"] == 1, "what the log holds")
    two.wait_for(lambda s: s["waiting_for_keyframe"] == 0, "the keyframe")
    assert two.terminate() == 0
    with open_edge_store(two.store, two.keys.public) as store, store.training_view() as view:
        packets = [data for _, data in view.packets_after(0, 10)]
        needed = {r.meta["keyframe"]["digest"] for _, r in store.records(0, 10) if "keyframe" in r.meta}
        (keyframe,) = [view.packet(bytes.fromhex(digest)) for digest in needed]
    assert len(packets) == 3
    assert keyframe.startswith(b"stub")


def test_a_keyframe_that_is_gone_leaves_its_packets_waiting_and_the_others_usable(
    deployment, tmp_path, photo
):
    deployment.start_fog()
    one = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000key", "001needs", "002"])]).start()
    one.wait_for(lambda s: s["inbox"]["packet"] == 3, "3 packets")
    assert deployment.fog.terminate() == 0
    connection = sqlite3.connect(deployment.fog.store / "store.sqlite3")
    with connection:
        connection.execute("DELETE FROM log WHERE position = 1")
    connection.close()
    deployment.fog.start()
    two = deployment.edge("two", upload=False).start()
    two.wait_for_log("keyframe")
    two.wait_for(lambda s: s["inbox"]["packet"] == 2 and s["waiting_for_keyframe"] == 1, "both packets")
    assert two.text().count("is not to be had") == 1
    assert two.terminate() == 0
    with open_edge_store(two.store, two.keys.public) as store, store.training_view() as view:
        assert len(view.packets_after(0, 10)) == 1


def test_an_edge_receives_only_the_devices_it_may_subscribe_to(deployment, tmp_path, photo):
    deployment.start_fog()
    one = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001"])]).start()
    other = deployment.edge("two", [write_frames(tmp_path / "b", photo, ["000"], 50)]).start()
    reader = deployment.edge("three", upload=False, subscribe=[one.keys.public]).start()
    other.wait_for(lambda s: s["inbox"]["packet"] == 3, "everything at an edge that may")
    status = reader.wait_for(lambda s: s["log_position"] == 3, "the end of the log")
    assert status["inbox"]["packet"] == 2


def test_the_real_encoder_turns_frames_into_packets_that_decode(deployment, tmp_path, photo, worker_settings):
    encoder = {"width": 96, "background_psnr": 15, "object_psnr": 15, "time_budget_s": 1.0}
    workers = {"module": "fog_node.encoder_worker", "threads": 1, **worker_settings}
    deployment.start_fog(workers=workers, encoder=encoder)
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001"])]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 2, "2 packets", 90)
    # The fog's status may be older than what the edge has received by now.
    status = deployment.fog.wait_for(lambda s: s["encoded"]["packets"] == 2, "both in the fog's figures")
    assert status["encoded"]["reached_target"] == 1.0
    assert status["encoded"]["background_psnr_db"] > 15
    assert edge.terminate() == 0
    with open_edge_store(edge.store, edge.keys.public) as store, store.training_view() as view:
        packets = [decode_packet(data) for _, data in view.packets_after(0, 10)]
    assert [packet.identity.number for packet in packets] == [0, 1]
    assert [len(packet.boxes) for packet in packets] == [1, 1]


def test_a_stream_of_the_real_encoder_decodes_at_an_edge_that_fetched_its_keyframe(
    deployment, tmp_path, photo
):
    encoder = {"profile": "pyramid", "width": 160, "background_psnr": 24, "object_psnr": 26}
    deployment.start_fog(workers={"module": "fog_node.encoder_worker", "threads": 1}, encoder=encoder)
    one = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001", "002"])]).start()
    one.wait_for(lambda s: s["inbox"]["packet"] == 3, "3 packets", 120)
    assert deployment.fog.terminate() == 0
    with open_fog_store(deployment.fog.store) as store:
        assert store.trim(1) == 0, "the others refer to the first"
    deployment.fog.start()
    two = deployment.edge("two", upload=False).start()
    two.wait_for(lambda s: s["inbox"]["packet"] == 2 and s["waiting_for_keyframe"] == 0, "the keyframe")
    assert two.terminate() == 0
    with open_edge_store(two.store, two.keys.public) as store, store.training_view() as view:
        packets = [decode_packet(data) for _, data in view.packets_after(0, 10)]
        (digest,) = {packet.keyframe for packet in packets}
        keyframes = {digest: decode_packet(view.packet(digest))}
    assert compose_packets(packets, keyframes=keyframes).shape == (2, 3, packets[0].height, 160)


def test_a_busy_encoder_does_not_hold_up_the_end(deployment, tmp_path, photo):
    deployment.start_fog()
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["hang"])]).start()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 1, "the acknowledgement")
    deployment.fog.wait_for(lambda s: s["frames_in_encoders"] == 1, "a busy encoder")
    assert deployment.fog.terminate(timeout=8) == 0


def test_a_second_daemon_on_the_same_store_is_one_sentence(deployment):
    deployment.start_fog()
    command = [sys.executable, "-m", "fog_node.cli", "serve", "--config", str(deployment.fog.config)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "another process" in run.stderr


def test_a_busy_port_is_one_sentence(deployment, tmp_path):
    deployment.start_fog()
    other = Deployment(tmp_path / "other")
    other.fog.settings["address"] = deployment.fog.settings["address"]
    other.fog.config.write_text(yaml.safe_dump(other.fog.settings))
    command = [sys.executable, "-m", "fog_node.cli", "serve", "--config", str(other.fog.config)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "another program uses the port" in run.stderr


@pytest.mark.slow
def test_random_kills_lose_nothing_and_double_nothing(deployment, tmp_path, photo):
    """Minutes of chaos: three nodes, one of them killed every second or so at random."""
    chance = random.Random(20)
    deployment.start_fog(training={"module": "stub_trainer", "starter_frames": 40, "strategy": "edge"})
    names = [f"slow{n:03d}" for n in range(150)]
    training = {"mode": "auto", "module": "stub_trainer", "min_new_frames": 60}
    edges = []
    for index in range(2):
        source = write_frames(tmp_path / f"clip{index}", photo, [*names, "large"], 60 * index)
        edge = deployment.edge(f"edge{index}", [source], training=training)
        edge.settings["sources"][0]["frames_per_second"] = 20
        edges.append(edge.start())
    for _ in range(15):
        time.sleep(chance.uniform(0.3, 2.0))
        victim = chance.choice([deployment.fog, *edges])
        victim.kill()
        victim.start()
    for edge in edges:
        edge.wait_for(lambda s: s["inbox"]["packet"] == 302 and s["inbox"]["weights"] >= 1, "everything", 120)
        assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    log = log_of(deployment.fog)
    assert sum(key[3] is RecordKind.PACKET for key in log) == 302
    for edge in edges:
        assert inbox_of(edge) == log


def test_an_encoder_that_cannot_start_is_given_up_and_frames_are_taken_all_the_same(
    deployment, tmp_path, photo, worker_settings
):
    deployment.fog.settings["workers"]["module"] = "no_such_encoder"
    deployment.start_fog(workers={"start_attempts": 3, **worker_settings})
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001"])]).start()
    status = deployment.fog.wait_for(lambda s: s["workers"][0]["state"] == "failed", "the encoder's failure")
    assert status["workers"][0]["crashes"] == 3
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 2, "both frames taken")
    text = deployment.fog.text()
    assert text.count("is not started any more") == 1
    time.sleep(0.5)
    assert deployment.fog.status()["workers"][0]["crashes"] == 3
    assert deployment.fog.terminate() == 0


def test_a_store_that_is_a_file_is_one_sentence(deployment):
    deployment.fog.folder.mkdir(exist_ok=True)
    deployment.fog.store.write_text("no folder")
    deployment.fog.config.write_text(yaml.safe_dump(deployment.fog.settings))
    command = [sys.executable, "-m", "fog_node.cli", "serve", "--config", str(deployment.fog.config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cannot be the folder of a store" in ended.stderr
    assert "unexpected" not in ended.stderr


@pytest.mark.parametrize("port", ["99999", "70000", "0", "*"])
def test_a_port_that_is_none_is_refused_at_once(deployment, port):
    edge = deployment.edge("one", fog={"address": f"tcp://127.0.0.1:{port}"})
    edge.config.write_text(yaml.safe_dump(edge.settings))
    command = [sys.executable, "-m", "edge_node.cli", "run", "--config", str(edge.config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "fog.address" in ended.stderr
    assert "port" in ended.stderr
