"""The log is read again, slowly; what is damaged is found before a reader asks for it."""

from __future__ import annotations

import sqlite3
import time

import pytest

from common.frame import Frame, FrameIdentity
from common.node.jobs import Jobs
from common.node.mailbox import Mailbox
from common.store import open_fog_store
from common.store.database import DATABASE_NAME
from common.store.records import INLINE_LIMIT_BYTES, RecordKind
from common.store.settings import ScrubSettings
from fog_node.scrub import Scrub

ONE = "1" * 40
COUNT = 40


@pytest.fixture
def store(tmp_path):
    with open_fog_store(tmp_path) as store:
        for number in range(COUNT):
            frame = Frame(f"{number}", b"jpeg", 4, 4, identity=FrameIdentity(ONE, 7, number))
            store.commit_frames([frame])
            size = INLINE_LIMIT_BYTES + 1 if number == 30 else 1000
            store.finish(frame.identity, RecordKind.PACKET, {}, bytes([number]) * size)
        yield store


class Scrubbing:
    """A scrub whose ticks are given by hand."""

    def __init__(self, store, **settings):
        self.mailbox = Mailbox()
        self.jobs = Jobs("reads", self.mailbox)
        self.told = 0
        self.scrub = Scrub(store, self.jobs, ScrubSettings(**settings), self.tell)

    def tell(self):
        self.told += 1

    def tick(self, now=None):
        """One tick and what it leads to; whether anything was read."""
        before = self.scrub.status()["records"]
        self.scrub.tick(time.monotonic() if now is None else now)
        while self.jobs.outstanding:
            for call in self.mailbox.drain():
                call()
            time.sleep(0.001)
        return self.scrub.status()["records"] > before

    def passes(self, count):
        """Read until the whole log was read so often after the first, partial pass."""
        seen = []
        end = time.monotonic() + 20
        while len(seen) < count:
            assert time.monotonic() < end
            self.tick(float("inf"))
            last = self.scrub.status()["last_pass_time"]
            if last is not None and last not in seen:
                seen.append(last)
        return self.scrub.status()

    def close(self):
        self.jobs.close()
        self.mailbox.close()


@pytest.fixture
def scrubbing(store):
    made = []

    def make(**settings):
        made.append(Scrubbing(store, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_sound_log_is_read_to_its_end_and_nothing_is_found(store, scrubbing):
    state = scrubbing(bytes_per_s=1e9).passes(2)
    assert state["damaged"] == 0
    assert state["records"] >= 2 * COUNT
    assert state["bytes"] >= 2 * (39 * 1000 + INLINE_LIMIT_BYTES + 1)
    assert store.quarantined.items == 0


def test_damage_is_found_and_put_away_though_nobody_asks(tmp_path, store, scrubbing):
    with sqlite3.connect(tmp_path / DATABASE_NAME) as other:
        other.execute("UPDATE log SET payload = x'00' WHERE position = 12")
    other.close()
    (file,) = (tmp_path / "blobs").glob("??/*")
    file.write_bytes(b"x")
    one = scrubbing(bytes_per_s=1e9)
    state = one.passes(2)
    assert state["damaged"] == 2
    assert one.told >= 1
    assert store.quarantined.items >= 2
    kinds = {record.position: record.kind for record in store.read(0, 100, 1 << 20).records}
    assert [position for position, kind in kinds.items() if kind is RecordKind.GAP] == [12, 31]


def test_it_reads_no_more_than_it_may(scrubbing):
    one = scrubbing(bytes_per_s=2000.0)
    one.scrub._after = one.scrub._begun_after = 0
    assert one.tick()
    size = one.scrub.status()["bytes"]
    assert size <= 2001
    assert not one.tick(time.monotonic() + 0.8 * size / 2000)
    assert one.tick(time.monotonic() + size / 2000 + 0.1)


def test_a_small_log_is_not_read_all_the_time(scrubbing):
    one = scrubbing(bytes_per_s=1e9, every_s=3600.0)
    one.passes(1)
    assert not one.tick(time.monotonic() + 3000)
    assert one.tick(time.monotonic() + 3700)


def test_it_can_be_turned_off(scrubbing):
    assert not scrubbing(bytes_per_s=None).tick(float("inf"))
