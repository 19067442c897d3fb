"""Corrected labels are kept, and reach whoever comes later, as long as the packet that they belong to."""

import dataclasses

import pytest

from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.corrections import Correction
from common.store.memory_edge import MemoryEdgeStore
from common.store.memory_fog import MemoryFogStore
from common.store.records import Keyframe, Record, RecordKind
from common.store.rows import keyframe_facts
from common.store.settings import EdgeStoreSettings, FogStoreSettings
from common.store.sqlite_edge import SqliteEdgeStore
from common.store.sqlite_fog import SqliteFogStore

CAMERA = "c" * 40
NEW, NEWER = Box(1.5, 2, 31, 40, "car"), Box(5, 5, 9, 9, "bus")
PACKET, LABELS = RecordKind.PACKET, RecordKind.LABELS


@pytest.fixture(params=["sqlite", "memory"])
def fog(request, tmp_path):
    settings = FogStoreSettings(min_free_bytes=0)
    memory = request.param == "memory"
    with MemoryFogStore(settings) if memory else SqliteFogStore(tmp_path / "fog", settings) as store:
        yield store


@pytest.fixture(params=["sqlite", "memory"])
def open_edge(request, tmp_path):
    opened = []

    def make(**retention):
        settings = EdgeStoreSettings.model_validate({"min_free_bytes": 0, "retention": retention})
        memory = request.param == "memory"
        edge = MemoryEdgeStore(CAMERA, settings) if memory else SqliteEdgeStore(tmp_path, CAMERA, settings)
        opened.append(edge)
        return edge

    yield make
    for edge in opened:
        edge.close()


def identity(number, epoch=2**64 - 1):
    """An epoch that is negative in SQLite."""
    return FrameIdentity(CAMERA, epoch, number)


def commit(fog, *numbers):
    boxes = (Box(1, 2, 30, 40, "car"),)
    fog.commit_frames([Frame(f"f{n}", b"image %d" % n, 64, 48, True, boxes, identity(n)) for n in numbers])


def encode(fog, number, kind=PACKET):
    return fog.finish(identity(number), kind, {}, b"packet %d" % number)


def seen_by_a_new_edge(fog):
    return [
        (record.kind, record.position)
        for record in fog.read(0, 100, 1 << 20).records
        if record.kind in (PACKET, LABELS)
    ]


def labels(fog, number):
    with fog.training_view() as view:
        found = view.correction(identity(number))
    return None if found is None else found.boxes


class TestFog:
    def test_labels_before_their_packet_move_behind_it_when_they_would_be_dropped(self, fog):
        commit(fog, 0, 1)
        encode(fog, 0)
        fog.correct(identity(1), 1, True, (NEW,))
        encode(fog, 1)
        assert fog.trim(2) == 1, "the first packet; the labels have moved"
        assert seen_by_a_new_edge(fog) == [(PACKET, 3), (LABELS, 4)]
        assert labels(fog, 1) == (NEW,)
        assert (fog.last_position, fog.usage.records) == (4, 2)
        assert fog.read(3, 9, 1 << 20).records[0].identity == dataclasses.replace(
            identity(1), number=65_536 + 1
        ), "under the same number, so that an edge that has it stores nothing twice"

    def test_labels_of_a_frame_that_is_not_encoded_yet_stay_and_follow_its_packet(self, fog):
        commit(fog, 0, 1)
        fog.correct(identity(1), 1, True, (NEW,))
        encode(fog, 0)
        assert fog.trim(2) == 1
        assert seen_by_a_new_edge(fog) == []
        assert labels(fog, 1) == (NEW,)
        encode(fog, 1)
        assert seen_by_a_new_edge(fog) == [(PACKET, 3), (LABELS, 4)]
        assert labels(fog, 1) == (NEW,)

    def test_labels_go_after_their_packet(self, fog):
        commit(fog, 0, 1)
        encode(fog, 0)
        fog.correct(identity(0), 1, True, (NEW,))
        encode(fog, 1)
        assert fog.trim(1) == 1
        assert labels(fog, 0) == (NEW,)
        assert fog.trim(2) == 1
        assert labels(fog, 0) is None
        assert (fog.last_position, fog.usage.records) == (3, 1)

    def test_only_the_newest_labels_of_a_frame_are_kept_for_its_packet(self, fog):
        commit(fog, 0)
        fog.correct(identity(0), 1, True, (NEW,))
        fog.correct(identity(0), 2, True, (NEWER,))
        assert fog.trim(2) == 1
        encode(fog, 0)
        assert seen_by_a_new_edge(fog) == [(PACKET, 3), (LABELS, 4)]
        assert labels(fog, 0) == (NEWER,)
        assert fog.usage.records == 2

    def test_labels_of_a_frame_that_became_a_tombstone_are_dropped_with_it(self, fog):
        commit(fog, 0)
        fog.correct(identity(0), 1, True, (NEW,))
        fog.trim(1)
        encode(fog, 0, RecordKind.TOMBSTONE)
        fog.trim(2)
        assert labels(fog, 0) is None
        assert fog.usage.records == 0

    def test_a_later_correction_of_labels_that_stayed_replaces_them(self, fog):
        commit(fog, 0)
        fog.correct(identity(0), 1, True, (NEW,))
        fog.trim(1)
        fog.correct(identity(0), 2, True, (NEWER,))
        encode(fog, 0)
        assert seen_by_a_new_edge(fog) == [(LABELS, 2), (PACKET, 3)]
        fog.trim(2)
        assert labels(fog, 0) == (NEWER,)
        assert seen_by_a_new_edge(fog) == [(PACKET, 3), (LABELS, 4)]

    def test_neighbouring_frames_and_epochs_are_not_confused(self, fog):
        commit(fog, 0, 1)
        fog.commit_frames([Frame("g", b"other", 64, 48, True, (), identity(1, epoch=5))])
        fog.correct(identity(0), 1, True, (NEW,))
        encode(fog, 0)
        fog.trim(2)
        assert fog.usage.records == 0
        assert labels(fog, 0) is None

    def test_large_labels_move_with_their_file(self, fog):
        commit(fog, 0)
        boxes = [Box(n, 0, n + 1, 1, "name " * 20) for n in range(1000)]
        fog.correct(identity(0), 1, True, boxes)
        encode(fog, 0)
        fog.trim(1)
        (record,) = [r for r in fog.read(0, 9, 1 << 20).records if r.kind is LABELS]
        assert record.payload is None
        assert len(fog.blob(record.digest, 0, record.size)) == record.size
        assert labels(fog, 0) == tuple(boxes)


def record_of(position, kind, number, payload, meta=None):
    digest = content_digest(payload)
    return Record(position, kind, CAMERA, 7, number, digest, meta or {}, len(payload), payload)


def correction(position, number, revision, box):
    made = Correction(identity(number, 7), revision, 64, 48, True, (box,))
    return record_of(position, LABELS, made.record_number, made.payload())


class TestEdge:
    def known(self, edge, number=1):
        with edge.training_view() as view:
            found = view.correction(identity(number, 7))
        return None if found is None else found.boxes

    def drop(self, edge):
        while edge.retain(0).more:
            pass

    def test_labels_stay_for_a_packet_that_waited_for_its_keyframe(self, open_edge):
        edge = open_edge(max_records=2, when_full="drop_oldest")
        edge.follow(5)
        keyframe = b"keyframe"
        needs = {"keyframe": keyframe_facts(Keyframe(content_digest(keyframe), len(keyframe)))}
        edge.apply(
            [
                record_of(1, PACKET, 1, b"packet", needs),
                correction(2, 1, 1, NEW),
                correction(3, 1, 2, NEWER),
            ],
            3,
        )
        edge.store_keyframe(content_digest(keyframe), keyframe)
        edge.apply([record_of(4, PACKET, 2, b"next")], 4)
        self.drop(edge)
        assert self.known(edge) == (NEWER,)
        assert edge.usage.records == 3, "two records, and behind them the newest labels"

    def test_they_go_with_that_packet(self, open_edge):
        edge = open_edge(max_records=2, when_full="drop_oldest")
        edge.follow(5)
        edge.apply([correction(1, 1, 1, NEW), record_of(2, PACKET, 1, b"packet")], 2)
        edge.apply([record_of(3, PACKET, 2, b"b")], 3)
        self.drop(edge)
        assert self.known(edge) == (NEW,)
        edge.apply([record_of(4, PACKET, 3, b"c")], 4)
        self.drop(edge)
        assert self.known(edge) is None
        assert [record.number for _, record in edge.records(0, 9)] == [2, 3]

    def test_moved_labels_are_no_second_record(self, open_edge):
        edge = open_edge()
        edge.follow(5)
        edge.apply([correction(1, 1, 1, NEW), record_of(2, PACKET, 1, b"packet")], 2)
        again = edge.apply([correction(3, 1, 1, NEW)], 3)
        assert (again.applied, again.duplicates, edge.count(LABELS)) == (0, 1, 1)
