"""What the durable stores survive: kills, slow disks, full disks."""

import dataclasses
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import pytest

from common.errors import StoreError, StoreFullError
from common.frame import content_digest
from common.store import open_edge_store, open_fog_store
from common.store.database import DATABASE_NAME
from common.store.records import (
    INLINE_LIMIT_BYTES,
    CommitOutcome,
    OutboxState,
    Record,
    RecordKind,
)
from common.store.settings import EdgeStoreSettings, FogStoreSettings
from tests.durable_stores import CAMERA, LOG, ROOT, files, fill, filled_fog, frame

# Restarts


def test_a_fog_goes_on_after_a_restart(tmp_path):
    with filled_fog(tmp_path) as store:
        log_id = store.log_id
        store.commit_frames([frame(7)])
        store.trim(1)
    with open_fog_store(tmp_path) as store:
        assert (store.log_id, store.last_position, store.oldest_position) == (log_id, 3, 2)
        assert [item.identity.number for item in store.pending_frames(9)] == [7]
        assert store.commit_frames([frame(7), frame(0)]) == [CommitOutcome.DUPLICATE] * 2


def test_an_edge_keeps_its_position_in_each_log_across_a_restart(tmp_path):
    with open_edge_store(tmp_path, CAMERA) as store:
        for log, position in ((5, 4), (LOG, 7)):
            store.follow(log)
            store.apply([Record.gap(log, 1, 3, "x")], position, log)
    with open_edge_store(tmp_path, CAMERA) as store:
        assert (store.log_id, store.positions) == (LOG, {5: 4, LOG: 7})
        assert [store.follow(log) for log in (5, LOG, 6)] == [4, 7, 0]


def test_an_edge_goes_on_after_a_restart(tmp_path):
    with open_edge_store(tmp_path, CAMERA) as store:
        epoch = store.epoch
        for number in range(3):
            store.record_frame(f"key{number}", frame(number), lambda n: False)
        store.acknowledge([0])
        store.follow(5)
        store.apply([Record.gap(5, 1, 4, "x")], 4)
    with open_edge_store(tmp_path, CAMERA) as store:
        assert (store.epoch, store.log_id, store.position) == (epoch, 5, 4)
        assert [f.identity.number for f in store.unacknowledged(9, 1 << 20)] == [1, 2]
        assert store.outbox_state().waiting == 2
        assert store.record_frame("key3", frame(3)) == 3


def test_two_installations_draw_two_epochs(tmp_path):
    with open_edge_store(tmp_path / "a", CAMERA) as one, open_edge_store(tmp_path / "b", CAMERA) as two:
        assert one.epoch != two.epoch


@pytest.mark.parametrize("role", ["fog", "edge"])
def test_everything_reported_as_committed_survives_a_kill(tmp_path, role):
    """A child commits in a loop, small and large content, and is killed in the middle."""
    script = textwrap.dedent(
        f"""
        import sys
        from common.frame import Frame, FrameIdentity
        from common.store import open_edge_store, open_fog_store
        from common.store.records import RecordKind
        fog = {role == "fog"!r}
        store = open_fog_store(sys.argv[1]) if fog else open_edge_store(sys.argv[1], "c" * 40)
        for number in range(1_000_000):
            image = number.to_bytes(4, "big") * (30_000 if number % 3 == 0 else 200)
            frame = Frame(str(number), image, 8, 8, True, (), FrameIdentity("c" * 40, 1, number))
            if fog:
                store.commit_frames([frame])
                if number % 2:
                    store.finish(frame.identity, RecordKind.PACKET, {{}}, image)
            else:
                store.record_frame(str(number), frame)
                if number % 2:
                    store.acknowledge([number])
            print(number, flush=True)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        last = -1
        while last < 40:
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in child.stdout.read().split())])
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    numbers = set(range(last + 1))
    if role == "fog":
        with open_fog_store(tmp_path) as store:
            finished = {r.number for r in store.read(0, 10_000, 1 << 30).records}
            pending = store.pending_frames(10_000)
            assert all(item.frame is not None for item in pending)
            assert numbers <= finished | {item.identity.number for item in pending}
            assert {number for number in numbers if number % 2} <= finished
            for r in store.read(0, 10_000, 1 << 30).records:
                assert content_digest(store.blob(r.digest, 0, r.size)) == r.digest
    else:
        with open_edge_store(tmp_path, CAMERA) as store:
            waiting = {f.identity.number for f in store.unacknowledged(10_000, 1 << 30)}
            assert {number for number in numbers if number % 2 == 0} <= waiting
            assert store.outbox_state().recorded >= len(numbers)
            assert store.refused() == []
    assert not [name for name in files(tmp_path) if name.endswith(".tmp")]


def test_leftovers_of_a_kill_are_swept_and_what_is_received_stays(tmp_path):
    with filled_fog(tmp_path, 1, INLINE_LIMIT_BYTES + 1) as store:
        kept = files(tmp_path)
    orphan = content_digest(b"orphan").hex()
    (tmp_path / "blobs" / orphan[:2]).mkdir(exist_ok=True)
    (tmp_path / "blobs" / orphan[:2] / orphan).write_bytes(b"orphan")
    (tmp_path / "blobs" / f"{orphan}.abcd.tmp").write_bytes(b"half")
    (tmp_path / "blobs" / "incoming" / "x.part").write_bytes(b"part")
    with open_fog_store(tmp_path) as store:
        assert store.last_position == 1
    assert files(tmp_path) == sorted([*kept, "x.part"])


def test_files_being_received_go_once_nobody_wants_them(tmp_path):
    original, going_on, given_up = (content_digest(name) for name in (b"original", b"going on", b"given up"))
    with open_edge_store(tmp_path, CAMERA) as store:
        for digest in (original, going_on, given_up):
            (store.incoming_folder / f"{digest.hex()}.part").write_bytes(b"ori")
        os.utime(store.incoming_folder / f"{given_up.hex()}.part", (time.time() - 8 * 86_400,) * 2)
        store.store_original(original, b"original")
    with open_edge_store(tmp_path, CAMERA):
        assert files(tmp_path) == [f"{going_on.hex()}.part"]


def test_images_that_are_no_longer_needed_leave_the_disk(tmp_path):
    large = frame(0, INLINE_LIMIT_BYTES + 1)
    with open_fog_store(tmp_path / "fog") as store:
        store.commit_frames([large])
        assert files(tmp_path / "fog") == [large.digest.hex()]
        store.finish(large.identity, RecordKind.PACKET, {}, b"p")
        assert files(tmp_path / "fog") == []
        store.append(RecordKind.WEIGHTS, CAMERA, 1, 0, {}, large.image)
        assert files(tmp_path / "fog") == [large.digest.hex()]
        store.trim(store.last_position)
        assert files(tmp_path / "fog") == []
    with open_edge_store(tmp_path / "edge", CAMERA) as store:
        for number in range(2):
            store.record_frame(str(number), frame(number, INLINE_LIMIT_BYTES + 1), lambda n: False)
        store.acknowledge([0])
        assert files(tmp_path / "edge") == [frame(1, INLINE_LIMIT_BYTES + 1).digest.hex()]
        store.refuse(1, "no image")
        assert files(tmp_path / "edge") == []


# Slow disks


@contextmanager
def a_slow_disk(monkeypatch, work):
    """While this lasts ``work`` waits in another thread for a file to be synced."""
    syncing, go_on = threading.Event(), threading.Event()

    def slow(_):
        syncing.set()
        go_on.wait(20)

    monkeypatch.setattr("os.fsync", slow)
    thread = threading.Thread(target=work)
    thread.start()
    assert syncing.wait(10)
    try:
        yield
    finally:
        go_on.set()
        thread.join()


def at_once(call):
    """The result of a call that must wait for nobody."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(3)
    assert results, "the call waits for the disk"
    return results[0]


def edge_numbers(store):
    counts = [store.count(kind) for kind in RecordKind]
    state = (store.epoch, store.log_id, store.position, store.inbox_position)
    return (*state, counts, store.original_count(), store.outbox_state())


def test_a_store_tells_of_itself_while_a_slow_disk_holds_up_a_write(tmp_path, monkeypatch):
    large = frame(9, INLINE_LIMIT_BYTES + 1)
    fog, edge = filled_fog(tmp_path / "fog"), open_edge_store(tmp_path / "edge", CAMERA)
    with fog, a_slow_disk(monkeypatch, lambda: fog.commit_frames([large])):
        assert at_once(lambda: (fog.log_id, fog.pending_count))[1] == 0
    with edge, a_slow_disk(monkeypatch, lambda: edge.record_frame("a", large)):
        assert at_once(lambda: edge_numbers(edge))[-1].recorded == 0


def test_a_large_file_is_taken_over_without_holding_up_other_calls(tmp_path, monkeypatch):
    large = frame(1, INLINE_LIMIT_BYTES + 1)
    with open_edge_store(tmp_path, CAMERA) as store:
        part = store.incoming_folder / "part"
        part.write_bytes(large.image)
        with a_slow_disk(monkeypatch, lambda: store.adopt_blob(large.digest, part)):
            assert at_once(lambda: store.record_frame("a", frame(2))) == 0
            assert not at_once(lambda: store.has_blob(large.digest))
        assert store.has_blob(large.digest)


def test_what_is_told_is_what_is_stored(tmp_path):
    original = frame(8, validation=True)
    with open_edge_store(tmp_path / "edge", CAMERA, EdgeStoreSettings(max_outbox_frames=3)) as store:
        for number in range(3):
            store.record_frame(str(number), frame(number), lambda n: False)
        with pytest.raises(StoreFullError):
            store.record_frame("3", frame(3))
        store.acknowledge([0, 0, 9])
        store.refuse(1, "no image")
        store.refuse(0, "too late")
        store.follow(5)
        packet = Record(1, RecordKind.PACKET, CAMERA, 1, 0, content_digest(b"p"), {}, 1, b"p")
        store.apply([packet, packet, Record.gap(5, 2, 4, "x")], 4)
        with pytest.raises(StoreError):
            store.apply([Record.gap(5, 5, 6, "x"), dataclasses.replace(packet, number=7, payload=b"q")], 7)
        for _ in range(2):
            store.store_original(original.digest, original.image)
        told = edge_numbers(store)
    with open_edge_store(tmp_path / "edge", CAMERA) as store:
        assert edge_numbers(store) == told
        assert (store.position, store.inbox_position, store.original_count()) == (4, 2, 1)
        assert store.outbox_state() == OutboxState(3, 1, len(frame(2).image), 1, 1)
    with filled_fog(tmp_path / "fog") as store:
        store.commit_frames([frame(7), frame(7), frame(0), frame(8)])
        store.finish(frame(7).identity, RecordKind.TOMBSTONE, {}, b"")
        store.finish(frame(7).identity, RecordKind.TOMBSTONE, {}, b"")
        assert store.pending_count == 1
    with open_fog_store(tmp_path / "fog") as store:
        assert store.pending_count == 1


# Page size


def test_a_store_of_smaller_pages_keeps_them_and_all_bounds_in_bytes(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("common.store.database.PAGE_BYTES", 4096)
        with open_fog_store(tmp_path) as store:
            assert store.commit_frames([frame(0, 50_000)]) == [CommitOutcome.STORED]
    limit = 256 << 10
    with open_fog_store(tmp_path, FogStoreSettings(max_database_bytes=limit)) as store:
        stored = fill(store)
        with pytest.raises(StoreFullError):
            store.commit_frames([frame(stored, 50_000)])
    size = (tmp_path / DATABASE_NAME).stat().st_size
    assert limit - 60_000 < size <= limit
    with sqlite3.connect(tmp_path / DATABASE_NAME) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (4096,)
    connection.close()


# Full disks


def test_a_full_database_stores_nothing_and_works_again_with_room(tmp_path):
    batch = [frame(number, 50_000) for number in range(10)]
    with open_fog_store(tmp_path, FogStoreSettings(max_database_bytes=256 << 10)) as store:
        with pytest.raises(StoreFullError, match="max_database_bytes"):
            store.commit_frames(batch)
        assert store.pending_count == 0
        assert store.commit_frames(batch[:2]) == [CommitOutcome.STORED] * 2
    with open_fog_store(tmp_path) as store:
        assert store.commit_frames(batch) == [CommitOutcome.DUPLICATE] * 2 + [CommitOutcome.STORED] * 8
        assert store.pending_frames(10)[9].frame == batch[9]


def test_room_made_in_an_open_store_is_used(tmp_path):
    with open_fog_store(tmp_path, FogStoreSettings(max_database_bytes=256 << 10)) as store:
        stored = fill(store)
        with pytest.raises(StoreFullError):
            store.commit_frames([frame(stored, 50_000)])
        for item in store.pending_frames(2):
            store.finish(item.identity, RecordKind.PACKET, {}, b"p")
        assert store.commit_frames([frame(stored, 50_000)]) == [CommitOutcome.STORED]


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_full_disk_under_a_large_payload_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    large = frame(1, INLINE_LIMIT_BYTES + 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_fog_store(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync" if step == "write" else "pathlib.Path.replace", full)
            with pytest.raises(StoreFullError, match="no space left"):
                store.commit_frames([frame(0), large])
        assert (store.pending_count, files(tmp_path)) == (0, [])
        assert store.commit_frames([frame(0), large]) == [CommitOutcome.STORED] * 2
        assert store.pending_frames(2)[1].frame == large


def test_a_transaction_that_fails_late_takes_its_files_back(tmp_path):
    with open_fog_store(tmp_path, FogStoreSettings(max_database_bytes=256 << 10)) as store:
        batch = [frame(0, INLINE_LIMIT_BYTES + 1), *(frame(n, 90_000) for n in range(1, 4))]
        with pytest.raises(StoreFullError):
            store.commit_frames(batch)
        assert files(tmp_path) == []


def test_the_reserve_stops_intake_but_not_the_finishing_of_what_was_accepted(tmp_path):
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(0)])
    with open_fog_store(tmp_path, FogStoreSettings(min_free_bytes=1 << 60)) as store:
        with pytest.raises(StoreFullError, match="min_free_bytes"):
            store.commit_frames([frame(1)])
        assert store.finish(frame(0).identity, RecordKind.PACKET, {}, b"p") == 1
    settings = EdgeStoreSettings(min_free_bytes=1 << 60)
    with open_edge_store(tmp_path / "edge", CAMERA, settings) as store:
        with pytest.raises(StoreFullError, match="min_free_bytes"):
            store.record_frame("key", frame(0))
        assert store.outbox_state().recorded == 0
