"""Frames of higher priority come first, and those that have outlived their time go: both stores alike."""

import pytest

from common.frame import Frame, FrameIdentity
from common.store import open_edge_store, open_fog_store
from common.store.memory_edge import MemoryEdgeStore
from common.store.memory_fog import MemoryFogStore
from common.store.records import CommitOutcome

DEVICE = "d" * 40


def frame(number, priority=0, size=10):
    image = bytes([number]) * size
    return Frame(f"f{number}", image, 4, 4, identity=FrameIdentity(DEVICE, 1, number), priority=priority)


@pytest.fixture(params=["sqlite", "memory"])
def edge(request, tmp_path):
    store = open_edge_store(tmp_path, DEVICE) if request.param == "sqlite" else MemoryEdgeStore(DEVICE)
    with store:
        yield store


@pytest.fixture(params=["sqlite", "memory"])
def fog(request, tmp_path):
    with open_fog_store(tmp_path) if request.param == "sqlite" else MemoryFogStore() as store:
        yield store


def numbers(frames):
    return [entry.identity.number for entry in frames]


def test_uploads_come_by_priority_and_then_by_number(edge):
    for number, priority in enumerate((0, 5, 0, 9, 5)):
        edge.record_frame(str(number), frame(number, priority))
    assert numbers(edge.unacknowledged(10, 1000)) == [3, 1, 4, 0, 2]
    assert numbers(edge.unacknowledged(2, 1000, without={3, 1})) == [4, 0]
    assert [entry.priority for entry in edge.unacknowledged(3, 1000)] == [9, 5, 5]
    assert numbers(edge.unacknowledged(10, 25, without={3})) == [1, 4]


def test_a_frame_that_outlived_its_time_goes_is_counted_and_its_number_not_used_again(edge):
    edge.record_frame("a", frame(0), expires=100.0)
    edge.record_frame("b", frame(1), expires=200.0)
    edge.record_frame("c", frame(2))
    assert edge.expire(99.0) == 0
    assert edge.expire(100.0) == 1
    state = edge.outbox_state()
    assert (state.recorded, state.waiting, state.waiting_bytes, state.acknowledged, state.expired) == (
        (3, 2, 20, 0, 1)
    )
    assert numbers(edge.unacknowledged(10, 1000)) == [1, 2]
    assert edge.recorded("a") == 0, "it is not recorded again"
    assert edge.record_frame("d", frame(3)) == 3
    assert edge.refused() == []


def test_what_is_on_its_way_or_acknowledged_does_not_expire(edge):
    for number in range(3):
        edge.record_frame(str(number), frame(number), expires=1.0)
    edge.acknowledge([0])
    assert edge.expire(1e9, without={1}) == 1
    assert edge.outbox_state().acknowledged == 1
    edge.acknowledge([1, 2])
    state = edge.outbox_state()
    assert (state.acknowledged, state.expired, state.waiting) == (2, 1, 0)


def test_the_count_of_expired_frames_outlives_the_process(tmp_path):
    with open_edge_store(tmp_path, DEVICE) as store:
        for number in range(4):
            store.record_frame(
                str(number), frame(number, priority=number), expires=5.0 if number < 2 else None
            )
        store.expire(6.0)
        state = store.outbox_state()
    with open_edge_store(tmp_path, DEVICE) as store:
        assert store.outbox_state() == state
        assert state.expired == 2
        assert numbers(store.unacknowledged(10, 1000)) == [3, 2]


def test_a_frame_is_encoded_by_priority_and_then_in_order_of_arrival(fog):
    fog.commit_frames([frame(number, priority) for number, priority in enumerate((0, 5, 0, 9, 5))])
    found = fog.pending_frames(10)
    assert [item.identity.number for item in found] == [3, 1, 4, 0, 2]
    held = [item.arrival for item in found[:2]]
    fog.commit_frames([frame(5, 9)])
    assert [item.identity.number for item in fog.pending_frames(2, without=held)] == [5, 4]


def test_the_priority_is_no_part_of_what_a_frame_is(fog):
    assert fog.commit_frames([frame(0, 3)]) == [CommitOutcome.STORED]
    assert fog.commit_frames([frame(0, 7)]) == [CommitOutcome.DUPLICATE]
    assert frame(0, 3) == frame(0, 7)
