"""An edge's database that was really damaged: what was recorded is saved, under its own numbers only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from common.errors import StoreCorruptError, StoreError
from common.frame import Frame
from common.store import open_edge_store, open_fog_store
from common.store.database import DATABASE_NAME
from common.store.edge_salvage import PASSED_OVER, PASSED_OVER_BLINDLY, salvage_edge
from common.store.high_water import HIGH_WATER_NAME
from common.store.records import INLINE_LIMIT_BYTES, Record
from tests.damage import flip, flip_many, lose_sector
from tests.node_processes import Deployment, write_frames

CAMERA = "c" * 40
COUNT = 130
DONE = 60
REFUSED, EXPIRED = 60, 61
CORRECTED = 5
PAGE = 8192
NEXT = COUNT + PASSED_OVER


def image(number, size=None):
    size = size or (INLINE_LIMIT_BYTES + 1 if number % 40 == 39 else 900)
    return hashlib.shake_128(str(number).encode()).digest(size)


def frame(number):
    return Frame(f"frame{number}", image(number), 64, 48, True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The folder of a closed store: frames that the fog has, one refused, one expired, and many that wait."""
    folder = tmp_path_factory.mktemp("sound")
    with open_edge_store(folder, CAMERA) as edge:
        for number in range(COUNT):
            expires = 10.0 if number == EXPIRED else None
            edge.record_frame(f"source#{number}", frame(number), lambda n: n % 10 == 9, expires)
        edge.expire(20.0)
        edge.acknowledge(range(DONE))
        edge.refuse(REFUSED, "no JPEG")
        edge.correct(f"source#{CORRECTED}", True, ())
        edge.correct(f"source#{CORRECTED}", False, ())
        edge.follow(1)
        edge.apply([Record.gap(1, n, n, "x" * 300) for n in range(1, 60)], 59)
    (folder / "detector").mkdir()
    (folder / "detector" / "weights.safetensors").write_bytes(b"weights")
    return folder


def damaged(sound, folder, change):
    shutil.copytree(sound, folder)
    path = folder / DATABASE_NAME
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return folder


def waiting(edge):
    return {frame.identity.number: frame for frame in edge.unacknowledged(COUNT, 1 << 30)}


WAITING = set(range(DONE, COUNT)) - {REFUSED, EXPIRED}


def test_of_a_sound_store_everything_but_the_inbox_is_there(sound, tmp_path):
    with open_edge_store(shutil.copytree(sound, tmp_path / "copy"), CAMERA) as edge:
        epoch, state, refused, mine = edge.epoch, edge.outbox_state(), edge.refused(), waiting(edge)
        corrections = edge.waiting_corrections(9)
    found = salvage_edge(tmp_path / "copy", tmp_path / "new")
    assert (found.frames, found.waiting, found.lost, found.damaged) == (COUNT, len(WAITING), 0, ())
    assert found.corrections == 1
    with open_edge_store(tmp_path / "new", CAMERA) as edge:
        assert (edge.epoch, edge.refused()) == (epoch, refused)
        assert edge.outbox_state() == replace(state, recorded=NEXT)
        assert waiting(edge) == mine
        assert set(mine) == WAITING
        assert edge.waiting_corrections(9) == corrections
        with edge.training_view() as view:
            originals = view.validation_originals(1000)
            assert {original.identity.number for original in originals} == set(range(9, COUNT, 10))
        edge.follow(1)
        assert edge.position == 0, "the log is pulled again"
    assert (tmp_path / "new" / "detector" / "weights.safetensors").read_bytes() == b"weights"


def test_a_source_is_not_recorded_twice_and_no_number_is_given_twice(sound, tmp_path):
    salvage_edge(sound, tmp_path / "new")
    with open_edge_store(tmp_path / "new", CAMERA) as edge:
        assert edge.record_frame("source#3", frame(3)) == 3
        assert edge.record_frame("new", frame(500)) == NEXT
        edge.acknowledge([NEXT])
    found = salvage_edge(tmp_path / "new", tmp_path / "again")
    assert (found.frames, found.lost, found.damaged) == (COUNT + 1, 0, ())
    assert found.next_number == NEXT + 1 + PASSED_OVER


def test_frames_that_only_the_marks_know_are_told_and_their_numbers_not_given_again(sound, tmp_path):
    """The newest frames were in a write-ahead log that is gone."""
    folder = shutil.copytree(sound, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        connection.execute("DELETE FROM outbox WHERE number >= ?", (COUNT - 7,))
        connection.commit()
    found = salvage_edge(folder, tmp_path / "new")
    assert (found.frames, found.lost, found.next_number) == (COUNT - 7, 7, NEXT)
    (folder / HIGH_WATER_NAME).unlink()
    blind = salvage_edge(folder, tmp_path / "blind")
    assert blind.next_number == COUNT - 7 + PASSED_OVER_BLINDLY
    with open_edge_store(tmp_path / "blind", CAMERA) as edge:
        assert edge.record_frame("new", frame(500)) == COUNT - 7 + PASSED_OVER_BLINDLY


def cut(data, source):
    # The first half of so small a database is roots of tables and indexes.
    del data[source.randrange(len(data) // 2, len(data)) :]


@pytest.mark.parametrize("change", [flip, flip_many, lose_sector, cut], ids=lambda change: change.__name__)
def test_what_is_saved_is_right_and_keeps_its_identity(sound, tmp_path, change):
    with open_edge_store(shutil.copytree(sound, tmp_path / "copy"), CAMERA) as edge:
        epoch, before = edge.epoch, waiting(edge)
    saved = []
    for seed in range(16):
        source = random.Random(f"{change.__name__}{seed}")
        folder = damaged(sound, tmp_path / str(seed), lambda data, source=source: change(data, source))
        try:
            found = salvage_edge(folder, tmp_path / f"new{seed}")
        except StoreCorruptError:
            saved.append(0)
            continue
        except StoreError as error:
            # A flipped bit in the file's header may make it the store of something else.
            if "is not the store of an edge" not in str(error):
                raise
            continue
        with open_edge_store(tmp_path / f"new{seed}", CAMERA) as edge:
            after = waiting(edge)
            assert edge.outbox_state().recorded == found.next_number
            if found.frames:
                assert (edge.epoch, found.next_number) == (epoch, NEXT)
            for number, item in after.items():
                # A state is under no checksum: what the fog has may be sent again, and is known to it.
                assert item.image == image(number)
                assert item == before.get(number, item)
            for number in range(COUNT):
                assert edge.recorded(f"source#{number}") in (number, None)
        saved.append(len(WAITING & set(after)))
        shutil.rmtree(folder)
    print(change.__name__, sorted(saved))
    # The newest frames, which wait, are at the end of the file.
    assert sorted(saved)[-4 if change is cut else 8] >= (1 if change is cut else 0.8 * len(WAITING))


def test_lost_frames_are_told_and_may_be_recorded_anew(sound, tmp_path):
    def lose(data):
        place = data.find(image(100))
        assert place >= 0
        data[place // PAGE * PAGE : (place // PAGE + 1) * PAGE] = bytes(PAGE)

    folder = damaged(sound, tmp_path / "copy", lose)
    with pytest.raises(StoreCorruptError, match="edge-node salvage"):
        open_edge_store(folder, CAMERA)
    found = salvage_edge(folder, tmp_path / "new")
    assert 1 <= found.lost <= 9
    assert any(sentence.startswith(f"{found.lost} numbers") for sentence in found.damaged)
    with open_edge_store(tmp_path / "new", CAMERA) as edge:
        assert edge.quarantined.items == 2
        assert edge.recorded("source#100") is None
        assert edge.record_frame("source#100", frame(100)) == NEXT


def test_a_waiting_frame_without_its_image_is_left_out(sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "copy")
    for path in folder.glob("blobs/??/*"):
        path.unlink()
    found = salvage_edge(folder, tmp_path / "new")
    assert "2 frames that wait for the fog have lost their image" in found.damaged[0]
    with open_edge_store(tmp_path / "new", CAMERA) as edge:
        assert set(waiting(edge)) == WAITING - {79, 119}
        assert edge.quarantined.items == 3


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_older_schema_is_salvaged_too(tmp_path, version):
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.executescript((Path(__file__).parent / "golden" / f"edge_{version}.sql").read_text())
    found = salvage_edge(tmp_path, tmp_path / "new")
    with open_edge_store(tmp_path, CAMERA) as edge:
        was, mine = edge.outbox_state(), waiting(edge)
    with open_edge_store(tmp_path / "new", CAMERA) as edge:
        assert waiting(edge) == mine
        assert edge.outbox_state() == replace(was, recorded=was.recorded + PASSED_OVER_BLINDLY)
    assert found.damaged == ()
    assert was.recorded > 0


def test_nothing_to_salvage_is_told_in_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="there is no store in"):
        salvage_edge(tmp_path, tmp_path / "new")
    with open_fog_store(tmp_path / "fog"):
        pass
    with pytest.raises(StoreError, match="fog-node salvage"):
        salvage_edge(tmp_path / "fog", tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def test_a_device_goes_on_with_its_salvaged_store(deployment, tmp_path, photo):
    """Frames recorded while the fog was away, their source deleted, and then the database damaged."""
    deployment.start_fog()
    names = [f"{n:03d}" for n in range(40)]
    source = write_frames(tmp_path / "a", photo, names[:10])
    edge = deployment.edge("one", [source]).start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 10, "ten packets")
    deployment.fog.terminate()
    assert edge.terminate() == 0
    write_frames(tmp_path / "a", photo, names)
    edge.start()
    edge.wait_for(lambda s: s["outbox"]["waiting"] == 30, "thirty frames that wait")
    assert edge.terminate() == 0
    shutil.rmtree(source)
    path = edge.store / DATABASE_NAME
    data = bytearray(path.read_bytes())
    with sqlite3.connect(path) as connection:
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'inbox'").fetchone()[0]
    connection.close()
    data[(root - 1) * page : root * page] = bytes(page)
    path.write_bytes(data)
    edge.start()
    assert edge.process.wait(30) == 1
    assert "edge-node salvage" in edge.text()
    command = [sys.executable, "-m", "edge_node.cli", "salvage", "--config", edge.config]
    answer = subprocess.run([*command, tmp_path / "saved", "--json"], check=True, capture_output=True)
    assert json.loads(answer.stdout)["waiting"] == 30
    edge.store.rename(tmp_path / "damaged")
    (tmp_path / "saved").rename(edge.store)
    edge.settings["sources"] = []
    edge.config.write_text(yaml.safe_dump(edge.settings))
    deployment.fog.start()
    edge.start()
    edge.wait_for(lambda s: s["inbox"]["packet"] == 40, "all packets, those received before too", 60)
    assert edge.status()["outbox"]["waiting"] == 0
    assert deployment.fog.status()["log_position"] == 40, "nothing is there twice"
