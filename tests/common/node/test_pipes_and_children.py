"""Messages over pipes, child processes and mailboxes."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.errors import MessageError
from common.node.child import Child, stop_children
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
