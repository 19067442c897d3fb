"""What every fog's store promises, checked on each implementation."""

import dataclasses
import threading

import pytest

from common.errors import IdentityConflictError, StoreError
from common.frame import FrameIdentity, content_digest
from common.store.records import INLINE_LIMIT_BYTES, CommitOutcome, Keyframe, RecordKind
from common.store.rows import keyframe_facts
from tests.store_items import (
    CAMERA,
    FOG,
    LAST,
    OTHER,
    finish_packet,
    frame,
    image,
)


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
        # Further than any file system reaches, too: a peer may ask for that.
        assert fog.blob(record.digest, 2**63 - 1, 10) == b""

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
