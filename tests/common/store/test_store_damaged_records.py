"""What the durable stores survive: damage, other versions, other processes."""

import errno
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from common.errors import StoreCorruptError, StoreError
from common.frame import content_digest
from common.store import open_edge_store, open_fog_store, open_training_view
from common.store.database import DATABASE_NAME
from common.store.records import (
    INLINE_LIMIT_BYTES,
    Keyframe,
    Record,
    RecordKind,
)
from common.store.rows import keyframe_facts
from common.store.schema import SCHEMAS
from tests.durable_stores import CAMERA, ROOT, execute, filled_fog, frame

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
