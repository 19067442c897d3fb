"""Encoder workers, as child processes and as Ray actors: one contract for both."""

import os
import signal
import time

import pytest

from common.frame import Frame, FrameIdentity
from common.node.child import stop_children
from common.node.mailbox import Mailbox
from common.node.settings import ChildSettings
from fog_node.encoding import Assign
from fog_node.settings import WorkerSettings
from fog_node.workers.encoder_messages import Encoded, NotEncoded, StartEncoder
from fog_node.workers.encoder_pool import encoder_pool
from tests.node_processes import ROOT

DEVICE = "d" * 40


def frame(number, name="frame"):
    return Frame(name, b"jpeg %d" % number, 8, 6, True, (), FrameIdentity(DEVICE, 1, number))


class Pool:
    """A pool, and what it says."""

    def __init__(self, settings, workers=2):
        self.mailbox = Mailbox()
        self.ready = []
        self.encoded = {}
        self.lost = []
        self.pool = encoder_pool(
            WorkerSettings.model_validate({"workers": workers, "module": "stub_encoder", **settings}),
            ChildSettings(restart_first_s=0.05, restart_max_s=0.2),
            StartEncoder({}, threads=1),
            self.mailbox,
            on_ready=self.ready.append,
            on_encoded=lambda number, message: self.encoded.update(
                {message.batch: (number, message.results)}
            ),
            on_lost=lambda number, how, blamed: self.lost.append((number, how)),
        )

    def turn(self):
        self.pool.tick(time.monotonic())
        for call in self.mailbox.drain():
            call()

    def until(self, condition, what, timeout=60.0):
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"waited for {what}; lost {self.lost}; {self.pool.status()}"
            self.turn()
            time.sleep(0.005)

    def assign(self, worker, batch, *frames):
        self.pool.assign(Assign(worker, batch, frames))

    def stop(self):
        self.pool.stop()
        stop_children(self.pool.children, {"type": "stop"}, stop_s=0.5, terminate_s=5.0)


@pytest.fixture
def start_pool(worker_settings, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    pools = []

    def start(workers=2):
        pool = Pool(worker_settings, workers)
        pools.append(pool)
        pool.until(lambda: sorted(pool.ready) == list(range(workers)), "workers")
        return pool

    yield start
    for pool in pools:
        pool.stop()
        pool.mailbox.close()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_worker_answers_its_batch_in_the_order_of_its_frames(start_pool):
    pool = start_pool()
    pool.assign(0, 7, frame(0), frame(1, "refuse"), frame(2))
    pool.assign(1, 8, frame(3))
    pool.until(lambda: len(pool.encoded) == 2, "both answers")
    number, results = pool.encoded[7]
    assert number == 0
    assert [type(result) for result in results] == [Encoded, NotEncoded, Encoded]
    assert results[0].packet.startswith(b"stub" + frame(0).digest)
    assert results[2].packet.startswith(b"stub" + frame(2).digest)
    assert pool.encoded[8][0] == 1
    assert pool.lost == []


def test_a_worker_keeps_the_keyframes_that_it_made(start_pool):
    pool = start_pool(1)
    pool.assign(0, 1, frame(0, "key"))
    pool.until(lambda: 1 in pool.encoded, "the keyframe")
    pool.assign(0, 2, frame(1, "needs"))
    pool.until(lambda: 2 in pool.encoded, "what refers to it")
    assert pool.encoded[2][1][0].keyframe.size == len(pool.encoded[1][1][0].packet)


def test_a_worker_that_dies_is_told_and_comes_back_without_its_keyframes(start_pool):
    pool = start_pool()
    pool.assign(0, 1, frame(0, "key"))
    pool.until(lambda: 1 in pool.encoded, "the keyframe")
    pool.ready.clear()
    pool.assign(0, 2, frame(1, "poison"))
    pool.until(lambda: pool.ready, "a new worker")
    assert [number for number, _ in pool.lost] == [0]
    assert pool.ready == [0]
    pool.assign(0, 3, frame(2, "needs"))
    pool.until(lambda: 3 in pool.encoded, "an answer")
    assert pool.encoded[3][1][0].keyframe is None
    assert [entry["crashes"] for entry in pool.pool.status()] == [1, 0]


def test_a_worker_that_hangs_is_killed_and_others_are_not(start_pool):
    pool = start_pool()
    pool.ready.clear()
    pool.assign(0, 1, frame(0, "hang"))
    pool.assign(1, 2, frame(1))
    pool.until(lambda: 2 in pool.encoded, "the other's answer")
    pids = [entry["pid"] for entry in pool.pool.status()]
    # As the state machine does: at every tick until it is lost.
    pool.until(lambda: pool.pool.kill(0) or pool.lost, "its end")
    assert [number for number, _ in pool.lost] == [0]
    pool.until(lambda: pool.ready == [0], "a new worker")
    assert not alive(pids[0])
    assert alive(pids[1])


def test_a_killed_process_is_one_lost_worker(start_pool):
    pool = start_pool()
    pool.ready.clear()
    pool.assign(1, 1, frame(0, "hang"))
    os.kill(pool.pool.status()[1]["pid"], signal.SIGKILL)
    pool.until(lambda: pool.ready == [1], "a new worker")
    assert [number for number, _ in pool.lost] == [1]


def test_nothing_is_left_when_the_pool_ends(start_pool):
    pool = start_pool()
    pool.assign(0, 1, frame(0, "hang"))
    pids = [entry["pid"] for entry in pool.pool.status()]
    pids += [child.pid for child in pool.pool.children]
    pool.stop()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    assert [pid for pid in pids if alive(pid)] == []
