"""What every store promises, checked on each implementation."""

import dataclasses
import hashlib
import threading

import pytest

from common.errors import IdentityConflictError, StoreError, StoreFullError
from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.records import INLINE_LIMIT_BYTES, CommitOutcome, Keyframe, Record, RecordKind
from common.store.rows import keyframe_facts

CAMERA = "c" * 40
OTHER = "o" * 40
FOG = "f" * 40
LAST = 2**64 - 1


def image(seed, size=500):
    """Bytes that differ for each seed."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def frame(number=0, *, device=CAMERA, epoch=LAST, size=500, labelled=True, validation=False, seed=None):
    return Frame(
        name=f"frame{number}",
        image=image((device, number) if seed is None else seed, size),
        width=64,
        height=48,
        labelled=labelled,
        boxes=(Box(-1.5, 2, 30.25, 40, "car"),) if labelled else (),
        identity=FrameIdentity(device, epoch, number),
        validation=validation,
    )


def finish_packet(store, item, payload=None):
    return store.finish(item.identity, RecordKind.PACKET, {}, payload or image(("packet", item.identity)))


class TestFogStore:
    def test_uploads_come_back_whole_and_in_order(self, fog):
        frames = [frame(0), frame(1, labelled=False), frame(2, size=INLINE_LIMIT_BYTES + 1, validation=True)]
        assert fog.commit_frames(frames) == [CommitOutcome.STORED] * 3
        assert [item.frame for item in fog.pending_frames(10)] == frames
        assert fog.pending_count == 3

    def test_the_same_upload_again_is_applied_once(self, fog):
        assert fog.commit_frames([frame(0), frame(0)]) == [CommitOutcome.STORED, CommitOutcome.DUPLICATE]
        assert fog.commit_frames([frame(0)]) == [CommitOutcome.DUPLICATE]
        assert fog.pending_count == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"image": b"other"},
            {"boxes": ()},
            {"labelled": False, "boxes": ()},
            {"validation": True},
            {"width": 65},
        ],
    )
    def test_the_same_identity_with_other_content_is_a_conflict(self, fog, change):
        first = frame(0)
        fog.commit_frames([first])
        assert fog.commit_frames([dataclasses.replace(first, **change), frame(1)]) == [
            CommitOutcome.CONFLICT,
            CommitOutcome.STORED,
        ]
        assert fog.pending_frames(1)[0].frame == first

    def test_a_frame_number_belongs_to_its_device_and_epoch(self, fog):
        frames = [frame(0), frame(0, epoch=1), frame(0, device=OTHER)]
        assert fog.commit_frames(frames) == [CommitOutcome.STORED] * 3

    def test_a_frame_that_is_done_still_conflicts_and_duplicates(self, fog):
        fog.commit_frames([frame(0)])
        finish_packet(fog, fog.pending_frames(1)[0])
        assert fog.commit_frames([frame(0), frame(0, seed="x")]) == [
            CommitOutcome.DUPLICATE,
            CommitOutcome.CONFLICT,
        ]
        assert fog.pending_count == 0

    def test_a_batch_with_a_frame_without_identity_stores_nothing(self, fog):
        with pytest.raises(StoreError, match="no identity"):
            fog.commit_frames([frame(0), dataclasses.replace(frame(1), identity=None)])
        assert fog.pending_count == 0

    def test_pending_frames_are_read_on_by_arrival(self, fog):
        fog.commit_frames([frame(number) for number in range(5)])
        first = fog.pending_frames(2)
        assert [item.identity.number for item in first] == [0, 1]
        assert [
            item.identity.number for item in fog.pending_frames(9, without=[item.arrival for item in first])
        ] == [2, 3, 4]

    def test_finishing_appends_one_record_and_takes_the_frame_off(self, fog):
        fog.commit_frames([frame(0), frame(1)])
        one, two = fog.pending_frames(2)
        assert fog.finish(two.identity, RecordKind.TOMBSTONE, {"reason": "too dark"}, b"") == 1
        assert finish_packet(fog, one, b"packet") == 2
        assert fog.pending_frames(2) == []
        page = fog.read(0, 10, 1 << 20)
        assert [(r.position, r.kind, r.number, r.payload) for r in page.records] == [
            (1, RecordKind.TOMBSTONE, 1, b""),
            (2, RecordKind.PACKET, 0, b"packet"),
        ]
        assert page.records[0].meta == {"reason": "too dark"}
        assert page.records[1].identity == FrameIdentity(CAMERA, LAST, 0)
        assert page.records[1].digest == content_digest(b"packet")

    def test_finishing_again_keeps_the_first_record(self, fog):
        fog.commit_frames([frame(0)])
        item = fog.pending_frames(1)[0]
        assert finish_packet(fog, item, b"first") == finish_packet(fog, item, b"second") == 1
        assert fog.read(0, 10, 100).records[0].payload == b"first"

    def test_only_a_committed_frame_is_finished_and_only_by_a_packet_or_a_tombstone(self, fog):
        with pytest.raises(StoreError, match="never committed"):
            fog.finish(frame(7).identity, RecordKind.PACKET, {}, b"x")
        fog.commit_frames([frame(0)])
        with pytest.raises(StoreError, match="not by weights"):
            fog.finish(frame(0).identity, RecordKind.WEIGHTS, {}, b"x")
        assert fog.last_position == 0

    def test_meta_that_is_no_json_changes_nothing(self, fog):
        fog.commit_frames([frame(0)])
        with pytest.raises(StoreError, match="JSON"):
            fog.finish(frame(0).identity, RecordKind.PACKET, {"x": float("nan")}, b"p")
        assert (fog.last_position, fog.pending_count) == (0, 1)

    def test_weights_are_appended_once(self, fog):
        weights = image("weights", 3 * INLINE_LIMIT_BYTES)
        position = fog.append(RecordKind.WEIGHTS, FOG, 1, 0, {"map50": 0.5}, weights)
        assert fog.append(RecordKind.WEIGHTS, FOG, 1, 0, {"map50": 0.5}, weights) == position
        with pytest.raises(IdentityConflictError, match="another number"):
            fog.append(RecordKind.WEIGHTS, FOG, 1, 0, {}, b"other")
        assert fog.append(RecordKind.WEIGHTS, FOG, 1, 1, {}, b"other") == position + 1

    def test_a_large_payload_is_read_in_parts_by_its_hash(self, fog):
        weights = image("weights", INLINE_LIMIT_BYTES + 1)
        fog.append(RecordKind.WEIGHTS, FOG, 1, 0, {}, weights)
        record = fog.read(0, 10, 1 << 20).records[0]
        assert record.large
        assert record.payload is None
        assert fog.blob_size(record.digest) == record.size == len(weights)
        parts = [fog.blob(record.digest, offset, 30_000) for offset in range(0, len(weights), 30_000)]
        assert b"".join(parts) == weights
        assert fog.blob(record.digest, len(weights), 10) == b""

    def test_content_that_is_not_here_is_a_typed_error(self, fog):
        assert fog.blob_size(bytes(32)) is None
        assert fog.blob_sources(bytes(32)) == frozenset()
        with pytest.raises(StoreError, match="not here"):
            fog.blob(bytes(32), 0, 10)

    @pytest.mark.parametrize("size", [500, INLINE_LIMIT_BYTES + 1])
    def test_originals_stay_for_validation_and_failures_only(self, fog, size):
        frames = [frame(0, size=size), frame(1, size=size, validation=True), frame(2, size=size)]
        fog.commit_frames(frames)
        training, validation, failed = fog.pending_frames(3)
        finish_packet(fog, training)
        finish_packet(fog, validation)
        fog.finish(failed.identity, RecordKind.TOMBSTONE, {"reason": "x"}, b"")
        assert fog.blob_size(frames[0].digest) is None
        assert fog.blob(frames[1].digest, 0, size) == frames[1].image
        assert fog.blob_size(frames[2].digest) == size
        assert fog.blob_sources(frames[1].digest) == {CAMERA}

    def test_two_devices_may_share_content(self, fog):
        size = INLINE_LIMIT_BYTES + 1
        both = [frame(0, seed="same", size=size), frame(0, device=OTHER, seed="same", size=size)]
        fog.commit_frames(both)
        assert fog.blob_sources(both[0].digest) == {CAMERA, OTHER}
        finish_packet(fog, fog.pending_frames(1)[0])
        assert fog.pending_frames(1)[0].frame == both[1]
        finish_packet(fog, fog.pending_frames(1)[0])
        assert fog.blob_size(both[0].digest) is None

    def test_training_originals_stay_when_asked(self, open_fog):
        fog = open_fog(keep_training_originals=True)
        fog.commit_frames([frame(0)])
        finish_packet(fog, fog.pending_frames(1)[0])
        assert fog.blob_size(frame(0).digest) == 500

    def test_a_validation_packet_describes_its_original(self, fog):
        original = frame(0, validation=True)
        fog.commit_frames([original, frame(1)])
        for item in fog.pending_frames(2):
            finish_packet(fog, item)
        one, two = fog.read(0, 10, 1 << 20).records
        assert one.meta["source"]["digest"] == original.digest.hex()
        assert one.meta["source"]["boxes"] == [[-1.5, 2.0, 30.25, 40.0, "car"]]
        assert "source" not in two.meta


class TestFogLog:
    @pytest.fixture
    def filled(self, fog):
        """Ten packets of 500 bytes of two devices in turn, then weights."""
        fog.commit_frames([frame(n, device=CAMERA if n % 2 == 0 else OTHER) for n in range(10)])
        for item in fog.pending_frames(10):
            finish_packet(fog, item)
        fog.append(RecordKind.WEIGHTS, FOG, 0, 0, {}, b"w")
        return fog

    def positions(self, page):
        return [record.position for record in page.records]

    def test_a_reader_goes_on_where_it_stopped(self, filled):
        page = filled.read(0, 4, 1 << 20)
        assert (self.positions(page), page.through, page.more) == ([1, 2, 3, 4], 4, True)
        page = filled.read(page.through, 100, 1 << 20)
        assert (self.positions(page), page.through, page.more) == (list(range(5, 12)), 11, False)
        assert filled.read(11, 100, 1 << 20).records == ()

    def test_bytes_bound_a_page_but_never_stop_the_reader(self, filled):
        assert self.positions(filled.read(0, 100, 1_000)) == [1, 2]
        assert self.positions(filled.read(0, 100, 999)) == [1]
        assert self.positions(filled.read(0, 100, 0)) == [1]

    def test_a_filter_passes_over_what_it_leaves_out(self, filled):
        page = filled.read(0, 100, 1 << 20, devices={OTHER}, kinds={RecordKind.PACKET})
        assert (self.positions(page), page.through) == ([2, 4, 6, 8, 10], 11)
        page = filled.read(0, 2, 1 << 20, devices={OTHER})
        assert (self.positions(page), page.more) == ([2, 4], True)
        rest = filled.read(page.through, 100, 1 << 20, devices={OTHER})
        assert self.positions(rest) == [6, 8, 10]
        assert filled.read(0, 100, 1 << 20, devices=[]).through == 11
        assert self.positions(filled.read(0, 100, 1 << 20, kinds=[RecordKind.WEIGHTS])) == [11]

    def test_a_reader_behind_retention_is_told_what_it_missed(self, filled):
        assert filled.trim(4) == 4
        assert filled.oldest_position == 5
        page = filled.read(1, 3, 1 << 20)
        gap = page.records[0]
        assert (gap.kind, gap.position) == (RecordKind.GAP, 4)
        assert {key: gap.meta[key] for key in ("first", "last", "count")} == {
            "first": 2,
            "last": 4,
            "count": 3,
        }
        assert self.positions(page) == [4, 5, 6]
        assert filled.read(4, 1, 1 << 20).records[0].kind is RecordKind.PACKET

    def test_positions_are_never_reused(self, filled):
        filled.trim(11)
        assert (filled.last_position, filled.oldest_position) == (11, 12)
        assert filled.append(RecordKind.WEIGHTS, FOG, 0, 1, {}, b"w2") == 12
        assert self.positions(filled.read(0, 10, 1 << 20)) == [11, 12]

    def test_threads_share_a_store(self, fog):
        def commit(device):
            for number in range(20):
                fog.commit_frames([frame(number, device=device)])
                identity = FrameIdentity(device, LAST, number)
                positions.append(fog.finish(identity, RecordKind.PACKET, {}, b"p"))

        positions = []
        threads = [threading.Thread(target=commit, args=(name * 40,)) for name in "wxyz"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(positions) == list(range(1, 81))
        assert fog.pending_count == 0

    def test_a_record_is_found_by_its_identity(self, filled):
        assert filled.has_record(RecordKind.PACKET, FrameIdentity(CAMERA, LAST, 0))
        assert not filled.has_record(RecordKind.TOMBSTONE, FrameIdentity(CAMERA, LAST, 0))

    def test_the_trainer_reads_packets_weights_and_originals(self, fog):
        fog.commit_frames(
            [
                frame(0),
                frame(1, validation=True),
                frame(2, validation=True, size=INLINE_LIMIT_BYTES + 1),
                frame(3, validation=True, labelled=False),
            ]
        )
        for item in fog.pending_frames(10):
            finish_packet(fog, item, image(item.identity.number, 1_000))
        fog.append(RecordKind.WEIGHTS, FOG, 0, 0, {}, b"old")
        fog.append(RecordKind.WEIGHTS, FOG, 0, 1, {"x": 1}, image("w", INLINE_LIMIT_BYTES + 1))
        with fog.training_view() as view:
            assert view.packets_after(0, 2) == [(1, image(0, 1_000)), (2, image(1, 1_000))]
            assert [place for place, _ in view.packets_after(2, 10)] == [3, 4]
            assert [place for place, _ in view.packets_after(0, 10, max_bytes=2_500)] == [1, 2]
            assert [f.identity.number for f in view.validation_originals(10)] == [2, 1]
            assert view.validation_originals(1)[0].image == image((CAMERA, 2), INLINE_LIMIT_BYTES + 1)
            record, weights = view.latest_weights()
            assert (record.number, record.meta) == (1, {"x": 1})
            assert weights == image("w", INLINE_LIMIT_BYTES + 1)
            assert view.last_position == fog.last_position == 6
            assert view.damaged == ()

    def test_a_closed_store_says_so(self, fog):
        fog.close()
        with pytest.raises(StoreError, match="closed"):
            fog.commit_frames([frame(0)])

    def test_a_keyframe_stays_as_long_as_a_kept_packet_refers_to_it(self, fog):
        payloads = {number: image(("packet", number), 500 + number) for number in range(6)}
        fog.commit_frames([frame(number) for number in payloads])
        for number, payload in payloads.items():
            keyframe = payloads[1] if number in (2, 4) else payloads[5] if number == 3 else None
            meta = {"keyframe": keyframe_facts(Keyframe(content_digest(keyframe), 501))} if keyframe else {}
            fog.finish(FrameIdentity(CAMERA, LAST, number), RecordKind.PACKET, meta, payload)
        assert fog.trim(3) == 2
        keyframe = content_digest(payloads[1])
        assert fog.blob(keyframe, 0, 1000) == payloads[1]
        assert fog.blob_sources(keyframe) == {CAMERA}
        with fog.training_view() as view:
            assert view.packet(keyframe) == payloads[1]
        assert fog.blob_size(content_digest(payloads[0])) is None
        gap, *kept = fog.read(0, 10, 1 << 20).records
        assert (gap.kind, gap.position) == (RecordKind.GAP, 3)
        assert [item.position for item in kept] == [4, 5, 6], "it is to be had by its hash only"
        assert (fog.oldest_position, fog.last_position) == (4, 6)
        # The last packet that refers to it goes, and takes it along.
        assert fog.trim(5) == 3
        assert fog.blob_size(keyframe) is None

    def test_a_packet_is_found_by_its_hash(self, fog):
        fog.commit_frames([frame(0)])
        finish_packet(fog, frame(0), b"packet")
        with fog.training_view() as view:
            assert view.packet(content_digest(b"packet")) == b"packet"
            assert view.packet(content_digest(b"another")) is None


def never(number):
    return False


def record(position, *, number=None, kind=RecordKind.PACKET, device=OTHER, payload=b"packet", meta=None):
    return Record(
        position,
        kind,
        device,
        LAST,
        position if number is None else number,
        content_digest(payload),
        meta or {},
        len(payload),
        payload,
    )


def source_meta(original):
    """What a fog says about a validation frame."""
    return {
        "source": {
            "digest": original.digest.hex(),
            "size": len(original.image),
            "name": original.name,
            "width": original.width,
            "height": original.height,
            "labelled": original.labelled,
            "validation": original.validation,
            "boxes": [[b.x0, b.y0, b.x1, b.y1, b.name] for b in original.boxes],
        }
    }


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


def needing(keyframe, size=None):
    """Meta of a packet that refers to the packet of these bytes."""
    return {"keyframe": keyframe_facts(Keyframe(content_digest(keyframe), size or len(keyframe)))}


def usable(store):
    """Payloads as the trainer meets them, and the numbers as whoever counts meets them."""
    with store.training_view() as view:
        packets = view.packets_after(0, 100)
    counted = store.records(0, 100, (RecordKind.PACKET,))
    assert [place for place, _ in packets] == [place for place, _ in counted]
    return [payload for _, payload in packets]


class TestKeyframes:
    def test_a_packet_behind_its_keyframe_is_usable_at_once(self, edge):
        edge.follow(1)
        result = edge.apply([record(1, payload=b"key"), record(2, payload=b"p", meta=needing(b"key"))], 2)
        assert (result.applied, result.waiting) == (2, 0)
        assert usable(edge) == [b"key", b"p"]
        assert edge.wanted_keyframes(10) == []

    def test_a_packet_without_its_keyframe_is_stored_and_waits(self, edge):
        edge.follow(1)
        result = edge.apply([record(1, payload=b"p", meta=needing(b"key")), record(2, payload=b"other")], 2)
        assert (result.applied, result.waiting) == (2, 1)
        assert usable(edge) == [b"other"]
        assert edge.wanted_keyframes(10) == [Keyframe(content_digest(b"key"), 3)]
        assert edge.waiting_packets == 1
        assert (edge.count(RecordKind.PACKET), edge.position) == (2, 2)

    @pytest.mark.parametrize("size", [3, INLINE_LIMIT_BYTES + 1])
    def test_a_fetched_keyframe_makes_what_waited_for_it_the_newest(self, edge, size):
        keyframe = image("key", size)
        edge.follow(1)
        waiting = [record(n, payload=bytes([n]), meta=needing(keyframe)) for n in (1, 2)]
        edge.apply([*waiting, record(3, payload=b"other")], 3)
        with edge.training_view() as view:
            ((seen, _),) = view.packets_after(0, 100)
        assert edge.store_keyframe(content_digest(keyframe), keyframe) == 2
        assert usable(edge) == [b"other", b"\x01", b"\x02"]
        with edge.training_view() as view:
            assert [data for _, data in view.packets_after(seen, 100)] == [b"\x01", b"\x02"]
            assert view.packet(content_digest(keyframe)) == keyframe
            assert view.last_position == edge.inbox_position
        assert (edge.waiting_packets, edge.wanted_keyframes(10)) == (0, [])
        assert edge.has_blob(content_digest(keyframe))
        # Later records come behind them.
        edge.apply([record(4, payload=b"later"), record(5, payload=b"p", meta=needing(keyframe))], 5)
        assert usable(edge) == [b"other", b"\x01", b"\x02", b"later", b"p"]

    def test_a_keyframe_that_comes_as_a_record_frees_what_waits_too(self, edge):
        edge.follow(1)
        edge.apply([record(1, payload=b"p", meta=needing(b"key"))], 1)
        assert edge.apply([record(2, payload=b"key")], 2).waiting == 0
        assert usable(edge) == [b"key", b"p"]
        assert edge.waiting_packets == 0

    def test_a_keyframe_is_kept_once_and_each_packet_freed_once(self, edge):
        edge.follow(1)
        edge.apply([record(1, payload=b"p", meta=needing(b"key"))], 1)
        digest = content_digest(b"key")
        assert [edge.store_keyframe(digest, b"key") for _ in range(2)] == [1, 0]
        edge.apply([record(2, payload=b"key"), record(1, payload=b"p", meta=needing(b"key"))], 2)
        assert usable(edge) == [b"p", b"key"]

    def test_bytes_of_another_hash_are_no_keyframe(self, edge):
        with pytest.raises(StoreError, match="fetch it again"):
            edge.store_keyframe(content_digest(b"key"), b"yek")
        assert not edge.has_blob(content_digest(b"key"))

    def test_one_keyframe_of_many_packets_is_wanted_once_and_the_newest_first(self, edge):
        edge.follow(1)
        metas = [needing(b"a"), needing(b"b"), needing(b"a"), needing(b"c"), needing(b"b")]
        edge.apply([record(n, payload=bytes([n]), meta=m) for n, m in enumerate(metas, start=1)], 5)
        wanted = [content_digest(name) for name in (b"b", b"c", b"a")]
        assert [entry.digest for entry in edge.wanted_keyframes(10)] == wanted
        assert len(edge.wanted_keyframes(2)) == 2

    def test_keyframes_are_wanted_of_the_log_whose_packets_wait_for_them(self, edge):
        for log, name in ((1, b"a"), (LAST, b"b")):
            edge.follow(log)
            edge.apply([record(3, number=log, payload=name * 2, meta=needing(name))], 3, log)
        for log, name in ((1, b"a"), (LAST, b"b")):
            assert [entry.digest for entry in edge.wanted_keyframes(10, log)] == [content_digest(name)]

    @pytest.mark.parametrize(
        "entry",
        [
            7,
            {},
            {"digest": "zz", "size": 3},
            {"digest": "00" * 31, "size": 3},
            {"digest": "00" * 32, "size": -1},
        ],
    )
    def test_a_meta_that_names_no_keyframe_soundly_names_none(self, edge, entry):
        edge.follow(1)
        assert edge.apply([record(1, payload=b"p", meta={"keyframe": entry})], 1).waiting == 0
        assert edge.wanted_keyframes(10) == []
