"""A disk that is really full: a small file system of its own, which only root can mount."""

import contextlib
import os
import shutil
import subprocess
import time

import pytest

from common.errors import StoreError, StoreFullError
from common.frame import Frame, FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store
from common.store.backup import back_up
from common.store.records import CommitOutcome, Record, RecordKind
from common.store.settings import EdgeStoreSettings, FogStoreSettings

CAMERA = "c" * 40
SMALL, LARGE = 20_000, 150_000

SETTINGS = EdgeStoreSettings(min_free_bytes=0)


@pytest.fixture
def disk(tmp_path):
    """24 MB; ``filled`` takes all but some of them."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def frame(number, size):
    image = os.urandom(8) + bytes(size - 8)
    return Frame(f"f{number}", image, 64, 48, True, (), FrameIdentity(CAMERA, 1, number), False)


@contextlib.contextmanager
def filled(disk, left):
    """While this lasts so many bytes are free at most."""
    filler = disk / "filler"
    with filler.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, shutil.disk_usage(disk).free - left)
    try:
        yield
    finally:
        filler.unlink()


def part_files(folder):
    return [path for path in folder.rglob("*") if path.suffix in (".tmp", ".part")]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_fog_stores_whole_groups_or_nothing_and_goes_on_with_room(disk, size):
    settings = FogStoreSettings(min_free_bytes=0)
    stored, refused = [], 0
    with open_fog_store(disk / "store", settings) as store:
        with filled(disk, 3 << 20):
            while refused < 3:
                group = [frame(len(stored) + refused * 1000, size), frame(len(stored) + 500, size)]
                try:
                    store.commit_frames(group)
                except StoreFullError:
                    refused += 1
                else:
                    stored += group
            assert [item.frame for item in store.pending_frames(1000)] == stored
            assert part_files(disk) == []
        for item in store.pending_frames(1000):
            store.finish(item.identity, RecordKind.PACKET, {}, b"p")
        assert store.commit_frames([frame(9999, size)]) == [CommitOutcome.STORED]
    with open_fog_store(disk / "store", settings) as store:
        assert store.pending_count == 1
        assert store.quarantined.items == 0


@pytest.mark.parametrize("size", [90_000, LARGE])
def test_a_fog_whose_oldest_may_go_lives_on_a_small_disk(disk, size):
    settings = FogStoreSettings(min_free_bytes=8 << 20, retention={"when_full": "drop_oldest"})
    with open_fog_store(disk / "store", settings) as store:
        for number in range(300):
            for _ in range(50):
                try:
                    store.commit_frames([frame(number, SMALL)])
                    break
                except StoreFullError:
                    store.retain(time.time())
            else:
                raise AssertionError(f"no room was made for frame {number}")
            identity = FrameIdentity(CAMERA, 1, number)
            store.finish(identity, RecordKind.PACKET, {}, number.to_bytes(4, "big") * (size // 4))
        assert store.last_position == 300
        assert store.oldest_position > 10
        assert store.pending_count == 0
        assert shutil.disk_usage(disk).free > 1 << 20


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_edge_applies_whole_pages_or_nothing(disk, size):
    def packet(number):
        payload = number.to_bytes(4, "big") * (size // 4)
        digest = content_digest(payload)
        inline = payload if size <= 100_000 else None
        return Record(number, RecordKind.PACKET, "d" * 40, 1, number, digest, {}, size, inline), payload

    def receive(store, number):
        record, payload = packet(number)
        if record.large:
            part = store.incoming_folder / "part"
            part.write_bytes(payload)
            store.adopt_blob(record.digest, part)
        store.apply([record], number)

    with filled(disk, 3 << 20), open_edge_store(disk / "store", CAMERA, SETTINGS) as store:
        store.follow(1)
        applied = 0
        with contextlib.suppress(StoreFullError, OSError):
            for number in range(1, 1000):
                receive(store, number)
                applied = number
        (store.incoming_folder / "part").unlink(missing_ok=True)
        assert applied > 5
        assert store.position == applied
        assert store.count(RecordKind.PACKET) == applied
        with store.training_view() as view:
            assert len(view.packets_after(0, 10_000)) == applied
            assert view.damaged == ()


def test_damage_is_told_on_a_full_disk_and_put_away_when_there_is_room(disk):
    settings = FogStoreSettings(min_free_bytes=0)
    with open_fog_store(disk / "store", settings) as store:
        store.commit_frames([frame(number, LARGE) for number in range(3)])
        for number in range(3):
            store.finish(FrameIdentity(CAMERA, 1, number), RecordKind.PACKET, {}, bytes([number]) * LARGE)
        record = store.read(0, 1, 1).records[0]
        path = store._database.blobs.path(record.digest)
        path.write_bytes(b"x")
        with filled(disk, 0):
            for _ in range(2):
                with pytest.raises(StoreError):
                    store.blob(record.digest, 0, 10)
            assert len(store.read(1, 10, 1).records) == 2, "the others are there"
        with pytest.raises(StoreError):
            store.blob(record.digest, 0, 10)
        assert store.quarantined.items == 2
        kinds = [(entry.kind.value, entry.position) for entry in store.read(0, 10, 1).records]
        assert kinds == [("gap", 1), ("packet", 2), ("packet", 3)]


def test_a_backup_that_does_not_fit_leaves_nothing(disk, tmp_path):
    with open_fog_store(tmp_path / "store", FogStoreSettings(min_free_bytes=0)) as store:
        for number in range(200):
            store.commit_frames([frame(number, LARGE)])
        with pytest.raises(StoreError):
            back_up(tmp_path / "store", disk / "backup")
        assert list((disk / "backup").iterdir()) == []
