"""When a node's store is looked at, and what is told of it."""

import logging

import pytest

from common.errors import StoreError
from common.node.upkeep import Upkeep
from common.store.quarantine import QuarantineState
from common.store.retention import Retained, Usage


class Store:
    """Answers from a list."""

    usage = Usage(3, 300, 0)
    full = "the log is full"
    quarantined = QuarantineState(2, "record 7 does not match its checksum")

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = []

    def retain(self, now):
        self.asked.append(now)
        answer = self.answers.pop(0) if self.answers else Retained()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Jobs:
    """Runs each job when told to."""

    def __init__(self):
        self.queue = []

    def run(self, job, then, failed):
        self.queue.append((job, then, failed))

    def work(self):
        job, then, failed = self.queue.pop(0)
        try:
            value = job()
        except StoreError as error:
            failed(error)
        else:
            then(value)


@pytest.fixture
def make():
    def make(*answers):
        store, jobs = Store(answers), Jobs()
        return store, jobs, Upkeep(store, jobs, every_s=10.0, clock=lambda: 1e9)

    return make


def test_it_looks_every_so_often_and_once_at_a_time(make):
    store, jobs, upkeep = make()
    for now in (100.0, 105.0, 111.0):
        upkeep.tick(now)
    assert len(jobs.queue) == 1, "the first look has not ended"
    jobs.work()
    assert store.asked == [1e9]
    upkeep.tick(111.0)
    assert len(jobs.queue) == 1


def test_it_goes_on_at_once_while_there_is_more_or_when_it_is_told(make):
    _, jobs, upkeep = make(Retained(5, 50, 0, True), Retained(2, 20, 1))
    for _ in range(2):
        upkeep.tick(100.0)
        jobs.work()
    upkeep.tick(100.0)
    assert not jobs.queue
    upkeep.hurry()
    upkeep.tick(100.0)
    assert jobs.queue


def test_it_tells_what_is_held_and_what_went(make):
    _, jobs, upkeep = make(Retained(5, 50, 0, True), Retained(2, 20, 1))
    for _ in range(2):
        upkeep.tick(100.0)
        jobs.work()
    status = upkeep.status()
    assert status["quarantine"] == {"items": 2, "latest": "record 7 does not match its checksum"}
    assert status["retention"] == {
        "records": 3,
        "record_bytes": 300,
        "full": "the log is full",
        "dropped_records": 7,
        "dropped_record_bytes": 70,
        "dropped_originals": 1,
        "problem": "",
    }


def test_what_fails_is_tried_again_and_logged_once(make, caplog):
    _, jobs, upkeep = make(StoreError("no disk"), StoreError("no disk"))
    with caplog.at_level(logging.INFO):
        for now in (100.0, 110.0):
            upkeep.tick(now)
            jobs.work()
    assert caplog.text.count("no disk") == 1
    assert upkeep.status()["retention"]["problem"] == "no disk"
    upkeep.tick(120.0)
    jobs.work()
    assert upkeep.status()["retention"]["problem"] == ""
