"""Pipes, child processes, rounds of training and the history of detectors."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.errors import MessageError, StoreError
from common.node.child import Child, stop_children
from common.node.detector_history import DetectorHistory
from common.node.learning_messages import (
    Failed,
    Judge,
    Position,
    Progress,
    Ready,
    Result,
    Start,
    Stop,
    Train,
    from_map,
    to_map,
)
from common.node.mailbox import Mailbox
from common.node.pipe import PARENT_LOST_EXIT_CODE, read_message, write_message
from common.node.status_file import read_status, write_status
from common.node.training_rounds import Adopt, Received, RoundRules, StartTrainer, Tell, TrainingRounds

TESTS = str(Path(__file__).parents[2])


# Pipe


def test_messages_cross_a_pipe_in_order():
    stream = io.BytesIO()
    for number in range(3):
        write_message(stream, {"number": number, "bytes": b"\0" * number}, max_bytes=100)
    stream.seek(0)
    assert [read_message(stream, max_bytes=100)["number"] for _ in range(3)] == [0, 1, 2]
    assert read_message(stream, max_bytes=100) is None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\0\0", "ended inside a message"),
        (b"\0\0\0\x05ab", "ended inside a message"),
        (b"\xff\xff\xff\xff", "announces 4294967295 bytes, over the limit of 100"),
        (b"\0\0\0\x01\xc1", "is not msgpack"),
        (b"\0\0\0\x01\x05", "is a int, not a map"),
    ],
)
def test_a_damaged_pipe_is_a_typed_error(data, sentence):
    with pytest.raises(MessageError, match=sentence):
        read_message(io.BytesIO(data), max_bytes=100)


def test_a_message_over_the_limit_is_not_written():
    stream = io.BytesIO()
    with pytest.raises(MessageError, match="over the limit of 100"):
        write_message(stream, {"bytes": bytes(200)}, max_bytes=100)
    assert stream.getvalue() == b""


LEARNING = [
    Start("edge", "store", "work", {"imgsz": 64}),
    Position(5),
    Train("50 new frames", None),
    Train("50 new frames", "weights"),
    Judge("received", "new", "old"),
    Stop(),
    Ready(1, 2, 3),
    Progress(1, 10, 0.5, {"x": 1}),
    Progress(0, 10),
    Result(True, "it is better", "weights", {"map50": 0.5}),
    Failed("no memory"),
]


@pytest.mark.parametrize("message", LEARNING, ids=lambda message: type(message).__name__)
def test_trainer_messages_survive_the_pipe(message):
    stream = io.BytesIO()
    write_message(stream, to_map(message), max_bytes=1000)
    stream.seek(0)
    assert from_map(read_message(stream, max_bytes=1000)) == message


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "dance"},
        {"type": "position"},
        {"type": "position", "position": "1"},
        {"type": "stop", "now": 1},
    ],
)
def test_anything_else_is_no_trainer_message(value):
    with pytest.raises(MessageError, match="trainer message"):
        from_map(value)


# Child


@pytest.fixture
def child(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)
    arrived, codes, ended = [], [], threading.Event()

    def on_exit(code):
        codes.append(code)
        ended.set()

    child = Child("stub_trainer", on_message=arrived.append, on_exit=on_exit)
    child.arrived, child.codes, child.ended = arrived, codes, ended
    yield child
    child.terminate(signal.SIGKILL)
    assert child.wait(10)


def wait_until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_child_answers_and_ends_when_told(child, tmp_path):
    child.send(to_map(Start("edge", "", str(tmp_path))))
    wait_until(lambda: child.arrived)
    assert from_map(child.arrived[0]) == Ready()
    stop_children([child], to_map(Stop()), stop_s=10, terminate_s=10)
    assert child.codes == [0]


def test_a_child_that_does_not_listen_is_ended_by_a_signal(child, tmp_path):
    child.send(to_map(Start("edge", "", str(tmp_path))))
    wait_until(lambda: child.arrived)
    os.kill(child.pid, signal.SIGSTOP)
    stop_children([child], to_map(Stop()), stop_s=0.1, terminate_s=0.1)
    assert child.wait(10)
    assert child.codes == [-signal.SIGKILL]


def test_messages_to_a_child_that_does_not_read_are_bounded(child, tmp_path):
    os.kill(child.pid, signal.SIGSTOP)

    def flood():
        for _ in range(100):
            child.send({"type": "start", "role": "edge", "store": "x" * 100_000, "work_dir": ""})

    with pytest.raises(MessageError, match="unread messages"):
        flood()


def test_a_child_dies_with_its_parent_even_while_it_computes(tmp_path):
    busy = tmp_path / "busy.py"
    busy.write_text(
        "from common.node.pipe import connect_parent\n"
        "import os, sys\n"
        "pipe = connect_parent()\n"
        "pipe.send({'pid': os.getpid()})\n"
        "while True: pass\n"
    )
    parent = (
        "import sys, time\n"
        "from common.node.child import Child\n"
        "Child('busy', on_message=lambda m: print(m['pid'], flush=True), on_exit=print)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(TESTS).parent}"}
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=environment)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()

    def gone():
        try:
            # A process that has ended may still stand in the table until its new parent reaps it.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(gone)


def test_the_exit_code_of_an_orphan_is_its_own():
    assert PARENT_LOST_EXIT_CODE == 70


# Mailbox


def test_a_mailbox_wakes_its_reader_and_keeps_the_order():
    mailbox = Mailbox()
    threads = [threading.Thread(target=mailbox.post, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mailbox.drain()) == list(range(5))
    assert mailbox.drain() == []
    mailbox.close()
    mailbox.post(1)


# Rounds of training


def rounds(*, enabled=True, first=10, new=5, most=None, **state):
    return TrainingRounds(RoundRules(first, new, most), enabled=enabled, **state)


def ready(state, frames=10):
    """A trainer that has begun its first round."""
    assert state.allow(True, 0.0) == []
    assert state.frames_known(frames, 100, 0.0) == [StartTrainer()]
    return state.said(Ready(), 0.0)


def tells(instructions, kind):
    return [e.message for e in instructions if isinstance(e, Tell) and isinstance(e.message, kind)]


def test_no_trainer_is_started_before_there_is_enough_to_train_on():
    state = rounds()
    assert state.allow(True, 0.0) == []
    assert state.frames_known(9, 9, 0.0) == []
    assert state.frames_known(10, 10, 0.0) == [StartTrainer()]


def test_a_trainer_is_told_the_position_before_its_round():
    position, train = ready(rounds(detector="now"))
    assert position == Tell(Position(100))
    assert train.message.start_weights == "now"


def test_the_next_round_needs_new_frames():
    state = rounds()
    ready(state)
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    assert adopt == Adopt(True, "trained", "w", "better", {}, 10)
    assert state.decided("w", own=True, now=1.0) == []
    assert tells(state.frames_known(14, 120, 2.0), Train) == []
    assert len(tells(state.frames_known(15, 121, 2.0), Train)) == 1


def test_the_next_round_waits_for_the_last_decision_and_starts_from_its_detector():
    state = rounds()
    ready(state)
    state.frames_known(20, 120, 0.5)
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    assert (adopt.deploy, state.tick(2.0)) == (True, [])
    (train,) = state.decided("in use", own=True, now=3.0)
    assert train.message.start_weights == "in use"


def test_a_decision_that_cannot_be_written_is_tried_again_before_the_next_round():
    state = rounds()
    ready(state)
    state.frames_known(20, 120, 0.5)
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    state.undecided(2.0)
    assert state.tick(2.1) == []
    assert state.tick(20.0) == [adopt]
    assert tells(state.decided("in use", own=True, now=21.0), Train)


def test_rounds_end_at_their_number():
    state = rounds(most=1)
    ready(state)
    state.said(Result(False, "worse", "w"), 1.0)
    assert tells(state.frames_known(1000, 1000, 2.0), Train) == []


def test_rounds_done_before_a_restart_count():
    state = rounds(most=1, rounds=1, frames_used=10)
    state.allow(True, 0.0)
    assert state.frames_known(1000, 1000, 0.0) == []


def test_a_node_that_may_not_train_waits_until_it_may():
    state = rounds()
    assert state.frames_known(100, 100, 0.0) == []
    assert state.allow(True, 0.0) == [StartTrainer()]


def test_a_failed_round_is_written_down_and_not_repeated_without_new_frames():
    state = rounds()
    ready(state)
    (adopt, *_) = state.said(Failed("no validation frames"), 1.0)
    assert (adopt.deploy, adopt.reason, adopt.weights) == (False, "no validation frames", "")
    assert state.tick(100.0) == []


def test_a_trainer_that_dies_is_started_again_after_its_wait_and_gets_the_round_again():
    state = rounds()
    ready(state)
    assert state.lost("signal SIGKILL", 5.0, 1.0) == []
    assert state.tick(4.9) == []
    assert state.tick(5.0) == [StartTrainer()]
    assert len(tells(state.said(Ready(), 6.0), Train)) == 1


def test_a_round_that_kills_trainers_is_given_up():
    state = rounds()
    ready(state)
    for _ in range(2):
        assert state.lost("signal SIGKILL", 0.0, 1.0) == []
        state.tick(1.0)
        state.said(Ready(), 1.0)
    (adopt,) = state.lost("signal SIGKILL", 0.0, 1.0)
    assert "died 3 times" in adopt.reason
    assert state.tick(2.0) == []


def test_only_crashes_during_a_round_count_against_it():
    state = rounds()
    state.allow(True, 0.0)
    state.frames_known(10, 100, 0.0)
    for _ in range(5):
        assert state.lost("no memory", 0.0, 1.0) == []
        assert state.tick(1.0) == [StartTrainer()]
    assert tells(state.said(Ready(), 1.0), Train)
    assert state.lost("signal SIGKILL", 0.0, 2.0) == []
    assert state.tick(3.0) == [StartTrainer()]


WEIGHTS = Received("received.safetensors", "ab", {"map50": 0.5})


def test_received_weights_are_deployed_while_no_own_detector_is_in_use():
    (adopt,) = rounds().weights_received(WEIGHTS, 0.0)
    assert (adopt.deploy, adopt.source, adopt.digest) == (True, "received", "ab")


def test_received_weights_are_deployed_as_they_come_on_a_node_that_never_trains():
    (adopt,) = rounds(enabled=False, detector="d", own=True).weights_received(WEIGHTS, 0.0)
    assert adopt.deploy


def test_received_weights_are_judged_against_a_detector_trained_here():
    state = rounds(detector="mine", own=True)
    assert state.weights_received(WEIGHTS, 0.0) == [StartTrainer()]
    (judge,) = tells(state.said(Ready(), 1.0), Judge)
    assert (judge.weights, judge.current) == ("received.safetensors", "mine")
    (adopt,) = state.said(Result(False, "it is worse", "received.safetensors"), 2.0)
    assert (adopt.deploy, adopt.source, adopt.reason) == (False, "received", "it is worse")


NEWER = Received("newer.safetensors", "cd", {})


def test_a_verdict_holds_for_the_weights_that_were_judged_and_newer_ones_are_judged_after_it():
    state = rounds(detector="mine", own=True)
    state.weights_received(WEIGHTS, 0.0)
    state.said(Ready(), 1.0)
    assert state.weights_received(NEWER, 2.0) == []
    (adopt,) = state.said(Result(True, "it is better", "received.safetensors"), 3.0)
    assert (adopt.weights, adopt.digest) == ("received.safetensors", "ab")
    # What is in use was received now, so the fog's gate is enough for the newer ones.
    (adopt,) = state.decided("in use", own=False, now=4.0)
    assert (adopt.weights, adopt.deploy) == ("newer.safetensors", True)


def test_weights_that_were_refused_give_way_to_the_judgement_of_newer_ones():
    state = rounds(detector="mine", own=True)
    state.weights_received(WEIGHTS, 0.0)
    state.said(Ready(), 1.0)
    state.weights_received(NEWER, 2.0)
    state.said(Result(False, "it is worse", "received.safetensors"), 3.0)
    (judge,) = tells(state.decided("mine", own=True, now=4.0), Judge)
    assert judge.weights == "newer.safetensors"


def test_a_judgement_that_was_cut_short_is_done_again():
    state = rounds(detector="mine", own=True)
    state.weights_received(WEIGHTS, 0.0)
    state.said(Ready(), 1.0)
    state.lost("signal SIGKILL", 0.0, 2.0)
    state.tick(3.0)
    assert tells(state.said(Ready(), 4.0), Judge)[0].weights == "received.safetensors"


def test_received_weights_wait_for_the_decision_on_a_detector_trained_here():
    state = rounds()
    ready(state)
    state.said(Result(True, "better", "w"), 1.0)
    assert state.weights_received(WEIGHTS, 2.0) == []
    assert tells(state.decided("mine", own=True, now=3.0), Judge)


def test_the_end_of_a_round_is_written_after_weights_adopted_meanwhile():
    state = rounds()
    ready(state)
    (first,) = state.weights_received(WEIGHTS, 1.0)
    assert (first.source, state.said(Failed("it diverged"), 2.0)) == ("received", [])
    (second,) = state.decided("received", own=False, now=3.0)
    assert second.source == "trained"


def test_a_round_is_judged_against_weights_deployed_while_it_ran():
    state = rounds(detector="old")
    ready(state)
    state.weights_received(WEIGHTS, 1.0)
    state.decided("in use", own=False, now=1.5)
    (judge,) = tells(state.said(Result(True, "better than the old", "w", {"steps": 9}), 2.0), Judge)
    assert (judge.weights, judge.current) == ("w", "in use")
    assert state.phase == "judging"
    (adopt,) = state.said(Result(False, "worse than the new", "w", {"map50": 0.1}), 3.0)
    assert (adopt.deploy, adopt.source, adopt.reason) == (False, "trained", "worse than the new")
    assert adopt.metrics == {"steps": 9, "map50": 0.1}
    assert state.rounds == 1


def test_a_round_waits_for_weights_that_are_being_deployed_before_it_is_judged():
    state = rounds(detector="old")
    ready(state)
    state.weights_received(WEIGHTS, 1.0)
    assert state.said(Result(True, "better than the old", "w"), 2.0) == []
    (judge,) = tells(state.decided("in use", own=False, now=3.0), Judge)
    assert judge.current == "in use"
    (adopt,) = state.said(Result(True, "better than both", "w"), 4.0)
    assert (adopt.deploy, adopt.weights, adopt.frames) == (True, "w", 10)


def test_the_second_judgement_of_a_round_survives_a_crash_of_the_trainer():
    state = rounds(detector="old")
    ready(state)
    state.weights_received(WEIGHTS, 1.0)
    state.decided("in use", own=False, now=1.5)
    state.said(Result(True, "better than the old", "w"), 2.0)
    state.lost("signal SIGKILL", 3.0, 2.5)
    assert state.tick(3.0) == [StartTrainer()]
    assert tells(state.said(Ready(), 4.0), Judge)[0].weights == "w"


def test_a_round_that_ends_while_the_node_stops_is_still_written_down():
    state = rounds()
    ready(state)
    state.stop()
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    assert adopt.deploy


def test_a_stopped_node_starts_nothing():
    state = rounds()
    ready(state)
    assert state.stop() == [Tell(Stop())]
    state.lost("exit code 0", 0.0, 1.0)
    assert state.tick(100.0) == []


# The history of detectors


def decide(history, weights, *, deploy=True, source="trained", frames=10):
    return history.decide(
        time=1.0,
        source=source,
        deploy=deploy,
        reason="because",
        frames=frames,
        metrics={},
        weights=str(weights),
    )


def test_a_deployed_detector_survives_a_restart(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    assert history.in_use is None
    weights = tmp_path / "w"
    weights.write_bytes(b"one")
    decide(history, weights)
    weights.write_bytes(b"two")
    decide(history, weights, deploy=False, frames=20)
    again = DetectorHistory(tmp_path / "detector")
    assert again.in_use.read_bytes() == b"one"
    assert (again.own, again.rounds, again.frames_used) == (True, 2, 20)


def test_received_weights_are_known_once_decided_on(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    path = history.incoming("ab")
    path.write_bytes(b"from the fog")
    decision = decide(history, path, source="received")
    assert history.knows(decision.digest)
    assert not path.exists()
    assert not history.own
    assert history.rounds == 0


def test_a_decision_without_weights_deploys_nothing(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    assert not decide(history, "").deploy
    assert history.in_use is None


def test_a_damaged_history_is_one_sentence(tmp_path):
    folder = tmp_path / "detector"
    folder.mkdir()
    (folder / "metrics.json").write_text("{")
    with pytest.raises(StoreError, match="move it away to start a new history"):
        DetectorHistory(folder)


# The status file


def test_a_status_tells_whether_its_process_lives(tmp_path):
    write_status(tmp_path, {"port": 5})
    status = read_status(tmp_path)
    assert (status["alive"], status["pid"], status["port"]) == (True, os.getpid(), 5)
    # Another process that was given the same number is not the one that wrote it.
    status["process_start"] += 1
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert not read_status(tmp_path)["alive"]


def test_numbers_that_json_lacks_are_null_in_a_status(tmp_path):
    write_status(tmp_path, {"loss": float("nan"), "last": {"metrics": [0.5, float("inf")]}, "port": 5})
    status = read_status(tmp_path)
    assert (status["loss"], status["last"], status["port"]) == (None, {"metrics": [0.5, None]}, 5)


def test_no_status_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="has not run with this configuration yet"):
        read_status(tmp_path)
