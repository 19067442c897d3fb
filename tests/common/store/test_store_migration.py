"""Stores that older programs wrote: brought up to date when they are opened, whole, or left as they were.

``golden/ROLE_VERSION.sql`` is the dump of a store as the program of that schema version wrote it.
"""

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import common
from common.errors import StoreError
from common.frame import FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store, open_training_view
from common.store import schema as schemas
from common.store.database import DATABASE_NAME
from common.store.records import Keyframe, Record, RecordKind

GOLDEN = Path(__file__).parent / "golden"

CAMERA, FOG, OTHER = "c" * 40, "f" * 40, "d" * 40
EPOCH = 2**64 - 1

FOGS = sorted(path.stem for path in GOLDEN.glob("fog_*.sql"))
EDGES = sorted(path.stem for path in GOLDEN.glob("edge_*.sql"))


def written_by(name, folder):
    """The store of a golden file, in write-ahead mode as its program left it."""
    folder.mkdir(exist_ok=True)
    connection = sqlite3.connect(folder / DATABASE_NAME)
    connection.executescript((GOLDEN / f"{name}.sql").read_text())
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return folder


def tables(folder):
    """Every table and index with its SQL, and the version."""
    connection = sqlite3.connect(folder / DATABASE_NAME)
    found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return version, found


def test_there_is_a_golden_store_of_each_former_version():
    assert {f"fog_{number}" for number in range(1, len(schemas.SCHEMAS["fog"]))} <= set(FOGS)
    assert {f"edge_{number}" for number in range(1, len(schemas.SCHEMAS["edge"]))} <= set(EDGES)


@pytest.mark.parametrize("name", FOGS)
def test_a_fog_goes_on_with_what_an_older_program_wrote(tmp_path, name):
    folder = written_by(name, tmp_path)
    with pytest.raises(StoreError, match="older program; start the node"):
        open_training_view(folder)
    with open_fog_store(folder) as store:
        records = store.read(0, 10, 1 << 20).records
        assert [(r.position, r.kind.value, r.payload) for r in records] == [
            (1, "packet", b"packet 0"),
            (2, "packet", b"packet 1"),
            (3, "tombstone", b""),
            (4, "weights", b"weights"),
        ]
        assert [item.frame.name for item in store.pending_frames(10)] == ["frame3"]
        with store.training_view() as view:
            assert [f.name for f in view.validation_originals(9)] == ["frame1"]
        assert store.append(RecordKind.WEIGHTS, FOG, 7, 1, {}, b"new") == 5
        store.finish(FrameIdentity(CAMERA, EPOCH, 3), RecordKind.PACKET, {}, b"packet 3")
        assert store.trim(2) == 2
    with open_fog_store(folder) as store:
        assert (store.oldest_position, store.last_position) == (3, 6)


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_goes_on_with_what_an_older_program_wrote(tmp_path, name):
    folder = written_by(name, tmp_path)
    with open_edge_store(folder, CAMERA) as store:
        assert (store.log_id, store.position) == (5, 6)
        assert [f.identity.number for f in store.unacknowledged(9, 1 << 20)] == [3]
        assert store.refused() == [(2, "no image")]
        assert store.recorded("key3") == 3
        packets = [b"p1", b"p2"]
        with store.training_view() as view:
            assert [data for _, data in view.packets_after(0, 9)] == packets
            assert [f.name for f in view.validation_originals(9)] == ["frame1"]
        again = Record(1, RecordKind.PACKET, OTHER, 1, 1, content_digest(b"p1"), {}, 2, b"p1")
        assert store.apply([again], 7).duplicates == 1
        if store.waiting_packets:
            assert store.wanted_keyframes(9) == [Keyframe(content_digest(b"key"), 3)]
            assert store.store_keyframe(content_digest(b"key"), b"key") == 1


@pytest.mark.parametrize("name", [*FOGS, *EDGES])
def test_an_upgraded_store_has_the_tables_of_a_new_one(tmp_path, name):
    def opened(folder):
        return open_fog_store(folder) if name in FOGS else open_edge_store(folder, CAMERA)

    opened(written_by(name, tmp_path / "old")).close()
    opened(tmp_path / "new").close()
    version, old = tables(tmp_path / "old")
    newest, new = tables(tmp_path / "new")
    assert version == newest == len(schemas.SCHEMAS[name.partition("_")[0]])
    # The time of the upgrade stands in the tables as the age of what was there.
    assert [entry for entry, _ in old] == [entry for entry, _ in new]


def test_an_upgrade_that_fails_leaves_the_store_as_it_was_and_is_repeated(tmp_path, monkeypatch):
    folder = written_by("fog_2", tmp_path)
    before = tables(folder)
    broken = {"fog": (*schemas.SCHEMAS["fog"], "CREATE TABLE more (x); INSERT INTO missing VALUES (1);")}
    with monkeypatch.context() as patch:
        patch.setattr("common.store.database.SCHEMAS", broken)
        with pytest.raises(StoreError, match="missing"):
            open_fog_store(folder)
    assert tables(folder) == before
    with open_fog_store(folder) as store:
        assert store.last_position == 4


@pytest.mark.parametrize("step", range(1, 12, 2))
def test_a_killed_upgrade_is_repeated(tmp_path, step):
    """A child is killed at a statement of the upgrade."""
    folder = written_by("fog_1", tmp_path)
    before = tables(folder)
    script = textwrap.dedent(
        """
        import os, signal, sqlite3, sys
        from common.store import open_fog_store
        connect, seen = sqlite3.connect, []

        def watch(statement):
            if statement.lstrip().startswith(("ALTER", "CREATE", "PRAGMA user_version =")):
                seen.append(statement)
                if len(seen) >= int(sys.argv[2]):
                    os.kill(os.getpid(), signal.SIGKILL)

        def watched(*arguments, **options):
            connection = connect(*arguments, **options)
            if arguments[0] != ":memory:":
                connection.set_trace_callback(watch)
            return connection

        sqlite3.connect = watched
        open_fog_store(sys.argv[1]).close()
        """
    )
    root = Path(common.__file__).parents[1]
    child = subprocess.run([sys.executable, "-c", script, str(folder), str(step)], cwd=root)
    if child.returncode == 0:
        assert step > 6, "the upgrade was not interrupted"
    else:
        assert child.returncode == -9
        assert tables(folder) == before
    with open_fog_store(folder) as store:
        assert [r.payload for r in store.read(0, 2, 1 << 20).records] == [b"packet 0", b"packet 1"]
