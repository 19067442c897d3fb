"""What the stores keep, for how long, what they do when that is full, and what they never drop."""

import dataclasses
import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import StoreFullError
from common.frame import Frame, FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store
from common.store.records import INLINE_LIMIT_BYTES, CommitOutcome, Keyframe, Record, RecordKind
from common.store.retention import Entry, Retention, Usage
from common.store.rows import keyframe_facts, source_facts
from common.store.settings import EdgeStoreSettings, FogStoreSettings, RetentionSettings

CAMERA, OTHER = "c" * 40, "o" * 40
DAY = 86_400.0
LOG = 9


def image(seed, size):
    return hashlib.shake_128(str(seed).encode()).digest(size)


def frame(number, size=500, validation=False, device=CAMERA):
    picture = image((device, number), size)
    identity = FrameIdentity(device, 1, number)
    return Frame(f"frame{number}", picture, 64, 48, True, (), identity, validation)


def finish(fog, size=1000, meta=None):
    """A packet for every frame that waits."""
    for item in fog.pending_frames(1000):
        fog.finish(item.identity, RecordKind.PACKET, meta or {}, image(("packet", item.identity), size))


def filled(fog, count, size=1000, first=0, image_size=500, validation=False):
    fog.commit_frames([frame(number, image_size, validation) for number in range(first, first + count)])
    finish(fog, size)
    return fog


def packet(position, size=1000, meta=None, payload=None):
    payload = image(position, size) if payload is None else payload
    digest = content_digest(payload)
    return Record(position, RecordKind.PACKET, OTHER, 1, position, digest, meta or {}, len(payload), payload)


def all_batches(store, now=None):
    """Retention until there is nothing more to drop; how many records went."""
    gone = 0
    for _ in range(1000):
        dropped = store.retain(time.time() if now is None else now)
        gone += dropped.records
        if not dropped.more:
            return gone
    raise AssertionError("retention never ends")


def positions(fog, after=0):
    page = fog.read(after, 1000, 1 << 30)
    return [(record.kind.value, record.position) for record in page.records]


def kept(edge):
    return [record.number for _, record in edge.records(0, 1000)]


# The policy


entries = st.lists(
    st.tuples(st.floats(0, 1e6), st.integers(0, 10_000)).map(lambda pair: (pair[0], pair[1])), max_size=40
)


@given(
    entries,
    st.none() | st.integers(1 << 16, 1 << 18),
    st.none() | st.integers(1, 50),
    st.none() | st.floats(1, 1e6),
    st.sampled_from(["refuse", "drop_oldest"]),
    st.integers(0, 20_000),
)
def test_the_fewest_oldest_go_that_meet_every_limit(rows, size, count, age, when_full, shortage):
    oldest = [Entry(place, *row) for place, row in enumerate(rows, start=1)]
    usage = Usage(len(oldest), sum(entry.size for entry in oldest))
    settings = RetentionSettings(max_bytes=size, max_records=count, max_age_s=age, when_full=when_full)
    through = Retention(settings, "log").through(oldest, usage, 1e6, shortage) or 0
    rest = oldest[through:]

    def within(records):
        young = not records or age is None or 1e6 - records[0].time <= age
        total = sum(entry.size for entry in records)
        freed = usage.record_bytes - total
        fits = when_full == "refuse" or (
            (size is None or total <= size)
            and (count is None or len(records) <= count)
            and (freed >= shortage or not records)
        )
        return young and fits

    assert within(rest)
    assert through == 0 or not within(oldest[through - 1 :])


def test_the_policy_looks_at_one_batch_at_a_time():
    oldest = [Entry(place, 0.0, 1) for place in range(1, 21)]
    policy = Retention(RetentionSettings(max_age_s=1, batch_records=7), "log")
    assert policy.through(oldest, Usage(20, 20), 100.0) == 7


# The fog's log


def test_nothing_is_dropped_by_default(open_fog):
    fog = filled(open_fog(), 20)
    assert all_batches(fog, time.time() + 1000 * DAY) == 0
    assert fog.full is None


def test_old_records_go_and_a_reader_behind_is_told(open_fog):
    fog = filled(open_fog(retention={"max_age_s": DAY}), 5)
    assert all_batches(fog) == 0
    assert all_batches(fog, time.time() + DAY + 5) == 5
    filled(fog, 2, first=5)
    assert positions(fog) == [("gap", 5), ("packet", 6), ("packet", 7)]
    gap = fog.read(2, 1, 1 << 20).records[0]
    assert {key: gap.meta[key] for key in ("first", "last", "count")} == {"first": 3, "last": 5, "count": 3}


def test_the_oldest_make_room_by_count_and_by_bytes(open_fog):
    fog = filled(open_fog(retention={"max_records": 4, "when_full": "drop_oldest"}), 10)
    assert all_batches(fog) == 6
    assert positions(fog) == [("gap", 6), *(("packet", n) for n in range(7, 11))]
    assert fog.usage.records == 4


def test_bytes_count_files_too(open_fog):
    limit = 3 * INLINE_LIMIT_BYTES
    fog = filled(
        open_fog(retention={"max_bytes": limit, "when_full": "drop_oldest"}), 5, INLINE_LIMIT_BYTES + 1
    )
    records = fog.read(0, 100, 1 << 30).records
    assert all_batches(fog) == 3
    assert fog.usage.record_bytes == 2 * (INLINE_LIMIT_BYTES + 1)
    assert [fog.blob_size(record.digest) is None for record in records] == [True] * 3 + [False] * 2


def test_a_batch_is_bounded_and_says_that_there_is_more(open_fog):
    settings = {"max_records": 1, "when_full": "drop_oldest", "batch_records": 3}
    fog = filled(open_fog(retention=settings), 8)
    steps = [fog.retain(time.time()) for _ in range(3)]
    assert [(step.records, step.record_bytes, step.more) for step in steps] == [
        (3, 3000, True),
        (3, 3000, True),
        (1, 1000, False),
    ]


def test_a_full_log_refuses_uploads_until_there_is_room(open_fog):
    fog = filled(open_fog(retention={"max_records": 3, "max_age_s": DAY}), 3)
    sentence = r"the log is full: it holds 3 records .*retention.max_records \(3\)"
    with pytest.raises(StoreFullError, match=sentence) as caught:
        fog.commit_frames([frame(3)])
    assert "\n" not in str(caught.value)
    assert (fog.full is not None, fog.pending_count) == (True, 0)
    assert all_batches(fog) == 0, "refusing drops nothing"
    assert fog.commit_frames([frame(0)]) == [CommitOutcome.DUPLICATE], "what is known is acknowledged again"
    all_batches(fog, time.time() + DAY + 5)
    assert fog.full is None
    assert fog.commit_frames([frame(3)]) == [CommitOutcome.STORED]


def test_frames_that_wait_count_as_the_records_that_they_will_be(open_fog):
    fog = open_fog(retention={"max_records": 3})
    assert fog.commit_frames([frame(n) for n in range(3)]) == [CommitOutcome.STORED] * 3
    with pytest.raises(StoreFullError):
        fog.commit_frames([frame(3)])
    finish(fog)
    assert fog.usage.records == 3


def test_a_log_full_by_bytes_finishes_what_was_accepted(open_fog):
    fog = open_fog(retention={"max_bytes": 1 << 16})
    fog.commit_frames([frame(n) for n in range(10)])
    finish(fog, 10_000)
    assert fog.usage.record_bytes == 100_000
    with pytest.raises(StoreFullError, match="max_bytes"):
        fog.commit_frames([frame(10)])


def test_frames_that_wait_are_never_dropped(open_fog):
    limits = {"max_records": 1, "max_age_s": 1, "max_original_bytes": 0, "when_full": "drop_oldest"}
    fog = open_fog(retention=limits)
    frames = [frame(n, validation=n % 2 == 0) for n in range(6)]
    fog.commit_frames(frames)
    assert all_batches(fog, time.time() + DAY) == 0
    assert [item.frame for item in fog.pending_frames(10)] == frames


def test_a_keyframe_stays_as_long_as_a_kept_packet_refers_to_it(open_fog):
    fog = open_fog(retention={"max_records": 1, "when_full": "drop_oldest"})
    fog.commit_frames([frame(n) for n in range(4)])
    key = image("key", 300)
    fog.finish(frame(0).identity, RecordKind.PACKET, {}, key)
    meta = {"keyframe": keyframe_facts(Keyframe(content_digest(key), 300))}
    for n in (1, 2):
        fog.finish(frame(n).identity, RecordKind.PACKET, meta, image(n, 300))
    all_batches(fog)
    assert positions(fog) == [("gap", 2), ("packet", 3)]
    assert fog.blob_size(content_digest(key)) == 300
    fog.finish(frame(3).identity, RecordKind.PACKET, {}, image(3, 300))
    all_batches(fog)
    assert fog.blob_size(content_digest(key)) is None
    assert fog.usage.records == 1


def test_originals_go_with_their_records(open_fog):
    fog = filled(open_fog(retention={"max_records": 1, "when_full": "drop_oldest"}), 3, validation=True)
    assert fog.usage.original_bytes == 1500
    all_batches(fog)
    assert fog.usage.original_bytes == 500
    assert [fog.blob_size(frame(n).digest) for n in range(3)] == [None, None, 500]
    with fog.training_view() as view:
        assert [f.name for f in view.validation_originals(9)] == ["frame2"]


@pytest.mark.parametrize("size", [500, INLINE_LIMIT_BYTES + 1])
def test_originals_have_a_bound_of_their_own(open_fog, size):
    fog = filled(open_fog(retention={"max_original_bytes": 2 * size}), 5, validation=True, image_size=size)
    assert fog.retain(time.time()).originals == 3
    assert [fog.blob_size(frame(n, size).digest) for n in range(5)] == [None] * 3 + [size] * 2
    assert len(positions(fog)) == 5
    assert fog.commit_frames([frame(0, size, True)]) == [CommitOutcome.DUPLICATE]


def test_what_is_held_is_known_after_a_restart(tmp_path):
    settings = FogStoreSettings(retention={"max_records": 4, "when_full": "drop_oldest"})
    with open_fog_store(tmp_path, settings) as fog:
        filled(fog, 6, validation=True)
        fog.append(RecordKind.WEIGHTS, OTHER, 1, 0, {}, image("w", INLINE_LIMIT_BYTES + 1))
        all_batches(fog)
        usage = fog.usage
    with open_fog_store(tmp_path, settings) as fog:
        assert fog.usage == usage
        assert (usage.records, usage.original_bytes) == (4, 1500)


def test_a_short_disk_is_a_full_log(tmp_path, monkeypatch):
    free = 300 << 20
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    settings = FogStoreSettings(retention={"when_full": "drop_oldest"})
    with open_fog_store(tmp_path, settings) as fog:
        filled(fog, 20, 50_000)
        assert all_batches(fog) == 0
        free = (264 << 20) - 500_000
        with fog._database.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            gone = all_batches(fog)
            assert 9 <= gone <= 12, "as many as the disk lacks, and not all"
            assert connection.execute("PRAGMA page_count").fetchone()[0] < pages - 50
        assert fog.commit_frames([frame(100)]) == [CommitOutcome.STORED]


def test_the_oldest_make_room_in_a_database_of_bounded_size(tmp_path):
    settings = FogStoreSettings(
        max_database_bytes=1 << 20, min_free_bytes=0, retention={"when_full": "drop_oldest"}
    )
    with open_fog_store(tmp_path, settings) as fog:
        for number in range(100):
            try:
                filled(fog, 1, 40_000, first=number)
            except StoreFullError:
                assert all_batches(fog) > 0
                filled(fog, 1, 40_000, first=number)
        assert fog.last_position == 100
        assert fog.oldest_position > 70


# The edge


def test_an_edge_drops_its_oldest_packets_and_stays_exactly_once(open_edge):
    edge = open_edge(retention={"max_records": 3, "when_full": "drop_oldest"})
    edge.follow(LOG)
    edge.apply([packet(n) for n in range(1, 9)], 8)
    assert all_batches(edge) == 5
    assert kept(edge) == [6, 7, 8]
    assert (edge.count(RecordKind.PACKET), edge.usage.records, edge.inbox_position) == (8, 3, 8)
    # Another log, such as that of a fog set up anew, brings them all again.
    edge.follow(LOG + 1)
    again = edge.apply([packet(n) for n in range(1, 10)], 9)
    assert (again.applied, again.duplicates, again.conflicts) == (1, 8, ())
    conflict = dataclasses.replace(packet(1), payload=b"x", digest=content_digest(b"x"), size=1)
    assert edge.apply([conflict], 9, LOG).conflicts == (conflict.identity,)
    with edge.training_view() as view:
        assert [place for place, _ in view.packets_after(0, 100)] == [6, 7, 8, 9]


def test_an_edge_drops_old_packets_but_never_the_newest(open_edge):
    edge = open_edge(retention={"max_age_s": DAY})
    edge.follow(LOG)
    edge.apply([packet(n) for n in range(1, 4)], 3)
    assert all_batches(edge) == 0
    assert all_batches(edge, time.time() + 2 * DAY) == 2
    assert kept(edge) == [3]
    edge.apply([packet(4)], 4)
    assert [place for place, _ in edge.records(3, 10)] == [4]


def test_a_full_inbox_refuses_and_goes_on_with_room(open_edge):
    edge = open_edge(retention={"max_records": 3, "max_age_s": DAY})
    edge.follow(LOG)
    edge.apply([packet(n) for n in range(1, 4)], 3)
    with pytest.raises(StoreFullError, match="the inbox is full"):
        edge.apply([packet(4)], 4)
    assert (edge.position, kept(edge)) == (3, [1, 2, 3])
    assert edge.apply([packet(3)], 3).duplicates == 1
    all_batches(edge, time.time() + 2 * DAY)
    assert edge.apply([packet(4)], 4).applied == 1
    assert edge.position == 4


@pytest.mark.parametrize("size", [300, INLINE_LIMIT_BYTES + 1])
def test_an_edge_keeps_keyframes_as_long_as_it_keeps_what_refers_to_them(open_edge, size):
    edge = open_edge(retention={"max_records": 3, "when_full": "drop_oldest"})
    edge.follow(LOG)
    first, fetched = image("first", 300), image("fetched", size)
    named = [Keyframe(content_digest(key), len(key)) for key in (first, fetched)]
    needs = [{"keyframe": keyframe_facts(entry)} for entry in named]
    edge.apply([packet(1, payload=first), packet(2, meta=needs[0]), packet(3, meta=needs[1])], 3)
    edge.store_keyframe(content_digest(fetched), fetched)
    edge.apply([packet(4), packet(5, meta=needs[0])], 5)
    all_batches(edge)
    with edge.training_view() as view:
        assert view.packet(content_digest(first)) == first
    edge.apply([packet(n) for n in (6, 7, 8)], 8)
    all_batches(edge)
    assert kept(edge) == [6, 7, 8]
    with edge.training_view() as view:
        assert view.packet(content_digest(first)) is None
        assert view.packet(content_digest(fetched)) is None
    assert not edge.has_blob(content_digest(fetched))


def test_fetched_originals_go_with_their_packets(open_edge):
    edge = open_edge(retention={"max_records": 1, "when_full": "drop_oldest"})
    edge.follow(LOG)
    facts = {"name": "x", "width": 64, "height": 48, "labelled": True, "validation": True, "boxes": []}
    pictures = [image(("original", n), 400) for n in (1, 2)]
    metas = [{"source": source_facts(facts, content_digest(data), 400)} for data in pictures]
    edge.apply([packet(n, meta=meta) for n, meta in enumerate(metas, start=1)], 2)
    for data in pictures:
        edge.store_original(content_digest(data), data)
    all_batches(edge)
    assert edge.original_count() == 1
    assert [edge.has_blob(content_digest(data)) for data in pictures] == [False, True]
    assert edge.wanted_originals(9) == []


@pytest.mark.parametrize("size", [500, INLINE_LIMIT_BYTES + 1])
def test_own_originals_are_bounded_and_frames_that_wait_stay(open_edge, size):
    edge = open_edge(retention={"max_original_bytes": 2 * size})
    frames = [frame(n, size, validation=True) for n in range(6)]
    for item in frames:
        edge.record_frame(item.name, item)
    edge.acknowledge(range(4))
    assert edge.retain(time.time()).originals == 2
    with edge.training_view() as view:
        newest = [f.identity.number for f in view.validation_originals(9)]
    assert [number for number in newest if number < 4] == [3, 2]
    assert [f.image for f in edge.unacknowledged(9, 1 << 30)] == [f.image for f in frames[4:]]
    # Its own dropped original is not fetched from the fog in turn.
    edge.follow(LOG)
    facts = {"name": "x", "width": 64, "height": 48, "labelled": True, "validation": True, "boxes": []}
    edge.apply([packet(1, meta={"source": source_facts(facts, frames[0].digest, size)})], 1)
    assert edge.wanted_originals(9) == []


def test_an_edge_knows_what_it_dropped_after_a_restart(tmp_path):
    settings = EdgeStoreSettings(retention={"max_records": 2, "when_full": "drop_oldest"})
    with open_edge_store(tmp_path, CAMERA, settings) as edge:
        edge.follow(LOG)
        edge.apply([packet(n) for n in range(1, 6)], 5)
        all_batches(edge)
    with open_edge_store(tmp_path, CAMERA, settings) as edge:
        assert (edge.count(RecordKind.PACKET), edge.usage.records, edge.inbox_position) == (5, 2, 5)
        assert edge.apply([packet(1), packet(6)], 6).applied == 1


def test_corrected_labels_count_as_records(tmp_path):
    with open_fog_store(tmp_path) as fog:
        filled(fog, 2)
        fog.correct(frame(0).identity, 1, True, [])
        usage = fog.usage
        assert usage.records == 3
    with open_fog_store(tmp_path) as fog:
        assert fog.usage == usage
