"""What the durable stores survive: kills, full disks, damage, other versions, other processes."""

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
from pathlib import Path

import pytest

import common
from common.errors import StoreCorruptError, StoreError, StoreFullError
from common.frame import Frame, FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store, open_training_view
from common.store.database import DATABASE_NAME
from common.store.records import (
    INLINE_LIMIT_BYTES,
    CommitOutcome,
    Keyframe,
    OutboxState,
    Record,
    RecordKind,
)
from common.store.rows import keyframe_facts
from common.store.schema import SCHEMAS
from common.store.settings import EdgeStoreSettings, FogStoreSettings

LOG = 2**64 - 3
CAMERA = "c" * 40

ROOT = Path(common.__file__).parents[1]
"""Where a child process finds the packages."""


def frame(number, size=500, validation=False):
    return Frame(
        f"frame{number}",
        content_digest(str(number).encode()) * (size // 32 + 1),
        64,
        48,
        True,
        (),
        FrameIdentity(CAMERA, 1, number),
        validation,
    )


def filled_fog(folder, count=3, size=500, **settings):
    """A fog's store with this many packets."""
    store = open_fog_store(folder, FogStoreSettings(**settings))
    store.commit_frames([frame(number) for number in range(count)])
    for item in store.pending_frames(count):
        store.finish(item.identity, RecordKind.PACKET, {}, frame(item.identity.number + 100, size).image)
    return store


def fill(store):
    """Commit 50 kB frames until the store is full; returns how many went in."""
    for number in range(100):
        try:
            store.commit_frames([frame(number, 50_000)])
        except StoreFullError:
            return number
    raise AssertionError("the store never became full")


def files(folder):
    """Names of the blobs and of anything half-written."""
    return sorted(path.name for path in (folder / "blobs").rglob("*") if path.is_file())


def execute(folder, sql):
    connection = sqlite3.connect(folder / DATABASE_NAME)
    with connection:
        connection.execute(sql)
    connection.close()


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


# Damage


def test_a_damaged_record_becomes_a_gap_and_hides_no_other(tmp_path):
    filled_fog(tmp_path).close()
    execute(tmp_path, "UPDATE log SET payload = x'00' WHERE position = 2")
    with open_training_view(tmp_path) as view:
        assert [position for position, _ in view.packets_after(0, 10)] == [1, 3]
        assert "record 2" in view.damaged[0]
    with open_fog_store(tmp_path) as store:
        page = store.read(0, 10, 1 << 20)
        assert [r.kind.value for r in page.records] == ["packet", "gap", "packet"]
        assert [r.position for r in page.records] == [1, 2, 3]
        assert "record 2" in page.damaged[0]


@pytest.mark.parametrize("column", ["meta = '{}x'", "number = 99", "digest = x'00'", "size = 7"])
def test_every_column_of_a_record_is_under_its_checksum(tmp_path, column):
    filled_fog(tmp_path).close()
    execute(tmp_path, f"UPDATE log SET {column} WHERE position = 2")
    with open_fog_store(tmp_path) as store:
        assert [r.kind.value for r in store.read(0, 10, 1 << 20).records] == ["packet", "gap", "packet"]


def test_a_damaged_upload_is_pending_with_its_damage(tmp_path):
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(0), frame(1), frame(2)])
    execute(tmp_path, "UPDATE frames SET image = x'00' WHERE number = 1")
    with open_fog_store(tmp_path) as store:
        pending = store.pending_frames(10)
        assert [item.frame is None for item in pending] == [False, True, False]
        assert "frame 1" in pending[1].damage
        store.finish(pending[1].identity, RecordKind.TOMBSTONE, {"reason": pending[1].damage}, b"")


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_or_missing_file_is_named_when_it_is_read(tmp_path, damage):
    with filled_fog(tmp_path, 1, INLINE_LIMIT_BYTES + 1) as store:
        record = store.read(0, 1, 1).records[0]
        path = tmp_path / "blobs" / record.digest.hex()[:2] / record.digest.hex()
        if damage == "changed":
            path.write_bytes(b"x" * record.size)
        else:
            path.unlink()
        with open_training_view(tmp_path) as view:
            assert view.packets_after(0, 10) == []
            assert record.digest.hex() in view.damaged[0]
        with pytest.raises(StoreCorruptError, match=record.digest.hex()):
            store.blob(record.digest, 0, 10)


def test_a_file_that_cannot_be_read_at_present_is_not_called_damaged(tmp_path, monkeypatch):
    large = frame(0, INLINE_LIMIT_BYTES + 1)

    def too_many(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with open_fog_store(tmp_path) as store:
        store.append(RecordKind.WEIGHTS, CAMERA, 1, 0, {}, large.image)
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.open", too_many)
            with pytest.raises(StoreError, match="Too many open files") as caught:
                store.blob(large.digest, 0, 10)
            assert not isinstance(caught.value, StoreCorruptError)
        assert store.blob(large.digest, 0, 10) == large.image[:10]


def test_a_damaged_frame_of_the_outbox_is_refused_and_the_others_go_on(tmp_path):
    with open_edge_store(tmp_path, CAMERA) as store:
        for number in range(3):
            store.record_frame(str(number), frame(number))
    execute(tmp_path, "UPDATE outbox SET image = x'00' WHERE number = 0")
    with open_edge_store(tmp_path, CAMERA) as store:
        assert [f.identity.number for f in store.unacknowledged(2, 1 << 20)] == [1, 2]
        assert "checksum" in store.refused()[0][1]
        assert store.outbox_state().waiting == 2


def test_a_damaged_validation_original_is_left_out(tmp_path):
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(0, validation=True), frame(1, validation=True)])
    execute(tmp_path, "UPDATE frames SET image = x'00' WHERE number = 1")
    with open_training_view(tmp_path) as view:
        assert [f.identity.number for f in view.validation_originals(10)] == [0]
        assert "frame 1" in view.damaged[0]


def test_a_file_that_is_no_database_is_a_typed_error(tmp_path):
    (tmp_path / DATABASE_NAME).write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(StoreCorruptError, match="damaged"):
        open_fog_store(tmp_path)


# Other versions and other processes


def test_a_newer_schema_is_refused_in_one_sentence(tmp_path):
    filled_fog(tmp_path).close()
    newest = len(SCHEMAS["fog"])
    execute(tmp_path, f"PRAGMA user_version = {newest + 1}")
    for opener in (open_fog_store, open_training_view):
        with pytest.raises(StoreError, match=f"schema version {newest + 1}, newer than {newest}") as caught:
            opener(tmp_path)
        assert "\n" not in str(caught.value)


def test_packets_wait_for_their_keyframe_across_a_restart(tmp_path):
    meta = {"keyframe": keyframe_facts(Keyframe(content_digest(b"key"), 3))}
    packet = Record(1, RecordKind.PACKET, "d" * 40, 1, 1, content_digest(b"p"), meta, 1, b"p")
    with open_edge_store(tmp_path, "k" * 40) as store:
        store.follow(1)
        store.apply([packet], 1)
    with open_edge_store(tmp_path, "k" * 40) as store:
        assert store.waiting_packets == 1
        store.store_keyframe(content_digest(b"key"), b"key")
    with open_edge_store(tmp_path, "k" * 40) as store, open_training_view(tmp_path) as view:
        assert store.waiting_packets == 0
        assert [data for _, data in view.packets_after(0, 10)] == [b"p"]
        assert view.last_position == store.inbox_position


def test_the_store_of_the_other_role_is_refused(tmp_path):
    filled_fog(tmp_path).close()
    with pytest.raises(StoreError, match="not the store of an edge"):
        open_edge_store(tmp_path, CAMERA)


def test_a_store_has_one_writer(tmp_path):
    with open_fog_store(tmp_path), pytest.raises(StoreError, match="in use by another process"):
        open_fog_store(tmp_path)
    open_fog_store(tmp_path).close()


def test_a_view_needs_a_store(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        open_training_view(tmp_path)


def test_commits_are_synced_to_disk(tmp_path):
    with open_fog_store(tmp_path) as store:
        connection = store._database.connection
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_the_trainer_reads_in_its_own_process_while_the_daemon_writes(tmp_path):
    script = textwrap.dedent(
        """
        import sys
        from common.store import open_training_view
        position = 0
        with open_training_view(sys.argv[1]) as view:
            while position < 30:
                packets = view.packets_after(position, 7)
                for position, payload in packets:
                    print(position, len(payload), flush=True)
        """
    )
    with filled_fog(tmp_path, 10) as store:
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert child.stdout.readline().split()[0] == "1"
            for number in range(10, 30):
                store.commit_frames([frame(number)])
                store.finish(frame(number).identity, RecordKind.PACKET, {}, b"p" * number)
            out = child.stdout.read()
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
    assert [int(line.split()[0]) for line in out.splitlines()] == list(range(2, 31))


def test_a_view_cannot_write(tmp_path):
    filled_fog(tmp_path).close()
    with open_training_view(tmp_path) as view, pytest.raises(sqlite3.OperationalError, match="readonly"):
        view._database.connection.execute("DELETE FROM log")


def test_stores_and_wire_do_not_import_torch():
    script = """
        import sys
        import common.store, common.store.memory_edge, common.store.memory_fog
        import common.wire.framing, common.wire.sockets, common.wire.transfer, common.wire.credits
        unwanted = {"torch", "ultralytics", "cv2", "fog_node", "edge_node"} & set(sys.modules)
        sys.exit(f"imported {unwanted}" if unwanted else 0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=ROOT)
