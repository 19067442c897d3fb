"""Copies of a fog's store: whole, of one moment, verified; and what is made of them."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from common.errors import StoreCorruptError, StoreError
from common.frame import Frame, FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store
from common.store.backup import MANIFEST_NAME, back_up, restore
from common.store.database import DATABASE_NAME
from common.store.records import INLINE_LIMIT_BYTES, CommitOutcome, RecordKind

CAMERA = "c" * 40
LARGE = INLINE_LIMIT_BYTES + 1


def image(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def frame(number, size=500, validation=False):
    identity = FrameIdentity(CAMERA, 1, number)
    return Frame(f"frame{number}", image(number, size), 64, 48, True, (), identity, validation)


def packet(number):
    return image(("packet", number), LARGE if number % 4 == 3 else 300)


def finish(store, number):
    store.finish(frame(number).identity, RecordKind.PACKET, {}, packet(number))


def filled(folder, count=8):
    """Packets small and large, originals, and two frames that wait, one of them a large file."""
    store = open_fog_store(folder)
    store.commit_frames([frame(n, LARGE if n % 3 == 0 else 500, n % 2 == 0) for n in range(count)])
    for number in range(count):
        finish(store, number)
    store.commit_frames([frame(count), frame(count + 1, LARGE)])
    return store


def contents(store):
    page = store.read(0, 10_000, 1 << 30)
    assert not page.more
    records = [(r.position, r.kind.value, r.number, r.digest) for r in page.records]
    for record in page.records:
        if record.large:
            assert content_digest(store.blob(record.digest, 0, record.size)) == record.digest
    return records, [item.frame for item in store.pending_frames(10_000)]


def test_a_restored_store_holds_what_was_backed_up(tmp_path):
    with filled(tmp_path / "fog") as store:
        before, log_id, usage = contents(store), store.log_id, store.usage
        summary = back_up(tmp_path / "fog", tmp_path / "backup")
        store.commit_frames([frame(50)])
    assert (summary.records, summary.frames, summary.waiting, summary.position) == (8, 10, 2, 8)
    assert summary.damaged == ()
    restored = restore(tmp_path / "backup", tmp_path / "new")
    assert (restored.records, restored.frames, restored.files) == (8, 10, summary.files)
    with open_fog_store(tmp_path / "new") as store:
        assert contents(store) == before
        assert store.usage == usage
        assert store.log_id != log_id, "positions beyond the backup may stand for other records now"
        assert store.commit_frames([frame(0, LARGE, True)]) == [CommitOutcome.DUPLICATE]
        with store.training_view() as view:
            assert len(view.validation_originals(99)) == 4


def test_an_edge_that_was_ahead_of_the_backup_misses_nothing_and_stores_nothing_twice(tmp_path):
    def pull(fog, edge):
        after = edge.follow(fog.log_id)
        page = fog.read(after, 1000, 1 << 30)
        for record in page.records:
            if record.large and not edge.has_blob(record.digest):
                part = edge.incoming_folder / "part"
                part.write_bytes(fog.blob(record.digest, 0, record.size))
                edge.adopt_blob(record.digest, part)
        return edge.apply(page.records, page.through, fog.log_id)

    with open_edge_store(tmp_path / "edge", "e" * 40) as edge:
        with filled(tmp_path / "fog") as fog:
            back_up(tmp_path / "fog", tmp_path / "backup")
            finish(fog, 8)
            assert pull(fog, edge).applied == 9
        restore(tmp_path / "backup", tmp_path / "new")
        with open_fog_store(tmp_path / "new") as fog:
            # Position 9 stands for another frame now.
            finish(fog, 9)
            finish(fog, 8)
            result = pull(fog, edge)
            assert (result.applied, result.duplicates, result.conflicts) == (1, 9, ())
        assert sorted(record.number for _, record in edge.records(0, 100)) == list(range(10))


def test_a_running_fog_is_backed_up_as_it_stands_at_one_moment(tmp_path):
    """A writer goes on while backups are taken; each is whole, whatever was dropped meanwhile."""
    stop = threading.Event()
    with open_fog_store(tmp_path / "fog") as store:

        def work():
            number = 0
            while not stop.is_set():
                store.commit_frames([frame(number, LARGE), frame(number + 1, LARGE)])
                finish(store, number)
                if number > 20:
                    store.trim(number - 15)
                number += 1
                store.commit_frames([frame(number)])
                number += 1

        def finish(store, number):
            store.finish(frame(number).identity, RecordKind.PACKET, {}, image(("p", number), LARGE))

        writer = threading.Thread(target=work)
        writer.start()
        try:
            for number in range(6):
                summary = back_up(tmp_path / "fog", tmp_path / f"backup{number}")
                assert summary.damaged == (), number
        finally:
            stop.set()
            writer.join()
    restore(tmp_path / "backup5", tmp_path / "new")
    with open_fog_store(tmp_path / "new") as store:
        records, waiting = contents(store)
        assert len(records) >= 1
        assert all(item is not None for item in waiting)


def test_a_backup_needs_a_store_and_an_empty_folder(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        back_up(tmp_path / "nothing", tmp_path / "backup")
    filled(tmp_path / "fog").close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(StoreError, match="not empty"):
        back_up(tmp_path / "fog", tmp_path / "full")
    assert (tmp_path / "full" / "file").read_text() == "mine"
    open_edge_store(tmp_path / "edge", CAMERA).close()
    with pytest.raises(StoreError, match="only a fog's store"):
        back_up(tmp_path / "edge", tmp_path / "backup")
    assert list((tmp_path / "backup").iterdir()) == []


def test_a_backup_is_not_restored_over_a_store_or_beside_a_running_fog(tmp_path):
    with filled(tmp_path / "fog") as store:
        back_up(tmp_path / "fog", tmp_path / "backup")
        with pytest.raises(StoreError, match="in use"):
            restore(tmp_path / "backup", tmp_path / "fog")
        assert store.last_position == 8
    with pytest.raises(StoreError, match="holds a store already"):
        restore(tmp_path / "backup", tmp_path / "fog")


def test_half_a_backup_is_none(tmp_path):
    filled(tmp_path / "fog").close()
    back_up(tmp_path / "fog", tmp_path / "backup")
    (tmp_path / "backup" / MANIFEST_NAME).unlink()
    with pytest.raises(StoreError, match="no whole backup"):
        restore(tmp_path / "backup", tmp_path / "new")


@pytest.mark.parametrize("damage", ["row", "file", "pages"])
def test_a_backup_that_was_damaged_since_is_refused(tmp_path, damage):
    filled(tmp_path / "fog", 40).close()
    back_up(tmp_path / "fog", tmp_path / "backup")
    if damage == "file":
        next((tmp_path / "backup" / "blobs").glob("??/*")).unlink()
    else:
        path = tmp_path / "backup" / DATABASE_NAME
        data = path.read_bytes()
        if damage == "row":
            path.write_bytes(data.replace(packet(1), bytes(300)))
        else:
            path.write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreCorruptError, match="damaged"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new" / DATABASE_NAME).exists()


def test_what_was_damaged_before_is_told_and_does_not_stop_a_backup(tmp_path):
    filled(tmp_path / "fog").close()
    path = tmp_path / "fog" / DATABASE_NAME
    path.write_bytes(path.read_bytes().replace(packet(1), bytes(300)))
    summary = back_up(tmp_path / "fog", tmp_path / "backup")
    assert summary.damaged == ("record 2 does not match its checksum",)
    assert json.loads((tmp_path / "backup" / MANIFEST_NAME).read_text())["damaged"] == list(summary.damaged)
    restore(tmp_path / "backup", tmp_path / "new")
    with open_fog_store(tmp_path / "new") as store:
        assert [r.kind.value for r in store.read(0, 3, 1 << 20).records] == ["packet", "gap", "packet"]


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_a_log_that_another_database_left_behind_does_not_get_into_the_restored_one(tmp_path, end):
    with filled(tmp_path / "fog"):
        back_up(tmp_path / "fog", tmp_path / "backup")
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / f"{DATABASE_NAME}{end}").write_bytes(b"of a database that was moved away without it")
    with pytest.raises(StoreError, match="the write-ahead log of one; move the whole folder away"):
        restore(tmp_path / "backup", folder)
    assert not (folder / DATABASE_NAME).exists()


def test_a_backup_of_a_newer_program_is_refused_before_anything_is_written(tmp_path):
    with filled(tmp_path / "fog"):
        back_up(tmp_path / "fog", tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup" / DATABASE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
    with pytest.raises(StoreError, match=r"schema version 99, newer than .* update this program"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new" / DATABASE_NAME).exists()
    assert not list((tmp_path / "new").glob("blobs/??/*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a folder read-only")
def test_a_store_where_nothing_can_be_written_is_named_and_what_to_do(tmp_path):
    with filled(tmp_path / "fog"):
        pass
    program = (
        f"mount --bind {tmp_path}/fog {tmp_path}/fog && mount -o remount,ro,bind {tmp_path}/fog && "
        f"exec {sys.executable} -c 'from pathlib import Path; from common.store.backup import back_up; "
        f'back_up(Path("{tmp_path}/fog"), Path("{tmp_path}/backup"))\''
    )
    ended = subprocess.run(["unshare", "-m", "bash", "-c", program], capture_output=True, text=True)
    if "mount:" in ended.stderr or "unshare" in ended.stderr:
        pytest.skip(f"nothing can be mounted here: {ended.stderr.strip()}")
    assert f"reads {tmp_path}/fog beside its node" in ended.stderr
    assert "copy the whole folder to another disk" in ended.stderr
