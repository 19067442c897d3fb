"""What the edge asks for, stores and gives up, without a socket."""

from common.frame import content_digest
from common.store.records import Keyframe, Original, Record, RecordKind
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
