"""Packets and the keyframes that they wait for, in every edge's store."""

import pytest

from common.errors import StoreError
from common.frame import content_digest
from common.store.records import INLINE_LIMIT_BYTES, Keyframe, RecordKind
from common.store.rows import keyframe_facts
from tests.store_items import LAST, image, record


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
