"""Damaged items are moved out of the way of sound ones, told once, kept to be looked at, never handed out."""

import json
import logging
import sqlite3

import pytest

from common.errors import StoreCorruptError, StoreError
from common.frame import Frame, FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store
from common.store.database import DATABASE_NAME
from common.store.records import INLINE_LIMIT_BYTES, CommitOutcome, Record, RecordKind
from common.store.settings import FogStoreSettings

CAMERA = "c" * 40
LARGE = INLINE_LIMIT_BYTES + 1


def frame(number, size=500, validation=False):
    image = content_digest(str(number).encode()) * (size // 32 + 1)
    return Frame(f"frame{number}", image, 64, 48, True, (), FrameIdentity(CAMERA, 1, number), validation)


def filled(folder, count=4, size=500, **settings):
    store = open_fog_store(folder, FogStoreSettings(**settings))
    store.commit_frames([frame(number) for number in range(count)])
    for item in store.pending_frames(count):
        store.finish(item.identity, RecordKind.PACKET, {}, frame(item.identity.number + 100, size).image)
    return store


def execute(folder, sql, *values):
    with sqlite3.connect(folder / DATABASE_NAME) as connection:
        connection.execute(sql, values)
    connection.close()


def kinds(store, after=0, limit=100):
    return [(r.kind.value, r.position) for r in store.read(after, limit, 1 << 24).records]


def test_a_damaged_record_is_moved_and_told_once(tmp_path, caplog):
    filled(tmp_path).close()
    execute(tmp_path, "UPDATE log SET payload = x'0102' WHERE position = 2")
    with open_fog_store(tmp_path) as store, caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert kinds(store) == [("packet", 1), ("gap", 2), ("packet", 3), ("packet", 4)]
        assert store.quarantined.items == 1
        assert "record 2" in store.quarantined.latest
        assert store.usage.records == 3
        (item,) = store.quarantine.items(10)
        assert (item.source, item.place, item.content) == ("log", 2, b"\x01\x02")
        assert item.facts["device"] == CAMERA
    assert caplog.text.count("record 2") == 1
    with open_fog_store(tmp_path) as store:
        assert store.quarantined.items == 1
        assert kinds(store) == [("packet", 1), ("gap", 2), ("packet", 3), ("packet", 4)]


def test_gaps_of_quarantine_come_in_order_and_within_the_page(tmp_path):
    filled(tmp_path, 8).close()
    for position in (1, 2, 5, 8):
        execute(tmp_path, "UPDATE log SET meta = 'x' WHERE position = ?", position)
    with open_fog_store(tmp_path) as store:
        everything = kinds(store)
        assert [position for _, position in everything] == list(range(1, 9))
        assert store.last_position == 8
        paged, after = [], 0
        while True:
            page = store.read(after, 3, 1 << 24)
            paged += [(r.kind.value, r.position) for r in page.records]
            after = page.through
            if not page.more:
                break
        assert paged == everything
        # Filters do not apply to gaps: nobody can say any more whose these were.
        page = store.read(0, 100, 1 << 24, devices=["d" * 40])
        assert [r.position for r in page.records] == [1, 2, 5, 8]


def test_the_position_of_a_damaged_newest_record_is_not_used_again(tmp_path):
    filled(tmp_path).close()
    execute(tmp_path, "UPDATE log SET size = 1 WHERE position = 4")
    with open_fog_store(tmp_path) as store:
        assert kinds(store, 3) == [("gap", 4)]
        assert store.append(RecordKind.WEIGHTS, "f" * 40, 1, 0, {}, b"w") == 5
    with open_fog_store(tmp_path) as store:
        assert kinds(store, 3) == [("gap", 4), ("weights", 5)]


def test_a_column_that_an_index_holds_too_may_be_damaged(tmp_path):
    """The bytes of the row change, those of the index do not: SQLite calls that malformed."""
    with filled(tmp_path) as store:
        digest = store.read(1, 1, 1 << 20).records[0].digest
    path = tmp_path / DATABASE_NAME
    data = path.read_bytes()
    # The row is where the digest is followed by its size and meta; the index holds the digest alone.
    place = data.index(digest + (512).to_bytes(2, "big") + b"{}")
    path.write_bytes(data[:place] + b"\0\0" + data[place + 2 :])
    with open_fog_store(tmp_path) as store:
        assert kinds(store) == [("packet", 1), ("gap", 2), ("packet", 3), ("packet", 4)]
        assert store.quarantined.items == 1
        assert store.blob_size(digest) is None
        with store._database.reading() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        store.trim(4)


CHANGES = [
    f"{column} = {value}"
    for column in ("payload", "meta", "digest", "size", "epoch", "kind", "checksum")
    for value in ("'text'", "7", "1.5", "x''", "CAST(x'ff' AS TEXT)")
]


@pytest.mark.parametrize("change", [*CHANGES, "payload = NULL"])
def test_a_column_of_another_type_is_damage_like_any_other(tmp_path, change):
    filled(tmp_path).close()
    execute(tmp_path, f"UPDATE log SET {change} WHERE position = 2")
    with open_fog_store(tmp_path) as store:
        with store.training_view() as view:
            assert {place for place, _ in view.packets_after(0, 10)} >= {1, 3, 4}
        assert kinds(store) == [("packet", 1), ("gap", 2), ("packet", 3), ("packet", 4)]


@pytest.mark.parametrize("column", ["image = 7", "image = NULL", "facts = 'x'", "fingerprint = x'00'"])
def test_a_damaged_upload_ends_in_a_tombstone_and_its_bytes_are_kept(tmp_path, column):
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(number) for number in range(3)])
    execute(tmp_path, f"UPDATE frames SET {column} WHERE number = 1")
    with open_fog_store(tmp_path) as store:
        for _ in range(2):
            assert [item.frame is None for item in store.pending_frames(9)] == [False, True, False]
        assert store.quarantined.items == 1
        damaged = store.pending_frames(9)[1]
        store.finish(damaged.identity, RecordKind.TOMBSTONE, {"reason": damaged.damage}, b"")
        assert store.pending_count == 2


def test_an_upload_that_nobody_can_name_is_put_away_and_harms_no_other(tmp_path):
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(number) for number in (5, 77, 6)])
    # In the row, not in the index: 77 would pass for another frame.
    path = tmp_path / DATABASE_NAME
    data = bytearray(path.read_bytes())
    row = CAMERA.encode() + b"\x4d"
    places = [at for at in range(len(data)) if data.startswith(row, at)]
    assert places
    place = next(at for at in places if b"frame77" in data[at : at + 400])
    data[place + 40] = 6
    path.write_bytes(data)
    with open_fog_store(tmp_path) as store:
        pending = store.pending_frames(9)
        assert [(item.identity.number, item.damage) for item in pending] == [(5, None), (6, None)]
        assert (store.pending_count, store.quarantined.items) == (2, 1)
        for item in pending:
            store.finish(item.identity, RecordKind.PACKET, {}, b"p")
        assert store.commit_frames([frame(6)]) == [CommitOutcome.DUPLICATE]


def test_a_damaged_file_goes_with_the_records_that_need_it(tmp_path, caplog):
    with filled(tmp_path, 3, LARGE) as store, caplog.at_level(logging.ERROR):
        record = store.read(1, 1, 1).records[0]
        path = tmp_path / "blobs" / record.digest.hex()[:2] / record.digest.hex()
        path.write_bytes(b"x" * record.size)
        with pytest.raises(StoreCorruptError):
            store.blob(record.digest, 0, 10)
        with pytest.raises(StoreError, match="not here"):
            store.blob(record.digest, 0, 10)
        assert kinds(store) == [("packet", 1), ("gap", 2), ("packet", 3)]
        assert (tmp_path / "quarantine" / record.digest.hex()).read_bytes() == b"x" * record.size
        assert not path.exists()
        assert store.quarantined.items == 2
    with open_fog_store(tmp_path) as store:
        assert kinds(store) == [("packet", 1), ("gap", 2), ("packet", 3)]


def test_a_damaged_original_is_no_longer_there(tmp_path):
    with open_fog_store(tmp_path) as store:
        original = frame(0, LARGE, validation=True)
        store.commit_frames([original])
        store.finish(original.identity, RecordKind.PACKET, {}, b"p")
        path = tmp_path / "blobs" / original.digest.hex()[:2] / original.digest.hex()
        path.write_bytes(b"short")
        with pytest.raises(StoreCorruptError):
            store.blob(original.digest, 0, 10)
        assert store.blob_size(original.digest) is None
        assert store.usage.original_bytes == 0
        assert kinds(store) == [("packet", 1)]


def test_a_damaged_frame_of_the_outbox_is_kept_to_be_looked_at(tmp_path):
    with open_edge_store(tmp_path, CAMERA) as store:
        for number in range(3):
            store.record_frame(str(number), frame(number))
    execute(tmp_path, "UPDATE outbox SET image = x'0304' WHERE number = 1")
    with open_edge_store(tmp_path, CAMERA) as store:
        assert [f.identity.number for f in store.unacknowledged(9, 1 << 20)] == [0, 2]
        assert "checksum" in store.refused()[0][1]
        (item,) = store.quarantine.items(9)
        assert (item.source, item.place, item.content) == ("outbox", 1, b"\x03\x04")
    with open_edge_store(tmp_path, CAMERA) as store:
        assert store.quarantined.items == 1


def test_a_damaged_record_of_an_inbox_hides_no_other(tmp_path):
    def packet(position):
        digest = content_digest(str(position).encode())
        payload = str(position).encode()
        return Record(position, RecordKind.PACKET, "d" * 40, 1, position, digest, {}, len(payload), payload)

    with open_edge_store(tmp_path, CAMERA) as store:
        store.follow(1)
        store.apply([packet(position) for position in range(1, 5)], 4)
    for sequence in (2, 4):
        execute(tmp_path, "UPDATE inbox SET meta = 'x' WHERE sequence = ?", sequence)
    with open_edge_store(tmp_path, CAMERA) as store:
        assert [place for place, _ in store.records(0, 10)] == [1, 3]
        assert (store.quarantined.items, store.usage.records) == (2, 2)
        assert store.apply([packet(5)], 5).applied == 1
        assert [place for place, _ in store.records(0, 10)] == [1, 3, 5]
    execute(tmp_path, "DELETE FROM inbox WHERE sequence = 5")
    with open_edge_store(tmp_path, CAMERA) as store:
        assert store.inbox_position == 4, "the place of the quarantined newest is not given again"


def test_quarantine_keeps_so_many_bytes_and_of_the_rest_what_is_known(tmp_path):
    filled(tmp_path, 4, 40_000).close()
    execute(tmp_path, "UPDATE log SET meta = 'x'")
    with open_fog_store(tmp_path, FogStoreSettings(max_quarantine_bytes=100_000)) as store:
        assert kinds(store) == [("gap", position) for position in range(1, 5)]
        kept = [len(item.content or b"") > 0 for item in reversed(store.quarantine.items(9))]
        assert kept == [True, True, False, False]
        assert json.dumps(store.quarantine.items(9)[0].facts["meta"]) == '"x"'


def test_a_full_disk_leaves_damage_where_it_is_until_there_is_room(tmp_path, monkeypatch):
    filled(tmp_path).close()
    execute(tmp_path, "UPDATE log SET meta = 'x' WHERE position = 2")
    with open_fog_store(tmp_path) as store:
        with store._database.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
            connection.execute("CREATE TEMP TABLE filler (x)")
        sound = [("packet", 1), ("gap", 2), ("packet", 3), ("packet", 4)]
        fill(store)
        assert kinds(store)[:4] == sound
        if store.quarantined.items == 0:
            with store._database.reading() as connection:
                connection.execute("PRAGMA max_page_count = 100000")
            assert kinds(store)[:4] == sound
        assert store.quarantined.items == 1


def fill(store):
    """Take the last free pages."""
    for number in range(10_000):
        try:
            store.append(RecordKind.SHARED_PART, CAMERA, 9, number, {"x": "y" * 300}, b"")
        except StoreError:
            return
    raise AssertionError("the store never became full")
