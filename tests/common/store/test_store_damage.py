"""Database files with flipped bits, lost sectors or a lost end: nothing wrong is given out, little lost."""

import contextlib
import hashlib
import random
import shutil
import sqlite3

import pytest

from common.errors import StoreCorruptError, StoreError
from common.frame import Frame, FrameIdentity
from common.store import open_edge_store, open_fog_store
from common.store.backup import back_up, restore
from common.store.database import DATABASE_NAME
from common.store.records import INLINE_LIMIT_BYTES, CommitOutcome, Record, RecordKind
from common.store.salvage import salvage
from tests.damage import flip, flip_many, lose_sector

CAMERA = "c" * 40
COUNT = 120
WAITING = 10
PAGE = 4096


def image(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def frame(number):
    size = INLINE_LIMIT_BYTES + 1 if number % 40 == 39 else 700
    identity = FrameIdentity(CAMERA, 1, number)
    return Frame(f"frame{number}", image(number, size), 64, 48, True, (), identity, number % 5 == 0)


def payload(number):
    size = INLINE_LIMIT_BYTES + 1 if number % 50 == 49 else 200 + 17 * (number % 97)
    return image(("packet", number), size)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The folder of a closed store."""
    folder = tmp_path_factory.mktemp("sound")
    with open_fog_store(folder) as store:
        for start in range(0, COUNT, 20):
            store.commit_frames([frame(number) for number in range(start, start + 20)])
            for number in range(start, start + 20):
                store.finish(frame(number).identity, RecordKind.PACKET, {"n": number}, payload(number))
        store.commit_frames([frame(number) for number in range(COUNT, COUNT + WAITING)])
    return folder


def copied(sound, folder, change):
    shutil.copytree(sound, folder)
    path = folder / DATABASE_NAME
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return folder


def checked(store):
    """Read everything; the numbers of sound packets and waiting frames. Whatever is given out is right."""
    packets, after = set(), 0
    while True:
        page = store.read(after, 1000, 1 << 24)
        for record in page.records:
            if record.kind is RecordKind.GAP:
                continue
            number = record.number
            assert record.kind is RecordKind.PACKET
            assert (record.device, record.epoch, record.position) == (CAMERA, 1, number + 1)
            if record.large:
                try:
                    assert store.blob(record.digest, 0, record.size) == payload(number)
                except StoreError:
                    continue
            else:
                assert record.payload == payload(number)
            packets.add(number)
        assert page.through > after or not page.more
        after = page.through
        if not page.more:
            break
    waiting = set()
    for item in store.pending_frames(1000):
        if item.frame is not None:
            assert item.frame == frame(item.identity.number)
            waiting.add(item.identity.number)
    with store.training_view() as view:
        for position, data in view.packets_after(0, 1000):
            assert data == payload(position - 1)
    return packets, waiting


def looked_at(folder):
    """What is left of a damaged store, as its node or, failing that, as salvage and restore find it."""
    try:
        with open_fog_store(folder) as store:
            return "opened", *checked(store)
    except StoreCorruptError:
        pass
    except StoreError as error:
        # A flipped bit in the file's header may make it the store of something else.
        if "is not the store of" in str(error) or "schema version" in str(error):
            return "refused", set(), set()
        raise
    try:
        salvage(folder, folder / "salvaged")
    except StoreCorruptError:
        return "lost", set(), set()
    restore(folder / "salvaged", folder / "restored")
    with open_fog_store(folder / "restored") as store:
        return "salvaged", *checked(store)


def tally(tmp_path, sound, seeds, change):
    outcomes = {"opened": 0, "salvaged": 0, "refused": 0, "lost": 0}
    losses = {}
    for seed in seeds:
        source = random.Random(seed)
        folder = copied(sound, tmp_path / str(seed), lambda data, source=source: change(data, source))
        outcome, packets, waiting = looked_at(folder)
        outcomes[outcome] += 1
        losses[seed] = (outcome, COUNT - len(packets) + WAITING - len(waiting))
        shutil.rmtree(folder)
    print(outcomes, sorted(lost for _, lost in losses.values()))
    return outcomes, losses


def cut(data, source):
    del data[source.randrange(len(data)) :]


def test_a_sound_store_is_whole_however_it_is_looked_at(sound, tmp_path):
    folder = copied(sound, tmp_path / "copy", lambda data: None)
    everything = set(range(COUNT)), set(range(COUNT, COUNT + WAITING))
    salvage(folder, tmp_path / "salvaged")
    restore(tmp_path / "salvaged", tmp_path / "restored")
    for place in (folder, tmp_path / "restored"):
        with open_fog_store(place) as store:
            assert checked(store) == everything
            assert store.quarantined.items == 0


def test_a_flipped_bit_costs_the_records_of_its_page_at_most(sound, tmp_path):
    outcomes, losses = tally(tmp_path, sound, range(80), flip)
    assert outcomes["lost"] + outcomes["refused"] <= 4
    # A page of 8,192 bytes holds up to 90 of these rows.
    assert all(lost <= 90 for outcome, lost in losses.values() if outcome in ("opened", "salvaged"))


def test_a_flipped_bit_in_a_definition_costs_no_record(sound, tmp_path):
    def flip_definition(data):
        data[data.index(b"position INTEGER PRIMARY KEY") + len("position INTEGER PRI")] ^= 0x80

    folder = copied(sound, tmp_path / "copy", flip_definition)
    with pytest.raises(StoreCorruptError, match="definition of its table log"):
        open_fog_store(folder)
    assert looked_at(folder) == ("salvaged", set(range(COUNT)), set(range(COUNT, COUNT + WAITING)))


def test_many_flipped_bits_never_make_a_wrong_record(sound, tmp_path):
    tally(tmp_path, sound, range(1000, 1020), flip_many)


def test_a_lost_sector_never_makes_a_wrong_record(sound, tmp_path):
    tally(tmp_path, sound, range(2000, 2020), lose_sector)


def test_a_lost_end_leaves_what_was_before_it(sound, tmp_path):
    outcomes, losses = tally(tmp_path, sound, range(3000, 3012), cut)
    assert outcomes["opened"] == 0, "a file that is cut is not taken for whole"
    assert sorted(lost for _, lost in losses.values())[6] < 0.7 * COUNT, "half of the cuts leave much"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("change", [flip, flip_many, lose_sector, cut], ids=lambda change: change.__name__)
def test_hundreds_more_damaged_files(sound, tmp_path, change):
    tally(tmp_path, sound, range(10_000, 10_500), change)


def problems(path, check):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {check}").fetchall() != [("ok",)]


def in_an_index_only(folder, needle):
    """Flip a bit of one of these bytes, where SQLite's quick check does not see it and the whole one does."""
    path = folder / DATABASE_NAME
    data = path.read_bytes()
    place = data.find(needle)
    while place >= 0:
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        if problems(path, "integrity_check") and not problems(path, "quick_check"):
            return
        place = data.find(needle, place + 1)
    raise AssertionError("these bytes are in no index")


@pytest.mark.parametrize("needle", [CAMERA.encode(), frame(COUNT).digest], ids=["identity", "digest"])
def test_a_damaged_index_is_made_anew_when_the_store_is_opened(sound, tmp_path, caplog, needle):
    folder = copied(sound, tmp_path / "copy", lambda data: None)
    in_an_index_only(folder, needle)
    with open_fog_store(folder) as store:
        assert "index" in caplog.text
        frames = [frame(number) for number in range(COUNT + WAITING)]
        # By a damaged index of identities a frame would be taken for a new one, and be there twice.
        assert set(store.commit_frames(frames)) == {CommitOutcome.DUPLICATE}
        assert checked(store) == (set(range(COUNT)), set(range(COUNT, COUNT + WAITING)))
        assert store.pending_count == WAITING
        for number in range(COUNT, COUNT + WAITING):
            store.finish(frame(number).identity, RecordKind.PACKET, {"n": number}, payload(number))
    back_up(folder, tmp_path / "backup")


def test_salvage_tells_how_many_uploads_are_lost_without_a_trace(sound, tmp_path):
    """Uploads that were not encoded have no place in the log, so no gap would tell of them."""

    def lose_the_newest(data):
        places = [data.rfind(frame(number).image) for number in range(COUNT + 3, COUNT + WAITING)]
        for place in places:
            assert place >= 0
            data[place // PAGE * PAGE : (place // PAGE + 1) * PAGE] = bytes(PAGE)

    folder = copied(sound, tmp_path / "copy", lose_the_newest)
    summary = salvage(folder, tmp_path / "salvaged")
    sentence = next(text for text in summary.damaged if "uploads" in text)
    restore(tmp_path / "salvaged", tmp_path / "restored")
    with open_fog_store(tmp_path / "restored") as store:
        packets, waiting = checked(store)
        lost = WAITING - len(waiting)
        assert packets == set(range(COUNT))
        assert lost >= WAITING - 3
        assert sentence.startswith(f"{lost} uploads could not be read")
        assert store.quarantined.items > 0
        # They may be uploaded again, and are then waiting like any other.
        gone = sorted(set(range(COUNT, COUNT + WAITING)) - waiting)
        outcomes = store.commit_frames([frame(number) for number in gone])
        assert set(outcomes) == {CommitOutcome.STORED}
        assert checked(store) == (packets, set(range(COUNT, COUNT + WAITING)))


def test_a_header_of_garbage_is_told_in_one_sentence(sound, tmp_path):
    def garbage(data):
        data[:100] = random.Random(1).randbytes(100)

    folder = copied(sound, tmp_path / "copy", garbage)
    with pytest.raises(StoreCorruptError, match="fog-node salvage") as caught:
        open_fog_store(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreCorruptError):
        salvage(folder, tmp_path / "salvaged")


def test_an_edge_says_what_to_do_about_its_database(tmp_path):
    with open_edge_store(tmp_path, CAMERA) as edge:
        edge.follow(1)
        for position in range(1, 60):
            edge.apply([Record.gap(1, position, position, "x" * 300)], position)
    path = tmp_path / DATABASE_NAME
    data = bytearray(path.read_bytes())
    data[5 * PAGE : 6 * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    with pytest.raises(StoreCorruptError, match="at an edge run edge-node salvage"):
        open_edge_store(tmp_path, CAMERA)
