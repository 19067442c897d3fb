"""The edge's decisions on connecting, uploading and receiving, without a socket."""

import random

import pytest

from common.frame import Frame, FrameIdentity, content_digest
from common.node.rate_meter import RateMeter
from common.store.records import Keyframe, Original, Record, RecordKind
from common.wire.settings import WireSettings
from edge_node.connection import Connection, Phase, Step
from edge_node.receiving import (
    KEYFRAME_WAIT_S,
    Apply,
    Content,
    FetchBlob,
    LoadKeyframes,
    LoadOriginals,
    Problem,
    Receiving,
    SendPull,
)
from edge_node.uploading import Acknowledge, LoadUploads, Refuse, SendUpload, Uploading


def frame(number, size=10):
    return Frame("f", bytes(size), 4, 4, identity=FrameIdentity("d", 0, number))


def sent(instructions):
    return [entry.frame.identity.number for entry in instructions if isinstance(entry, SendUpload)]


def uploading(frames=4, size=1000, retry_s=2.0):
    return Uploading(window_frames=frames, window_bytes=size, retry_s=retry_s)


# Uploading


def test_nothing_is_sent_before_a_session():
    assert uploading().recorded(0.0) == []


def test_the_smaller_of_both_windows_counts():
    (load,) = uploading(frames=10).opened(3, 0.0)
    assert load == LoadUploads(3, 1000, frozenset())


def test_the_window_is_filled_and_refilled():
    state = uploading(frames=2)
    (load,) = state.opened(8, 0.0)
    assert sent(state.loaded(load, [frame(0), frame(1)], 0.0)) == [0, 1]
    assert state.in_flight == 2
    size, instructions = state.accepted((0,), 1.0)
    assert size == 10
    acknowledge, load = instructions
    assert acknowledge == Acknowledge((0,))
    assert (load.limit, load.without) == (1, {1})


def test_bytes_bound_the_window_but_one_frame_always_goes():
    state = uploading(size=15)
    (load,) = state.opened(8, 0.0)
    assert sent(state.loaded(load, [frame(0, 100)], 0.0)) == [0]
    assert state.recorded(0.0) == []


def test_a_new_session_sends_everything_unacknowledged_again():
    state = uploading()
    (load,) = state.opened(8, 0.0)
    state.loaded(load, [frame(0), frame(1)], 0.0)
    state.closed()
    assert state.in_flight == 0
    (load,) = state.opened(8, 1.0)
    assert load.without == set()


def test_an_answer_of_the_outbox_to_an_earlier_session_does_not_move_the_new_start():
    state = uploading()
    (old,) = state.opened(8, 0.0)
    state.closed()
    (new,) = state.opened(8, 1.0)
    assert state.loaded(old, [frame(50)], 1.0) == []
    assert sent(state.loaded(new, [frame(0)], 1.0)) == [0]


def test_a_refusal_for_now_is_tried_again_after_a_while_without_doubling_what_is_in_flight():
    state = uploading(retry_s=2.0)
    (load,) = state.opened(8, 0.0)
    more = state.loaded(load, [frame(0), frame(1)], 0.0)[-1]
    assert state.loaded(more, [], 0.0) == []
    assert state.refused(0, "full", False, 1.0) == []
    assert state.recorded(1.5) == [], "nothing more is sent meanwhile"
    assert state.tick(3.0) == [], "another answer is still to come"
    _, (_, load) = state.accepted((1,), 3.5)
    assert load.without == set()
    assert sent(state.loaded(load, [frame(0)], 3.5)) == [0]


def test_one_frame_tells_whether_a_full_fog_has_room_again():
    state = uploading(frames=4, retry_s=2.0)
    (load,) = state.opened(8, 0.0)
    frames = [frame(number) for number in range(4)]
    state.loaded(load, frames, 0.0)
    for number in range(4):
        state.refused(number, "full", False, 1.0)
    for now in (3.0, 5.0):
        (load,) = state.tick(now)
        assert (load.limit, load.without) == (1, set())
        assert sent(state.loaded(load, frames[:1], now)) == [0]
        assert state.recorded(now) == []
        assert state.refused(0, "full", False, now) == []
    (load,) = state.tick(7.0)
    state.loaded(load, frames[:1], 7.0)
    _, (_, load) = state.accepted((0,), 7.1)
    assert (load.limit, load.without) == (4, set()), "the whole window"


def test_a_new_session_begins_with_the_whole_window():
    state = uploading(frames=4)
    (load,) = state.opened(8, 0.0)
    state.loaded(load, [frame(0)], 0.0)
    state.refused(0, "full", False, 1.0)
    state.closed()
    (load,) = state.opened(8, 1.5)
    assert load.limit == 4


def test_an_outbox_that_could_not_be_read_is_read_again_after_a_while():
    state = uploading(retry_s=2.0)
    (load,) = state.opened(8, 0.0)
    state.load_failed(load, 0.0)
    assert state.tick(1.0) == []
    (load,) = state.tick(2.0)
    assert sent(state.loaded(load, [frame(0)], 2.0)) == [0]


def test_a_failed_reading_of_an_earlier_session_does_not_hold_up_the_new_one():
    state = uploading()
    (old,) = state.opened(8, 0.0)
    state.closed()
    (new,) = state.opened(8, 1.0)
    state.load_failed(old, 1.0)
    assert sent(state.loaded(new, [frame(0)], 1.0)) == [0]


def test_a_frame_refused_while_the_outbox_is_read_is_sent_again():
    state = uploading(retry_s=2.0)
    (load,) = state.opened(8, 0.0)
    late = state.loaded(load, [frame(0)], 0.0)[-1]
    state.refused(0, "full", False, 0.5)
    assert state.loaded(late, [frame(1)], 1.0) == [], "nothing is sent to a fog that takes nothing"
    (load,) = state.tick(2.5)
    assert load.without == set()
    assert sent(state.loaded(load, [frame(0)], 2.5)) == [0]


def test_frames_whose_acknowledgement_could_not_be_written_are_sent_again():
    state = uploading(retry_s=2.0)
    (load,) = state.opened(8, 0.0)
    more = state.loaded(load, [frame(0)], 0.0)[-1]
    state.loaded(more, [], 0.0)
    state.accepted((0,), 1.0)
    state.settle_failed(1.0)
    (load,) = state.tick(3.0)
    assert sent(state.loaded(load, [frame(0)], 3.0)) == [0]


def test_a_refusal_for_good_is_written_down():
    state = uploading()
    (load,) = state.opened(8, 0.0)
    state.loaded(load, [frame(0)], 0.0)
    assert Refuse(0, "bad") in state.refused(0, "bad", True, 1.0)


def test_a_stopped_uploader_sends_nothing_more():
    state = uploading()
    (load,) = state.opened(8, 0.0)
    state.stop()
    assert [type(entry) for entry in state.loaded(load, [frame(0)], 0.0)] == [SendUpload]
    assert state.accepted((0,), 1.0)[1] == [Acknowledge((0,))]


# Receiving


LOG = 7


def record(position, large=False, kind=RecordKind.PACKET):
    size = 200_000 if large else 5
    digest = content_digest(str(position).encode())
    return Record(position, kind, "d" * 40, 0, position, digest, {}, size, None if large else b"12345")


def receiving(records=10, originals=0, largest=1 << 30):
    return Receiving(
        window_records=records, window_bytes=1000, originals=originals, largest_blob=largest, retry_s=2.0
    )


def of_type(kind, instructions):
    return [entry for entry in instructions if isinstance(entry, kind)]


def test_a_session_begins_by_stating_the_window():
    (pull,) = of_type(SendPull, receiving().opened(7, 0, LOG))
    assert pull == SendPull(7, 10, 1000)


def test_records_that_come_while_the_store_writes_form_the_next_transaction():
    state = receiving()
    state.opened(0, 0, LOG)
    (apply,) = of_type(Apply, state.record(record(1)))
    assert (len(apply.records), apply.position) == (1, 1)
    assert state.record(record(2)) == []
    assert state.caught_up(5) == []
    instructions = state.applied(1, True)
    (apply,) = of_type(Apply, instructions)
    assert ([entry.position for entry in apply.records], apply.position) == ([2], 5)
    assert SendPull(1, 10, 1000) in instructions


def test_a_large_record_waits_for_its_file_and_all_behind_it():
    state = receiving()
    state.opened(0, 0, LOG)
    first = state.record(record(1, large=True))
    (fetch,) = of_type(FetchBlob, first)
    assert of_type(Apply, first) == []
    assert state.record(record(2)) == []
    (apply,) = of_type(Apply, state.fetched(fetch, None, 0.0))
    assert [entry.position for entry in apply.records] == [1, 2]


def test_a_payload_that_is_not_to_be_had_leaves_a_gap():
    state = receiving()
    state.opened(0, 0, LOG)
    (fetch,) = of_type(FetchBlob, state.record(record(1, large=True)))
    (apply,) = of_type(Apply, state.fetched(fetch, Problem("it is gone"), 0.0))
    assert apply == Apply((Record.gap(LOG, 1, 1, "it is gone"),), 1)


def test_a_payload_above_the_limit_is_never_fetched():
    state = receiving(largest=100_000)
    state.opened(0, 0, LOG)
    (apply,) = of_type(Apply, state.record(record(1, large=True)))
    (gap,) = apply.records
    assert (gap.kind, gap.position, apply.position) == (RecordKind.GAP, 1, 1)
    assert "fetch.large_bytes" in gap.meta["reason"]


def test_what_was_not_stored_comes_again_in_the_next_session():
    state = receiving()
    state.opened(0, 0, LOG)
    state.record(record(1))
    state.record(record(2))
    state.closed()
    state.applied(1, True)
    assert state.idle
    assert of_type(SendPull, state.opened(1, 0, LOG)) == [SendPull(1, 10, 1000)]


def test_what_could_not_be_stored_is_kept_and_tried_again_without_asking_for_more():
    state = receiving()
    state.opened(0, 0, LOG)
    state.record(record(1))
    state.record(record(2))
    assert not state.idle
    state.apply_failed(10.0)
    assert state.idle, "nothing is under way"
    assert state.record(record(3)) == []
    assert [*state.caught_up(4), *state.caught_up(9), *state.tick(11.9)] == []
    (apply,) = state.tick(12.0)
    assert ([entry.position for entry in apply.records], apply.position) == ([1, 2, 3], 9)
    assert of_type(SendPull, state.applied(9, True)) == [SendPull(9, 10, 1000)]


def test_large_payloads_are_looked_for_again_before_what_could_not_be_stored():
    state = receiving()
    state.opened(0, 0, LOG)
    (fetch,) = of_type(FetchBlob, state.record(record(1, large=True)))
    state.fetched(fetch, None, 0.0)
    state.apply_failed(10.0)
    (again,) = state.tick(12.0)
    assert again == fetch
    (apply,) = of_type(Apply, state.fetched(again, None, 0.0))
    assert apply.position == 1


def test_what_could_not_be_stored_in_an_earlier_session_comes_again_in_the_next():
    state = receiving()
    state.opened(0, 0, LOG)
    state.record(record(1))
    state.closed()
    state.apply_failed(10.0)
    assert of_type(Apply, state.opened(0, 0, LOG)) == []
    assert of_type(Apply, state.record(record(1))) == [Apply((record(1),), 1)]


def test_a_fog_that_sends_without_being_asked_is_found_out():
    state = receiving(records=2)
    state.opened(0, 0, LOG)
    for position in range(1, 25):
        state.record(record(position))
    assert state.overrun


def test_originals_are_fetched_one_at_a_time_up_to_the_limit_and_after_records():
    state = receiving(originals=2)
    (load,) = of_type(LoadOriginals, state.opened(0, 1, LOG))
    assert load.limit == 1
    state.record(record(1))
    wanted = [Original(b"x" * 32, 10), Original(b"y" * 32, 10)]
    (fetch,) = of_type(FetchBlob, [*state.originals_wanted(wanted), *state.applied(1, True)])
    assert fetch.content is Content.ORIGINAL
    assert of_type(FetchBlob, state.fetched(fetch, None, 0.0)) == []


def test_an_original_that_the_fog_does_not_have_is_not_asked_for_twice():
    state = receiving(originals=5)
    state.opened(0, 0, LOG)
    wanted = [Original(b"x" * 32, 10)]
    (fetch,) = of_type(FetchBlob, state.originals_wanted(wanted))
    state.fetched(fetch, Problem("it is gone"), 0.0)
    assert of_type(FetchBlob, state.originals_wanted(wanted)) == []


# Keyframes


def keyframe(name):
    return Keyframe(content_digest(name.encode()), 10)


def stored_waiting(state, position):
    """A packet has come and was stored, but its keyframe is not there."""
    state.record(record(position))
    return state.applied(position, True, waiting=True)


def test_the_keyframe_of_a_stored_packet_is_fetched_once_for_all_that_wait_for_it():
    state = receiving()
    (load,) = of_type(LoadKeyframes, state.opened(0, 0, LOG))
    assert load.limit > 0
    state.keyframes_wanted([])
    (load,) = of_type(LoadKeyframes, stored_waiting(state, 1))
    (fetch,) = of_type(FetchBlob, state.keyframes_wanted([keyframe("k")]))
    assert (fetch.digest, fetch.content) == (keyframe("k").digest, Content.KEYFRAME)
    # A second packet of the same keyframe comes while it is on its way.
    (load,) = of_type(LoadKeyframes, stored_waiting(state, 2))
    assert of_type(FetchBlob, state.keyframes_wanted([keyframe("k")])) == []
    assert of_type(FetchBlob, state.fetched(fetch, None, 0.0)) == []


def test_packets_with_their_keyframe_ask_for_nothing():
    state = receiving()
    state.opened(0, 0, LOG)
    state.keyframes_wanted([])
    state.record(record(1))
    assert of_type(LoadKeyframes, state.applied(1, True)) == []


def test_a_keyframe_on_its_way_holds_up_no_record():
    state = receiving()
    state.opened(0, 0, LOG)
    state.keyframes_wanted([keyframe("k")])
    (apply,) = of_type(Apply, state.record(record(1)))
    assert apply.position == 1


def test_a_keyframe_that_cannot_be_had_now_is_asked_for_again_later_and_meanwhile_others_are():
    state = receiving()
    state.opened(0, 0, LOG)
    both = [keyframe("a"), keyframe("b")]
    (first,) = of_type(FetchBlob, state.keyframes_wanted(both))
    (second,) = of_type(FetchBlob, state.fetched(first, Problem("it cannot be read"), 100.0))
    assert [first.digest, second.digest] == [entry.digest for entry in both]
    assert of_type(FetchBlob, state.fetched(second, None, 100.0)) == []
    assert of_type(LoadKeyframes, state.tick(100.0 + KEYFRAME_WAIT_S[0]))
    (again,) = of_type(FetchBlob, state.keyframes_wanted(both[:1]))
    assert again.digest == first.digest


def test_waits_between_attempts_at_a_keyframe_grow_and_are_bounded():
    state = receiving()
    state.opened(0, 0, LOG)
    (fetch,) = of_type(FetchBlob, state.keyframes_wanted([keyframe("k")]))
    now, waits = 0.0, []
    for _ in range(40):
        begin = now
        assert of_type(LoadKeyframes, state.fetched(fetch, Problem("it cannot be read"), now)) == []
        while not of_type(LoadKeyframes, state.tick(now)):
            now += 0.5
        waits.append(now - begin)
        (fetch,) = of_type(FetchBlob, state.keyframes_wanted([keyframe("k")]))
    assert max(waits[:2]) <= 2 * KEYFRAME_WAIT_S[0] + 0.5
    assert KEYFRAME_WAIT_S[1] / 2 < max(waits) <= KEYFRAME_WAIT_S[1] + 0.5


def test_a_keyframe_that_is_gone_is_asked_for_once_a_session():
    state = receiving()
    state.opened(0, 0, LOG)
    (fetch,) = of_type(FetchBlob, state.keyframes_wanted([keyframe("k")]))
    state.fetched(fetch, Problem("no such content", gone=True), 0.0)
    assert state.tick(1e6) == []
    stored_waiting(state, 1)
    assert of_type(FetchBlob, state.keyframes_wanted([keyframe("k")])) == []
    state.closed()
    assert of_type(LoadKeyframes, state.opened(1, 0, LOG))
    assert of_type(FetchBlob, state.keyframes_wanted([keyframe("k")]))


def test_a_keyframe_above_the_limit_is_never_fetched():
    state = receiving(largest=5)
    state.opened(0, 0, LOG)
    assert of_type(FetchBlob, state.keyframes_wanted([keyframe("k")])) == []


# Connection


@pytest.fixture
def connection():
    settings = WireSettings(
        heartbeat_seconds=1.0,
        liveness=5,
        handshake_seconds=10.0,
        backoff_first_seconds=1.0,
        backoff_last_seconds=32.0,
    )
    return Connection(settings, random.Random(1))


def open_session(connection, now=0.0, heartbeat=1.0):
    assert connection.tick(now) == [Step.OPEN]
    assert connection.tick(now) == [Step.HELLO]
    connection.greeted(now)
    connection.welcomed(heartbeat, now)


def test_hello_is_tried_until_the_socket_takes_it(connection):
    assert connection.tick(0.0) == [Step.OPEN]
    assert connection.tick(1.0) == [Step.HELLO]
    assert connection.tick(2.0) == [Step.HELLO]
    connection.greeted(2.0)
    assert connection.tick(3.0) == []
    connection.welcomed(1.0, 3.0)
    assert connection.phase is Phase.OPEN


def test_a_fog_that_does_not_answer_is_left_and_tried_again(connection):
    connection.tick(0.0)
    connection.greeted(1.0)
    assert connection.tick(10.9) == []
    assert connection.tick(11.0) == [Step.CLOSE]
    assert Step.OPEN in [*connection.tick(11.0), *connection.tick(12.0)]


def test_waits_between_attempts_grow_and_are_bounded(connection):
    now, longest = 0.0, 0.0
    for _ in range(40):
        while connection.tick(now) != [Step.OPEN]:
            now += 0.1
        assert connection.failed(now) == [Step.CLOSE]
        began = now
        while connection.phase is Phase.CLOSED and connection.tick(now) == []:
            now += 0.1
        connection.failed(now)
        longest = max(longest, now - began)
    assert 8 < longest < 33


def test_silence_is_broken_by_a_ping_and_ends_the_session_when_it_lasts(connection):
    open_session(connection)
    assert connection.tick(0.9) == []
    assert connection.tick(1.0) == [Step.PING]
    connection.sent(1.0)
    assert connection.tick(1.5) == []
    connection.heard(3.0)
    connection.sent(7.9)
    assert connection.tick(7.9) == []
    assert connection.tick(8.0) == [Step.CLOSE]


@pytest.mark.parametrize(("own", "fog"), [(10.0, 1.0), (1.0, 10.0)])
def test_nodes_of_different_heartbeats_ping_at_the_quicker_and_wait_for_the_slower(own, fog):
    connection = Connection(WireSettings(heartbeat_seconds=own, liveness=5))
    open_session(connection, heartbeat=fog)
    assert connection.tick(0.9) == []
    assert connection.tick(1.0) == [Step.PING]
    connection.sent(49.5)
    assert connection.tick(49.9) == []
    connection.sent(50.0)
    assert connection.tick(50.0) == [Step.CLOSE]


def test_a_lost_session_is_opened_again_on_the_same_connection(connection):
    open_session(connection)
    connection.session_lost(5.0)
    assert connection.tick(5.0) == [Step.HELLO]


def test_a_stopped_connection_stays_closed(connection):
    open_session(connection)
    assert connection.stop() == [Step.CLOSE]
    assert connection.tick(1000.0) == []


# The measured rate


def test_pauses_between_transfers_do_not_count():
    meter = RateMeter()
    meter.begin(0.0)
    meter.add(1000, 2.0)
    meter.end()
    meter.add(1000, 100.0)
    assert meter.bytes_per_second() == 500
    meter.begin(100.0)
    meter.add(1000, 100.25)
    assert meter.bytes_per_second() == pytest.approx(2000 / 2.25, rel=0.01)
    assert meter.total_bytes == 3000


def test_a_changed_link_is_believed_after_a_few_half_lives():
    meter = RateMeter(half_life_s=10.0)
    meter.begin(0.0)
    for second in range(1, 201):
        meter.add(1_000_000 if second <= 100 else 1000, float(second))
    assert meter.bytes_per_second() == pytest.approx(1000, rel=1.1)


def test_what_takes_as_long_as_its_answer_says_nothing_about_the_link():
    meter = RateMeter(least_bytes=10_000)
    for start in range(10):
        meter.begin(float(start))
        meter.add(100, start + 0.02)
        meter.end()
    assert meter.bytes_per_second() is None
    meter.begin(20.0)
    meter.add(20_000, 20.02)
    assert meter.bytes_per_second() == pytest.approx(1_000_000)


def test_no_rate_before_any_traffic():
    assert RateMeter().bytes_per_second() is None
