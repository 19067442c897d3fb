"""A damaged write-ahead log takes the newest commits along; the store tells so, and reuses no number."""

import random
import shutil

import pytest

from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store
from common.store.backup import restore
from common.store.database import DATABASE_NAME
from common.store.edge_salvage import salvage_edge
from common.store.high_water import (
    HIGH_WATER_NAME,
    SLOT,
    SLOT_BYTES,
    HighWater,
    HighWaterFile,
    read_high_water,
)
from common.store.records import CommitOutcome, RecordKind
from common.store.salvage import salvage

CAMERA = "c" * 40
WAL_NAME = f"{DATABASE_NAME}-wal"


def frame(number):
    image = content_digest(str(number).encode()) * 20
    return Frame(f"frame{number}", image, 64, 48, True, (), FrameIdentity(CAMERA, 1, number))


def encode_all(store):
    for item in store.pending_frames(100):
        store.finish(item.identity, RecordKind.PACKET, {}, item.frame.image)


def killed(store, folder, copy):
    """The folder as a kill leaves it at this moment."""
    shutil.copytree(folder, copy)
    (copy / f"{DATABASE_NAME}-shm").unlink(missing_ok=True)
    store.close()
    return copy


def kinds(store):
    return [(r.kind.value, r.position) for r in store.read(0, 100, 1 << 24).records]


def cut(path):
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size // 2)


def flip(path):
    with path.open("r+b") as handle:
        handle.seek(path.stat().st_size // 2)
        old = handle.read(1)[0]
        handle.seek(-1, 1)
        handle.write(bytes([old ^ 8]))


def lose_the_head(path):
    with path.open("r+b") as handle:
        handle.write(bytes(512))


def remove(path):
    path.unlink()


DAMAGES = [cut, flip, lose_the_head, remove]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_fog_tells_what_a_damaged_log_lost_and_reuses_no_position(tmp_path, damage):
    store = open_fog_store(tmp_path / "store")
    for number in range(6):
        store.commit_frames([frame(number)])
        encode_all(store)
    store.commit_frames([frame(6), frame(7)])
    log_id = store.log_id
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    damage(folder / WAL_NAME)
    with open_fog_store(folder) as after:
        assert after.log_id == log_id, "tables and identity do not hang on the write-ahead log"
        assert after.last_position == 6
        gaps = [r for r in after.read(0, 100, 1 << 24).records if r.kind is RecordKind.GAP]
        (gap,) = gaps
        assert gap.meta["last"] == 6
        held = after.usage.records
        assert gap.meta["count"] == 6 - held
        (uploads,) = [item for item in after.quarantine.items(10) if item.source == "frames"]
        assert uploads.last == 8
        lost = uploads.last - uploads.place + 1
        assert lost == 8 - held - after.pending_count
        assert f"{lost} acknowledged uploads" in uploads.reason
        # What comes again, or anew, has a number of its own.
        assert after.commit_frames([frame(7)]) == [CommitOutcome.STORED]
        encode_all(after)
        assert after.read(6, 10, 1 << 24).records[0].position == 7
        assert after.quarantined.items == 2
    with open_fog_store(folder) as again:
        assert again.quarantined.items == 2, "it is told once"


def test_a_second_loss_on_top_of_the_first_is_told_too(tmp_path):
    store = open_fog_store(tmp_path / "0")
    folder = tmp_path / "0"
    for turn in range(1, 4):
        store.commit_frames([frame(turn)])
        encode_all(store)
        folder = killed(store, folder, tmp_path / str(turn))
        (folder / WAL_NAME).unlink()
        store = open_fog_store(folder)
        assert store.last_position == turn
        assert kinds(store)[0] == ("gap", turn)
    assert store.read(0, 100, 1 << 24).records[0].meta["count"] == 3
    store.close()


def test_a_whole_log_after_a_kill_tells_of_no_loss(tmp_path):
    store = open_fog_store(tmp_path / "store")
    for number in range(4):
        store.commit_frames([frame(number)])
        encode_all(store)
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    with open_fog_store(folder) as after:
        assert after.quarantined.items == 0
        assert len(kinds(after)) == 4


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_edge_gives_no_frame_number_twice(tmp_path, damage):
    store = open_edge_store(tmp_path / "store", CAMERA)
    for number in range(6):
        store.record_frame(f"source/{number}", frame(number))
        store.acknowledge([number])
    with open_fog_store(tmp_path / "fog") as fog:
        fog.commit_frames([frame(number) for number in range(6)])
        encode_all(fog)
        records = fog.read(0, 100, 1 << 24).records
        log_id = fog.log_id
    store.follow(log_id)
    for record in records:
        store.apply([record], record.position)
    epoch = store.epoch
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    damage(folder / WAL_NAME)
    with open_edge_store(folder, CAMERA) as after:
        assert after.epoch == epoch
        kept = [number for number in range(6) if after.recorded(f"source/{number}") is not None]
        state = after.outbox_state()
        assert state.recorded == 6
        assert state.acknowledged + state.waiting == len(kept)
        held = after.positions.get(log_id, 0)
        assert held < 6, "what was received and lost is pulled again"
        after.follow(log_id)
        after.apply(records[held:], 6)
        assert after.inbox_position > 6
        numbers = {number: after.record_frame(f"source/{number}", frame(number)) for number in range(6)}
    again = [numbers[number] for number in range(6) if number not in kept]
    assert again == list(range(6, 6 + len(again)))
    with open_edge_store(folder, CAMERA) as later:
        assert later.record_frame("source/new", frame(50)) == 6 + len(again)


def test_numbers_stay_given_when_nothing_is_recorded_between_two_starts(tmp_path):
    store = open_edge_store(tmp_path / "store", CAMERA)
    store.record_frame("source/0", frame(0))
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    (folder / WAL_NAME).unlink()
    for _ in range(2):
        with open_edge_store(folder, CAMERA) as after:
            assert after.quarantined.items == 1
    (folder / HIGH_WATER_NAME).unlink()
    with open_edge_store(folder, CAMERA) as after:
        assert after.record_frame("source/0", frame(0)) == 1


def test_an_edge_that_forgot_corrections_gives_its_next_ones_greater_revisions(tmp_path):
    boxes = [(Box(0.0, 0.0, float(size), 5.0, "object"),) for size in range(1, 6)]
    store = open_edge_store(tmp_path / "store", CAMERA)
    store.record_frame("source/0", frame(0))
    store.acknowledge([0])
    store.close()
    store = open_edge_store(tmp_path / "store", CAMERA)
    revisions = [store.correct("source/0", True, boxes[place]) for place in range(3)]
    assert revisions == [1, 2, 3]
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    (folder / WAL_NAME).unlink()
    with open_edge_store(folder, CAMERA) as after:
        assert "3 corrections of labels" in after.quarantined.latest
        # The fog may have revision 3: whatever is sent now must be newer.
        assert after.correct("source/0", True, boxes[3]) == 4
        assert after.correct("source/0", True, boxes[4]) > 4
    with open_edge_store(folder, CAMERA) as later:
        assert later.quarantined.items == 1


def test_a_salvaged_edge_gives_greater_revisions_as_well(tmp_path):
    boxes = [(Box(0.0, 0.0, float(size), 5.0, "object"),) for size in range(1, 5)]
    store = open_edge_store(tmp_path / "store", CAMERA)
    store.record_frame("source/0", frame(0))
    store.acknowledge([0])
    store.correct("source/0", True, boxes[0])
    store.close()
    store = open_edge_store(tmp_path / "store", CAMERA)
    assert [store.correct("source/0", True, boxes[place]) for place in (1, 2)] == [2, 3]
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    (folder / WAL_NAME).unlink()
    salvage_edge(folder, tmp_path / "salvaged")
    with open_edge_store(tmp_path / "salvaged", CAMERA) as after:
        assert (after.correct("source/0", True, boxes[3]) or 0) > 3


def test_what_a_log_lost_is_told_by_salvage_too(tmp_path):
    store = open_fog_store(tmp_path / "store")
    for number in range(4):
        store.commit_frames([frame(number)])
    encode_all(store)
    folder = killed(store, tmp_path / "store", tmp_path / "killed")
    (folder / WAL_NAME).unlink()
    summary = salvage(folder, tmp_path / "salvaged")
    assert any("4 uploads could not be read" in sentence for sentence in summary.damaged)
    assert any("4 positions of the log are lost" in sentence for sentence in summary.damaged)
    restore(tmp_path / "salvaged", tmp_path / "restored")
    with open_fog_store(tmp_path / "restored") as after:
        assert kinds(after) == [("gap", 4)]


def test_a_restored_store_is_not_measured_by_the_marks_of_another(tmp_path):
    from common.store.backup import back_up

    folder = tmp_path / "store"
    with open_fog_store(folder) as store:
        store.commit_frames([frame(0)])
        back_up(folder, tmp_path / "backup")
        store.commit_frames([frame(1), frame(2)])
        encode_all(store)
    (folder / DATABASE_NAME).unlink()
    restore(tmp_path / "backup", folder)
    with open_fog_store(folder) as after:
        assert after.quarantined.items == 0
        assert after.pending_count == 1


def test_a_store_without_marks_opens_and_gets_them(tmp_path):
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(0)])
        log_id = store.log_id
    (tmp_path / HIGH_WATER_NAME).unlink()
    with open_fog_store(tmp_path) as store:
        assert store.quarantined.items == 0
    assert read_high_water(tmp_path) == HighWater(log_id, (0, 1, 0))


def test_marks_that_cannot_be_written_stop_no_store(tmp_path):
    (tmp_path / HIGH_WATER_NAME).mkdir()
    with open_fog_store(tmp_path) as store:
        store.commit_frames([frame(0)])
        assert store.pending_count == 1


def test_a_torn_or_damaged_slot_leaves_the_marks_before(tmp_path):
    source = random.Random(3)
    file = HighWaterFile(tmp_path)
    for number in range(1, 40):
        file.write(HighWater(7, (number, 2 * number, 1)))
        path = tmp_path / HIGH_WATER_NAME
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[number % 2 * SLOT_BYTES + source.randrange(SLOT.size)] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        before = None if number == 1 else HighWater(7, (number - 1, 2 * number - 2, 1))
        assert read_high_water(tmp_path) == before
        path.write_bytes(whole)
        assert read_high_water(tmp_path) == HighWater(7, (number, 2 * number, 1))
    file.close()
