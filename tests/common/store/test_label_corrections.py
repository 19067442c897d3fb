"""Corrected labels: records of their own; the greatest revision holds, everywhere and at once."""

import dataclasses

import pytest

from common.errors import StoreCorruptError, StoreError
from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.corrections import (
    LAST_FRAME,
    LAST_REVISION,
    Correction,
    CorrectionOutcome,
    correction_of,
    trainable_change,
)
from common.store.memory_edge import MemoryEdgeStore
from common.store.memory_fog import MemoryFogStore
from common.store.records import Record, RecordKind
from common.store.settings import EdgeStoreSettings, FogStoreSettings
from common.store.sqlite_edge import SqliteEdgeStore
from common.store.sqlite_fog import SqliteFogStore

CAMERA = "c" * 40
OLD, NEW, NEWER = Box(1, 2, 30, 40, "car"), Box(1.5, 2, 31, 40, "car"), Box(5, 5, 9, 9, "bus")
STORED, KNOWN = CorrectionOutcome.STORED, CorrectionOutcome.KNOWN


def frame(number=0, *, labelled=True, validation=False, epoch=7):
    boxes = (OLD,) if labelled else ()
    identity = FrameIdentity(CAMERA, epoch, number)
    return Frame(f"f{number}", b"image %d" % number, 64, 48, labelled, boxes, identity, validation)


@pytest.fixture(params=["sqlite", "memory"])
def fog(request, tmp_path):
    settings = FogStoreSettings(min_free_bytes=0)
    store = (
        MemoryFogStore(settings) if request.param == "memory" else SqliteFogStore(tmp_path / "f", settings)
    )
    with store:
        yield store


@pytest.fixture(params=["sqlite", "memory"])
def edge(request, tmp_path):
    settings = EdgeStoreSettings(min_free_bytes=0)
    memory = request.param == "memory"
    store = MemoryEdgeStore(CAMERA, settings) if memory else SqliteEdgeStore(tmp_path / "e", CAMERA, settings)
    with store:
        yield store


def correct(store, item, revision, *boxes, labelled=True):
    return store.correct(item.identity, revision, labelled, boxes).outcome


def records(fog):
    return [r for r in fog.read(0, 100, 1 << 20).records if r.kind is RecordKind.LABELS]


class TestFog:
    def test_a_correction_is_a_record_beside_the_frames_own(self, fog):
        item = frame(3)
        fog.commit_frames([item])
        fog.finish(item.identity, RecordKind.PACKET, {}, b"packet")
        assert correct(fog, item, 1, NEW) is STORED
        packet, labels = fog.read(0, 10, 1 << 20).records
        assert (packet.payload, labels.device, labels.epoch) == (b"packet", CAMERA, 7)
        found = correction_of(labels, labels.payload)
        assert found == Correction(item.identity, 1, 64, 48, True, (NEW,))
        assert labels.meta == {
            "frame": 3,
            "revision": 1,
            "labelled": True,
            "was_labelled": True,
            "validation": False,
        }

    def test_the_same_revision_again_is_known_and_other_labels_are_a_conflict(self, fog):
        item = frame()
        fog.commit_frames([item])
        assert [correct(fog, item, 1, NEW), correct(fog, item, 1, NEW)] == [STORED, KNOWN]
        assert correct(fog, item, 1, NEWER) is CorrectionOutcome.CONFLICT
        assert len(records(fog)) == 1

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
    def test_the_greatest_revision_holds_in_whatever_order_they_come(self, fog, order):
        item = frame(validation=True)
        fog.commit_frames([item])
        fog.finish(item.identity, RecordKind.PACKET, {}, b"packet")
        for revision in order:
            correct(fog, item, revision, dataclasses.replace(NEW, x1=30 + revision))
        with fog.training_view() as view:
            assert view.correction(item.identity).boxes[0].x1 == 33
            assert view.validation_originals(9)[0].boxes[0].x1 == 33

    def test_a_frame_that_the_fog_does_not_have_is_no_conflict(self, fog):
        assert correct(fog, frame(5), 1, NEW) is CorrectionOutcome.UNKNOWN_FRAME
        assert records(fog) == []

    def test_neighbouring_frames_and_epochs_keep_their_labels(self, fog):
        items = [frame(0), frame(1), frame(1, epoch=2**64 - 1)]
        fog.commit_frames(items)
        correct(fog, items[1], LAST_REVISION, NEW)
        with fog.training_view() as view:
            held = [view.correction(item.identity) for item in items]
        assert [c is not None for c in held] == [False, True, False]

    def test_numbers_beyond_the_range_are_refused(self, fog):
        far = frame(LAST_FRAME + 1)
        fog.commit_frames([far, frame(1)])
        for item, revision in ((far, 1), (frame(1), LAST_REVISION + 1), (frame(1), 0)):
            with pytest.raises(StoreError, match="out of range"):
                correct(fog, item, revision, NEW)

    def test_what_changes_in_the_number_of_frames_to_train_on_is_told(self, fog):
        items = [frame(0), frame(1, labelled=False), frame(2, labelled=False, validation=True)]
        fog.commit_frames(items)
        changes = [
            fog.correct(items[0].identity, 1, True, (NEW,)).trainable,
            fog.correct(items[0].identity, 2, False, ()).trainable,
            fog.correct(items[1].identity, 1, True, ()).trainable,
            fog.correct(items[1].identity, 1, True, ()).trainable,
            fog.correct(items[2].identity, 1, True, (NEW,)).trainable,
        ]
        assert changes == [0, -1, 1, 0, 0]
        assert [trainable_change(record.meta) for record in records(fog)] == [0, -1, 1, 0]

    def test_a_validation_frame_stays_one_and_leaves_when_its_labels_are_withdrawn(self, fog):
        item = frame(validation=True)
        fog.commit_frames([item])
        fog.finish(item.identity, RecordKind.PACKET, {}, b"packet")
        correct(fog, item, 1, NEW)
        with fog.training_view() as view:
            (original,) = view.validation_originals(9)
            assert (original.validation, original.boxes) == (True, (NEW,))
            correct(fog, item, 2, labelled=False)
            assert view.validation_originals(9) == []

    def test_the_trainer_follows_corrections_by_position_and_finds_the_packet(self, fog):
        items = [frame(n) for n in range(3)]
        fog.commit_frames(items)
        for item in items:
            fog.finish(item.identity, RecordKind.PACKET, {}, b"packet %d" % item.identity.number)
            correct(fog, item, 1, NEW)
        with fog.training_view() as view:
            first = view.corrections_after(0, 2)
            assert [(position, c.identity.number) for position, c in first] == [(2, 0), (4, 1)]
            assert [c.identity.number for _, c in view.corrections_after(4, 9)] == [2]
            assert view.packet_of(items[1].identity) == b"packet 1"
            assert view.packet_of(frame(9).identity) is None

    def test_many_boxes_are_a_large_payload_like_any(self, fog):
        item = frame()
        fog.commit_frames([item])
        boxes = [Box(n, 0, n + 1, 1, "name " * 20) for n in range(1000)]
        assert correct(fog, item, 1, *boxes) is STORED
        assert records(fog)[0].payload is None
        with fog.training_view() as view:
            assert view.correction(item.identity).boxes == tuple(boxes)


class TestEdge:
    def record(self, edge, *numbers, acknowledged=True, **facts):
        for number in numbers:
            edge.record_frame(f"key {number}", frame(number, **facts), lambda n: False)
        if acknowledged:
            edge.acknowledge(numbers)

    def test_changed_labels_wait_until_the_fog_has_them(self, edge):
        self.record(edge, 0, 1)
        assert edge.correct("key 1", True, (NEW,)) == 1
        (waiting,) = edge.waiting_corrections(9)
        assert waiting == Correction(FrameIdentity(CAMERA, edge.epoch, 1), 1, 64, 48, True, (NEW,))
        edge.settle_correction(1, 1)
        assert edge.waiting_corrections(9) == []

    def test_labels_that_hold_already_are_no_correction(self, edge):
        self.record(edge, 0)
        assert edge.correct("key 0", True, (OLD,)) is None
        edge.correct("key 0", True, (NEW,))
        assert edge.correct("key 0", True, (NEW,)) is None
        assert edge.correct("key 0", True, (OLD,)) == 2, "back to the first labels is a change too"
        assert edge.correct("unknown", True, ()) is None

    def test_only_the_newest_correction_of_a_frame_is_sent_and_its_answer_counts(self, edge):
        self.record(edge, 0)
        edge.correct("key 0", True, (NEW,))
        edge.correct("key 0", True, (NEWER,))
        edge.settle_correction(0, 1)
        assert [c.revision for c in edge.waiting_corrections(9)] == [2]

    def test_a_correction_waits_for_the_acknowledgement_of_its_frame(self, edge):
        self.record(edge, 0, acknowledged=False)
        edge.correct("key 0", True, (NEW,))
        assert edge.waiting_corrections(9) == []
        edge.acknowledge([0])
        assert len(edge.waiting_corrections(9)) == 1

    def test_a_refused_frame_is_not_corrected_and_a_refused_correction_not_sent_again(self, edge):
        self.record(edge, 0, 1, acknowledged=False)
        edge.refuse(0, "bad")
        edge.acknowledge([1])
        assert edge.correct("key 0", True, (NEW,)) is None
        edge.correct("key 1", True, (NEW,))
        edge.settle_correction(1, 1, "unknown class")
        assert edge.waiting_corrections(9) == []

    def test_corrections_are_read_on_by_frame_number(self, edge):
        self.record(edge, *range(5))
        for number in range(5):
            edge.correct(f"key {number}", True, (NEW,))
        assert [c.identity.number for c in edge.waiting_corrections(2)] == [0, 1]
        assert [c.identity.number for c in edge.waiting_corrections(9, 1)] == [2, 3, 4]

    def test_an_own_validation_original_has_the_corrected_boxes_at_once(self, edge):
        edge.record_frame("key", frame(0, validation=True), lambda n: False)
        edge.acknowledge([0])
        edge.correct("key", True, (NEW,))
        with edge.training_view() as view:
            assert view.validation_originals(9)[0].boxes == (NEW,)

    def test_a_fogs_record_reaches_the_trainers_view(self, edge):
        edge.follow(5)
        other = FrameIdentity("o" * 40, 9, 4)
        made = [Correction(other, revision, 64, 48, True, (box,)) for revision, box in ((2, NEWER), (1, NEW))]
        for position, correction in enumerate(made, start=1):
            payload = correction.payload()
            number = correction.record_number
            record = Record(
                position,
                RecordKind.LABELS,
                other.device,
                9,
                number,
                content_digest(payload),
                {},
                len(payload),
                payload,
            )
            edge.apply([record], position)
        with edge.training_view() as view:
            assert view.correction(other).boxes == (NEWER,)
            assert [c.revision for _, c in view.corrections_after(0, 9)] == [2, 1]


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"{}", b"\xff", b'{"width":64,"height":48,"labelled":1,"boxes":[]}',
        b'{"width":64,"height":48,"labelled":false,"boxes":[[0,0,1,1,"a"]]}',
        b'{"width":64,"height":48,"labelled":true,"boxes":[[0,0,1e999,1,"a"]]}',
        b'{"width":64,"height":48,"labelled":true,"boxes":[[1,0,1,1,"a"]]}',
        b'{"width":0,"height":48,"labelled":true,"boxes":[]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_record_that_holds_no_labels_is_one_typed_error(payload):
    record = Record(
        3, RecordKind.LABELS, CAMERA, 7, 65537, content_digest(payload), {}, len(payload), payload
    )
    with pytest.raises(StoreCorruptError, match="record 3 holds no labels"):
        correction_of(record, payload)
