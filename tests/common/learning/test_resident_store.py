"""The resident store keeps labelled frames within its budget, whatever arrives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LearningError
from common.learning.batches import decode_batch
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.tables import Table
from tests.learning_packets import random_packet


def make_store(budget=1 << 24, when_full="evict", **keys):
    return ResidentStore("cpu", budget, TrainingSettings(**keys), when_full)


def test_only_labelled_frames_outside_validation_train():
    store = make_store()
    added = store.add(
        [
            random_packet(0),
            random_packet(1, labelled=False),
            random_packet(2, validation=True),
            random_packet(3, boxes=[]),
        ]
    )
    assert (added.trainable, added.unlabelled, added.validation) == (2, 1, 1)
    assert len(store) == 2


def test_a_class_name_that_is_not_listed_is_refused_and_nothing_is_added():
    store = make_store()
    with pytest.raises(LearningError, match=r"'tram'.*class_map"):
        store.add([random_packet(0), random_packet(1, boxes=[(1, 1, 9, 9)], name="tram")])
    assert len(store) == 0


def test_a_mapped_class_name_gets_the_index_of_its_target():
    store = make_store(classes=("car", "bus"), class_map={"coach": "bus"})
    store.add([random_packet(1, boxes=[(1, 1, 9, 9)], name="coach")])
    assert decode_batch(store, torch.tensor([0]), 64)["cls"].tolist() == [[1.0]]


def test_frames_added_one_by_one_decode_as_frames_added_together():
    packets = [random_packet(i) for i in range(12)]
    together, single = make_store(), make_store()
    together.add(packets)
    for packet in packets:
        single.add([packet])
    a, b = (decode_batch(s, torch.arange(12), 64) for s in (together, single))
    assert all(torch.equal(a[k], b[k]) for k in ("img", "cls", "bboxes", "batch_idx"))


@settings(max_examples=25, deadline=None)
@given(st.integers(6_000, 60_000), st.lists(st.integers(1, 9), min_size=1, max_size=8), st.booleans())
def test_the_budget_holds_and_the_kept_frames_stay_intact(budget, sizes, evict):
    store = make_store(budget, "evict" if evict else "refuse")
    packets, refused, kept, live = [], 0, 0, {}
    for size in sizes:
        new = [random_packet(len(packets) + i) for i in range(size)]
        packets += new
        end = store.end
        added = store.add(new)
        if added.refused == 0:
            live |= dict(zip(range(end, store.end), new, strict=True))
        refused += added.refused
        kept += added.trainable - added.evicted
        assert store.nbytes <= budget
        assert len(store) == kept
    if evict and refused == 0:
        reference = make_store()
        reference.add([live[number] for number in store.numbers.tolist()])
        got, want = decode_batch(store, store.numbers, 64), decode_batch(reference, reference.numbers, 64)
        assert all(torch.equal(got[k], want[k]) for k in ("img", "cls", "bboxes", "batch_idx"))


def test_a_full_store_that_refuses_keeps_what_it_has():
    store = make_store(20_000, "refuse")
    first = store.add([random_packet(i) for i in range(40)])
    assert first.trainable > 0
    assert first.refused > 0
    assert first.evicted == 0
    assert first.trainable + first.refused == 40
    assert store.numbers.tolist() == list(range(len(store)))


def test_a_packet_larger_than_the_whole_budget_is_refused():
    assert make_store(1 << 10).add([random_packet(0)]).refused == 1


def test_growth_copies_a_few_bytes_for_each_byte_added(monkeypatch):
    copied = 0
    move = Table._move

    def counted(self, capacity):
        nonlocal copied
        copied += len(self) * self.row_bytes
        move(self, capacity)

    monkeypatch.setattr(Table, "_move", counted)
    store = make_store()
    for i in range(400):
        store.add([random_packet(i % 20)])
    assert copied < 8 * store.nbytes


def test_evicted_frames_cannot_be_decoded():
    store = make_store(20_000)
    store.add([random_packet(i) for i in range(60)])
    gone = set(range(store.end)) - set(store.numbers.tolist())
    assert gone
    with pytest.raises(LearningError, match=r"only .* are resident"):
        decode_batch(store, torch.tensor([min(gone)]), 64)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000))
def test_rows_keep_their_numbers_and_values_whichever_go(seed):
    rng = np.random.default_rng(seed)
    table, kept = Table([torch.empty(0, 2), torch.empty(0, dtype=torch.int64)]), {}
    for _ in range(12):
        rows = int(rng.integers(0, 6))
        values = torch.from_numpy(rng.random((rows, 2), np.float32))
        first = table.append([values, torch.arange(rows)], int(rng.integers(0, 200)))
        assert first + rows == table.end
        kept |= {first + i: values[i] for i in range(rows)}
        gone = [number for number in kept if rng.random() < 0.3]
        table.remove(torch.tensor(gone, dtype=torch.int64))
        kept = {number: value for number, value in kept.items() if number not in gone}
        if rng.random() < 0.2:
            table.trim()
            assert table.capacity == len(table)
        assert table.numbers.tolist() == sorted(kept)
        asked = torch.arange(table.end + 2)
        assert table.has(asked).tolist() == [number in kept for number in asked.tolist()]
        if kept:
            numbers = table.numbers
            wanted = torch.stack([kept[number] for number in numbers.tolist()])
            assert torch.equal(table.columns[0][table.places(numbers)], wanted)
