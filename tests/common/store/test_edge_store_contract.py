"""What every edge's store promises, checked on each implementation."""

import dataclasses

import pytest

from common.errors import StoreError, StoreFullError
from common.frame import FrameIdentity, content_digest
from common.store.records import INLINE_LIMIT_BYTES, Record, RecordKind
from tests.store_items import (
    CAMERA,
    FOG,
    LAST,
    OTHER,
    frame,
    image,
    never,
    record,
    source_meta,
)


class TestOutbox:
    def test_frames_get_numbers_and_an_identity(self, edge):
        assert [edge.record_frame(f"key{n}", frame(n), never) for n in range(3)] == [0, 1, 2]
        expected = [
            dataclasses.replace(frame(n), identity=FrameIdentity(CAMERA, edge.epoch, n)) for n in range(3)
        ]
        assert edge.unacknowledged(10, 1 << 20) == expected
        assert edge.unacknowledged(1, 1 << 20) == expected[:1]
        assert edge.unacknowledged(10, 1_000) == expected[:2]
        assert edge.unacknowledged(10, 1) == expected[:1]
        assert edge.unacknowledged(10, 1 << 20, without=(0, 1)) == expected[2:]

    def test_a_source_key_is_recorded_once(self, edge):
        assert edge.recorded("key") is None
        assert edge.record_frame("key", frame(0)) == edge.record_frame("key", frame(1)) == 0
        assert edge.recorded("key") == 0
        edge.acknowledge([0])
        assert edge.record_frame("key", frame(0)) == 0
        assert edge.outbox_state().recorded == 1

    def test_any_file_name_is_a_source_key(self, edge):
        odd = "caf\udce9.jpg"
        edge.record_frame(odd, dataclasses.replace(frame(0), name=odd), never)
        assert edge.recorded(odd) == 0
        assert edge.unacknowledged(1, 1 << 20)[0].name == odd

    def test_contiguous_blocks_are_marked_validation(self, edge):
        for number in range(12):
            edge.record_frame(str(number), frame(number), lambda n: n % 10 >= 8)
        marks = [f.validation for f in edge.unacknowledged(100, 1 << 20)]
        assert marks == [False] * 8 + [True] * 2 + [False] * 2

    def test_a_mark_of_the_source_stays(self, edge):
        edge.record_frame("key", frame(0, validation=True), never)
        assert edge.unacknowledged(1, 1 << 20)[0].validation

    def test_acknowledged_and_refused_frames_are_done(self, edge):
        for number in range(4):
            edge.record_frame(str(number), frame(number), never)
        edge.acknowledge([0, 2, 2, 77])
        edge.refuse(1, "a box is no region")
        edge.refuse(0, "too late")
        assert [f.identity.number for f in edge.unacknowledged(10, 1 << 20)] == [3]
        assert edge.refused() == [(1, "a box is no region")]
        state = edge.outbox_state()
        assert (state.recorded, state.waiting, state.waiting_bytes) == (4, 1, 500)
        assert (state.acknowledged, state.refused) == (2, 1)

    def test_a_full_outbox_makes_the_recorder_wait(self, open_edge):
        edge = open_edge(max_outbox_frames=2)
        edge.record_frame("a", frame(0))
        edge.record_frame("b", frame(1))
        with pytest.raises(StoreFullError, match="max_outbox_frames"):
            edge.record_frame("c", frame(2))
        assert edge.record_frame("b", frame(1)) == 1
        edge.acknowledge([0])
        assert edge.record_frame("c", frame(2)) == 2

    def test_bytes_bound_the_outbox_but_one_frame_always_fits(self, open_edge):
        edge = open_edge(max_outbox_bytes=1 << 20)
        edge.record_frame("a", frame(0, size=(1 << 20) + 1))
        with pytest.raises(StoreFullError, match="max_outbox_bytes"):
            edge.record_frame("b", frame(1))

    def test_own_validation_originals_stay_after_the_acknowledgement(self, edge):
        big = INLINE_LIMIT_BYTES + 1
        frames = [
            frame(0),
            frame(1, validation=True),
            frame(2, validation=True, size=big),
            frame(3, size=big),
        ]
        for item in frames:
            edge.record_frame(item.name, item, never)
        edge.acknowledge(range(4))
        assert [edge.has_blob(item.digest) for item in frames] == [False, True, True, False]
        originals = edge.training_view().validation_originals(10)
        assert [(f.identity.number, f.image) for f in originals] == [
            (2, frames[2].image),
            (1, frames[1].image),
        ]


class TestInbox:
    def test_records_and_position_are_stored_together(self, edge):
        assert (edge.log_id, edge.position) == (None, 0)
        assert edge.follow(LAST) == 0
        result = edge.apply([record(1), record(4, kind=RecordKind.TOMBSTONE, payload=b"")], 9)
        assert (result.applied, result.duplicates, result.conflicts) == (2, 0, ())
        assert (edge.log_id, edge.position, edge.inbox_position) == (LAST, 9, 2)
        assert edge.count(RecordKind.PACKET) == edge.count(RecordKind.TOMBSTONE) == 1
        assert edge.records(0, 10) == [
            (1, dataclasses.replace(record(1), payload=None)),
            (2, dataclasses.replace(record(4, kind=RecordKind.TOMBSTONE, payload=b""), payload=None)),
        ]
        assert [place for place, _ in edge.records(0, 10, kinds=[RecordKind.TOMBSTONE])] == [2]

    def test_a_record_is_stored_exactly_once(self, edge):
        edge.apply([record(1), record(2)], 2)
        result = edge.apply([record(2), record(2), record(3)], 3)
        assert (result.applied, result.duplicates) == (1, 2)
        assert edge.count(RecordKind.PACKET) == 3

    def test_other_content_for_a_held_identity_is_reported_and_not_stored(self, edge):
        edge.apply([record(1)], 1)
        result = edge.apply([record(2, number=1, payload=b"other")], 2)
        assert result.conflicts == (FrameIdentity(OTHER, LAST, 1),)
        assert edge.training_view().packets_after(0, 10) == [(1, b"packet")]
        assert edge.position == 2

    def test_a_bad_record_stores_nothing_of_its_batch(self, edge):
        bad = dataclasses.replace(record(2), payload=b"damage")
        with pytest.raises(StoreError, match="does not match"):
            edge.apply([record(1), bad], 2)
        assert (edge.position, edge.inbox_position) == (0, 0)

    def test_the_position_never_goes_back(self, edge):
        edge.apply([], 5)
        edge.apply([record(1)], 1)
        assert edge.position == 5

    def test_another_log_starts_from_its_beginning(self, edge):
        edge.follow(1)
        edge.apply([record(1)], 7)
        assert edge.follow(1) == 7
        assert edge.follow(2) == 0
        assert edge.apply([record(1)], 1).duplicates == 1
        assert edge.count(RecordKind.PACKET) == 1

    def test_each_log_has_a_position_of_its_own(self, edge):
        for log in (1, LAST):
            assert edge.follow(log) == 0
        edge.apply([record(5)], 5, 1)
        edge.apply([record(2)], 2, LAST)
        edge.apply([], 1, LAST)
        assert edge.positions == {1: 5, LAST: 2}
        assert [edge.follow(log) for log in (1, LAST)] == [5, 2]
        assert (edge.log_id, edge.position) == (LAST, 2)

    def test_a_frame_that_two_fogs_encoded_is_stored_once_as_it_came_first(self, edge):
        edge.follow(1)
        edge.follow(2)
        edge.apply([record(1)], 1, 1)
        other = edge.apply([record(4, number=1, payload=b"encoded there too")], 4, 2)
        assert (other.applied, other.duplicates, other.conflicts) == (0, 1, ())
        assert edge.training_view().packets_after(0, 10) == [(1, b"packet")]
        assert edge.positions == {1: 1, 2: 4}

    def test_originals_are_wanted_of_the_log_whose_record_names_them(self, edge):
        originals = [frame(n, device=OTHER, validation=True) for n in range(2)]
        for log, original in zip((1, LAST), originals, strict=True):
            edge.follow(log)
            edge.apply([record(7, number=log, meta=source_meta(original))], 7, log)
        for log, original in zip((1, LAST), originals, strict=True):
            assert [entry.digest for entry in edge.wanted_originals(10, log)] == [original.digest]
        assert len(edge.wanted_originals(10)) == 2

    def test_a_large_payload_is_adopted_from_a_file_before_its_record(self, edge):
        weights = image("weights", INLINE_LIMIT_BYTES + 1)
        large = dataclasses.replace(
            record(1, kind=RecordKind.WEIGHTS, device=FOG, payload=weights), payload=None
        )
        with pytest.raises(StoreError, match="fetch it first"):
            edge.apply([large], 1)
        assert edge.position == 0
        part = edge.incoming_folder / "part"
        part.write_bytes(weights)
        edge.adopt_blob(large.digest, part)
        assert edge.has_blob(large.digest)
        assert not part.exists()
        assert edge.apply([large], 1).applied == 1
        assert edge.training_view().latest_weights() == (large, weights)

    def test_a_file_with_other_content_is_not_adopted(self, edge):
        part = edge.incoming_folder / "part"
        part.write_bytes(b"other")
        with pytest.raises(StoreError, match="content hash"):
            edge.adopt_blob(content_digest(b"wanted"), part)

    def test_gaps_are_kept(self, edge):
        gap = Record.gap(5, 2, 4, "behind retention")
        assert edge.apply([gap, record(5)], 5).applied == 2
        assert edge.apply([gap], 5).duplicates == 1
        assert edge.records(0, 10, kinds=[RecordKind.GAP])[0][1].meta["count"] == 3

    def test_originals_of_validation_packets_are_wanted_until_they_are_here(self, edge):
        originals = [
            frame(n, device=OTHER, validation=True, size=n * 70_000 + 100, labelled=n < 3) for n in range(4)
        ]
        edge.apply(
            [record(n + 1, number=n, meta=source_meta(originals[n])) for n in range(4)] + [record(5)], 5
        )
        assert [o.digest for o in edge.wanted_originals(10)] == [originals[n].digest for n in (2, 1, 0)]
        assert edge.wanted_originals(1)[0].size == len(originals[2].image)
        with pytest.raises(StoreError, match="content hash"):
            edge.store_original(originals[1].digest, b"other")
        for n in (1, 2):
            edge.store_original(originals[n].digest, originals[n].image)
            edge.store_original(originals[n].digest, originals[n].image)
        assert [o.digest for o in edge.wanted_originals(10)] == [originals[0].digest]
        assert edge.original_count() == 2
        assert edge.training_view().validation_originals(10) == [originals[2], originals[1]]

    def test_own_originals_are_not_fetched(self, edge):
        own = frame(0, validation=True)
        edge.record_frame("key", own, never)
        edge.acknowledge([0])
        edge.apply([record(1, device=CAMERA, meta=source_meta(own))], 1)
        assert edge.wanted_originals(10) == []
        assert len(edge.training_view().validation_originals(10)) == 1

    def test_an_original_that_was_an_own_training_frame_is_fetched(self, edge):
        own = frame(0, seed=7)
        edge.record_frame("key", own, never)
        edge.acknowledge([0])
        theirs = frame(0, device=OTHER, validation=True, seed=7)
        assert theirs.digest == own.digest
        edge.apply([record(1, meta=source_meta(theirs))], 1)
        assert [o.digest for o in edge.wanted_originals(10)] == [theirs.digest]

    def test_own_and_fetched_originals_come_in_turn(self, edge):
        for n in range(3):
            edge.record_frame(str(n), frame(n, validation=True), never)
        fetched = frame(9, device=OTHER, validation=True)
        edge.apply([record(1, meta=source_meta(fetched))], 1)
        edge.store_original(fetched.digest, fetched.image)
        devices = [f.identity.device for f in edge.training_view().validation_originals(3)]
        assert devices == [CAMERA, OTHER, CAMERA]

    @pytest.mark.parametrize(
        "damage",
        [
            {"digest": "zz"},
            {"digest": "00"},
            {"size": -1},
            {"size": "5"},
            {"width": 0},
            {"boxes": [[0, 0, float(2**70), 1]]},
            {"boxes": [[5, 5, 1, 1, "car"]]},
            {"boxes": "text"},
            {"labelled": "yes"},
            {"name": None},
        ],
    )
    def test_a_nonsensical_description_of_an_original_is_ignored(self, edge, damage):
        meta = source_meta(frame(0, validation=True))
        meta["source"].update(damage)
        assert edge.apply([record(1, meta=meta)], 1).applied == 1
        assert edge.wanted_originals(10) == []

    def test_a_closed_store_says_so(self, edge):
        edge.close()
        with pytest.raises(StoreError, match="closed"):
            edge.record_frame("key", frame(0))
