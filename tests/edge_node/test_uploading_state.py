"""What the edge sends and when, without a socket."""

from common.frame import Frame, FrameIdentity
from edge_node.uploading import Acknowledge, LoadUploads, Refuse, SendUpload, Uploading


def frame(number, size=10):
    return Frame("f", bytes(size), 4, 4, identity=FrameIdentity("d", 0, number))


def sent(instructions):
    return [entry.frame.identity.number for entry in instructions if isinstance(entry, SendUpload)]


def uploading(frames=4, size=1000, retry_s=2.0):
    return Uploading(window_frames=frames, window_bytes=size, retry_s=retry_s)


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
