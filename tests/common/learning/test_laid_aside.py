"""Frames beyond the device's budget wait in host memory and on disk, and decode as if they had never left."""

import contextlib
import os
import threading
from pathlib import Path

import pytest
import torch

from common.bitstream.packet import Packet
from common.errors import LearningError
from common.frame import Box, FrameIdentity
from common.learning.batches import decode_batch
from common.learning.offers import KnownLabels
from common.learning.prefetch import Prefetch
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.spill import Spill
from common.learning.views import View, plain_view
from tests.learning_packets import random_packet
from tests.raster_packets import image_packet, keyframe_of, pyramid_packet, reference_packet

DESCRIPTORS = Path("/proc/self/fd")
BOXES = ((4, 5, 20, 17), (10, 8, 15, 13))


@pytest.fixture(scope="module")
def keyframes():
    return dict([keyframe_of(pyramid_packet(7)), keyframe_of(image_packet("webp", 8))])


@pytest.fixture(scope="module")
def packets(keyframes):
    pyramid, image = keyframes
    made = []
    for i in range(6):
        made += [
            pyramid_packet(i, boxes=BOXES),
            random_packet(i),
            reference_packet(pyramid, i, boxes=BOXES[:1]),
            image_packet("jpeg", i),
            reference_packet(image, i, kind="jpeg"),
        ]
    return made


@pytest.fixture(scope="module")
def reference(packets, keyframes):
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add(packets, keyframes)
    return store


def small_store(folder, budget=72_000, host=10_000, disk=1 << 22, **keys):
    return ResidentStore(
        "cpu", budget, TrainingSettings(host_bytes=host, disk_bytes=disk, **keys), folder=folder
    )


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in ("img", "cls", "bboxes", "batch_idx"))


def test_every_frame_decodes_to_the_same_pixels_wherever_it_lies(tmp_path, packets, keyframes, reference):
    store = small_store(tmp_path)
    added = store.add(packets, keyframes)
    assert (added.trainable, added.evicted, added.refused) == (len(packets), 0, 0)
    assert 0 < added.aside < len(packets)
    assert store.nbytes <= 72_000
    assert 0 < store.aside.host_nbytes <= 10_000
    assert store.aside.disk_nbytes > 0
    prefetch = Prefetch(store)
    order = torch.randperm(len(packets), generator=torch.Generator().manual_seed(1))
    batches = [[plain_view(number) for number in part.tolist()] for part in order.split(8)]
    for views in prefetch.batches(batches):
        numbers = torch.tensor([view.frames[0] for view in views])
        assert same(decode_batch(store, numbers, 64), decode_batch(reference, numbers, 64))
    assert prefetch.fetched == added.aside
    assert store.nbytes <= 72_000, "what was brought for a batch is gone again"


def test_integers_are_decoded_once_and_never_when_a_frame_comes_back(
    tmp_path, packets, keyframes, monkeypatch
):
    store = small_store(tmp_path)
    store.add(packets, keyframes)

    def refuse(*_arguments, **_keys):
        raise AssertionError("an entropy decoder ran again")

    monkeypatch.setattr("common.pyramid.decoder.decode_grids", refuse)
    away = store.away(store.numbers.tolist())
    assert len(store.fetch(away)) == len(away)


def test_a_frame_that_is_laid_aside_is_not_decoded_before_it_is_staged(tmp_path, packets, keyframes):
    store = small_store(tmp_path)
    store.add(packets, keyframes)
    (number, *_) = store.away(store.numbers.tolist())
    with pytest.raises(LearningError, match="stage it first"):
        decode_batch(store, torch.tensor([number]), 64)
    store.stage(store.fetch([number]))
    decode_batch(store, torch.tensor([number]), 64)
    store.unstage()
    with pytest.raises(LearningError, match="stage it first"):
        decode_batch(store, torch.tensor([number]), 64)


def test_when_all_three_are_full_frames_are_evicted_wherever_they_lie(tmp_path, packets, keyframes):
    store = small_store(tmp_path, host=10_000, disk=50_000)
    total = 0
    for _ in range(4):
        added = store.add(packets, keyframes)
        total += added.trainable - added.evicted
        assert len(store) == total
        assert store.nbytes <= 72_000
        assert store.aside.host_nbytes <= 10_000
        assert store.aside.disk_nbytes <= 50_000
    assert total < 4 * len(packets)
    away = store.away(store.numbers.tolist())
    assert sorted(frame.number for frame in store.fetch(away)) == away
    store.remove(store.numbers.tolist())
    assert (len(store), len(store.aside), store.aside.disk_nbytes, store.boxes) == (0, 0, 0, 0)


def test_a_full_store_that_refuses_lays_aside_first(tmp_path, packets, keyframes):
    store = ResidentStore(
        "cpu", 50_000, TrainingSettings(host_bytes=10_000, disk_bytes=0), "refuse", folder=tmp_path
    )
    added = store.add(packets, keyframes)
    assert added.aside > 0
    assert added.refused > 0
    assert added.evicted == 0
    assert added.trainable + added.refused == len(packets)


def test_frames_evicted_after_they_were_read_ahead_are_left_out(tmp_path, packets, keyframes):
    store = small_store(tmp_path)
    store.add(packets, keyframes)
    away = store.away(store.numbers.tolist())
    returned = store.fetch(away)
    store.remove(away[:3])
    store.stage(returned)
    decode_batch(store, torch.tensor(away[3:]), 64)
    store.unstage()
    assert store.fetch(away[:3]) == []


def test_reading_ahead_runs_beside_what_is_added_and_evicted(tmp_path, packets, keyframes):
    store = small_store(tmp_path, host=10_000, disk=50_000)
    store.add(packets, keyframes)
    failures = []

    def read():
        try:
            for _ in range(6):
                store.fetch(list(range(store.end)))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3):
        store.add(packets, keyframes)
    thread.join()
    assert failures == []


def test_labels_are_replaced_wherever_the_frame_lies(tmp_path, packets, keyframes):
    store = small_store(tmp_path, classes=("object", "car"))
    store.add(packets, keyframes)
    (number, *_) = store.away(store.numbers.tolist())
    for chosen in (0, number):
        store.relabel(chosen, KnownLabels(True, (Box(0, 0, 32, 10, "car"),), 64, 40))
        store.stage(store.fetch([number]))
        batch = decode_batch(store, torch.tensor([chosen]), 64)
        store.unstage()
        assert batch["cls"].tolist() == [[1.0]]
        store.relabel(chosen, KnownLabels(True, (), 64, 40))
    with pytest.raises(LearningError, match="unknown class 'tram'"):
        store.relabel(0, KnownLabels(True, (Box(0, 0, 32, 10, "tram"),), 64, 40))


def test_a_frame_is_found_by_its_identity_until_it_goes(tmp_path):
    store = small_store(tmp_path)
    packet = random_packet(1)
    named = Packet(**{k: getattr(packet, k) for k in packet.__dataclass_fields__} | {
        "identity": FrameIdentity("d" * 40, 7, 3)
    })  # fmt: skip
    store.add([random_packet(0), named])
    assert store.number_of(FrameIdentity("d" * 40, 7, 3)) == 1
    store.remove([1])
    assert store.number_of(FrameIdentity("d" * 40, 7, 3)) is None


def test_mosaics_bring_all_their_frames(tmp_path, packets, keyframes):
    store = small_store(tmp_path)
    store.add(packets, keyframes)
    away = store.away(store.numbers.tolist())
    view = plain_view(0)
    mosaic = View((0, *away[:3]), view.matrix, centre=(64, 64))
    (staged,) = [store.away([0, *away[:3]]) for _ in Prefetch(store).batches([[mosaic]])]
    assert staged == []


def damage(change):
    """Change the open file of laid aside frames, whose name is gone."""
    for place in DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            if "spill.sqlite3" in str(place.readlink()):
                change(int(place.name))


def cut_off(file):
    os.ftruncate(file, 4096)


def flip_a_bit_of_each_page(file):
    size = os.fstat(file).st_size
    for at in range(3 * 4096 + 2000, size, 4096):
        (byte,) = os.pread(file, 1, at)
        os.pwrite(file, bytes([byte ^ 1]), at)


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc to find a file without a name")
@pytest.mark.parametrize("change", [cut_off, flip_a_bit_of_each_page])
def test_frames_that_cannot_be_read_back_are_given_up_and_named_and_the_others_train(
    tmp_path, packets, keyframes, reference, capsys, change
):
    store = small_store(tmp_path, host=0)
    store.add(packets, keyframes)
    away = set(store.away(store.numbers.tolist()))
    damage(change)
    store.aside._file.execute("PRAGMA shrink_memory")
    seen = []
    batches = [[plain_view(number) for number in part.tolist()] for part in store.numbers.split(8)]
    for views in Prefetch(store).batches(batches):
        here = store.resident(numbers := torch.tensor([view.frames[0] for view in views]))
        numbers = numbers[here]
        if len(numbers):
            assert same(decode_batch(store, numbers, 64), decode_batch(reference, numbers, 64))
        seen += numbers.tolist()
    lost = set(range(len(packets))) - set(seen)
    assert lost
    assert lost <= away
    assert store.numbers.tolist() == seen
    assert "cannot be read any more" in capsys.readouterr().err
    store.remove(store.numbers.tolist())
    assert len(store) == 0


class TestSpill:
    def test_host_memory_comes_first_then_the_disk_then_nothing(self, tmp_path):
        spill = Spill(1000, 8 * 4096, tmp_path)
        kept = [spill.put(number, bytes([number]) * 500) for number in range(12)]
        assert kept[0]
        assert not kept[-1]
        assert (spill.host_nbytes <= 1000) or spill.disk_nbytes
        numbers = [number for number, put in enumerate(kept) if put]
        assert spill.get(numbers) == [bytes([number]) * 500 for number in numbers]
        assert spill.get([99]) == [None]

    def test_room_that_was_given_back_is_used_again(self, tmp_path):
        spill = Spill(0, 64 * 4096, tmp_path)
        for number in range(500):
            assert spill.put(number, bytes(3000))
            spill.drop([number - 5])
        assert len(spill) == 5

    @pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc to find a file without a name")
    def test_a_record_that_has_changed_on_disk_is_not_given_out(self, tmp_path):
        def flip_a_bit(file):
            data = os.pread(file, os.fstat(file).st_size, 0)
            if b"xxx" in data:
                os.pwrite(file, b"y", data.index(b"xxx") + 700)

        spill = Spill(0, 1 << 20, tmp_path)
        assert spill.put(1, b"x" * 2000)
        assert spill.put(2, b"z" * 2000)
        damage(flip_a_bit)
        spill._file.execute("PRAGMA shrink_memory")
        assert spill.get([1, 2]) == [None, b"z" * 2000]

    def test_nothing_is_left_in_the_folder(self, tmp_path):
        spill = Spill(0, 64 * 4096, tmp_path)
        spill.put(1, b"x" * 100)
        assert list(tmp_path.iterdir()) == []
        spill.close()
        assert spill.get([1]) == [None]

    def test_a_folder_that_cannot_be_written_is_one_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LearningError, match="set disk_bytes to 0"):
            Spill(0, 1 << 20, tmp_path / "file")
