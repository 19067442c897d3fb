"""The fog's decisions on sessions, uploads and subscriptions, without a socket."""

from dataclasses import replace

import pytest

from common.frame import Box, Frame, FrameIdentity
from common.images import encode_jpeg
from common.store.corrections import CorrectionOutcome, CorrectionResult
from common.store.records import CommitOutcome, LogPage, Record, RecordKind
from common.wire.allow_list import Device
from common.wire.messages import (
    Accepted,
    CaughtUp,
    Chunk,
    Correct,
    Corrected,
    Error,
    Fetch,
    Hello,
    Ping,
    Plan,
    Pong,
    Pull,
    RecordMessage,
    Refused,
    Upload,
    Welcome,
)
from fog_node.corrections import WINDOW
from fog_node.instructions import Commit, ReadBlob, ReadLog, Send, WriteCorrection
from fog_node.settings import FogSettings
from fog_node.state import FogState

FOG, ONE, TWO = "F" * 40, "1" * 40, "2" * 40


def make_state(last_position=0, rights=None, **settings):
    rights = rights or {
        ONE: Device(ONE, may_upload=True, may_subscribe=("*",)),
        TWO: Device(TWO, may_upload=True, may_subscribe=(ONE,)),
    }
    return FogState(
        FogSettings.model_validate(settings),
        fog_key=FOG,
        log_id=9,
        last_position=last_position,
        rights=rights,
        seed=1,
    )


def hello(state, key=ONE, now=0.0, **fields):
    message = Hello(**{"epoch": 7, "position": 0, "log_id": 9, "devices": ("*",), **fields})
    return state.received(key.encode(), key, message, now)


def messages(instructions):
    return [entry.message for entry in instructions if isinstance(entry, Send)]


@pytest.fixture(scope="module")
def jpeg(photo):
    return encode_jpeg(photo, 80)


@pytest.fixture
def upload(jpeg):
    def make(number, key=ONE):
        return Upload.of(Frame("f", jpeg, 96, 72, True, (), FrameIdentity(key, 7, number)))

    return make


def send(state, message, key=ONE, now=0.0):
    return state.received(key.encode(), key, message, now)


def record(position, size=10, device=ONE):
    payload = bytes(size)
    return Record(position, RecordKind.PACKET, device, 7, position, bytes(32), {}, size, payload)


def page(*records, through=None, more=False):
    return LogPage(tuple(records), through or records[-1].position, more)


def test_hello_is_answered_by_a_welcome_with_the_limits():
    state = make_state(last_position=5)
    (welcome,) = messages(hello(state))
    assert isinstance(welcome, Welcome)
    assert (welcome.device, welcome.fog, welcome.log_id, welcome.last_position) == (ONE, FOG, 9, 5)
    assert welcome.may_upload


def test_nothing_is_acknowledged_before_its_commit_has_returned(upload):
    state = make_state()
    hello(state)
    (commit,) = send(state, upload(0))
    assert isinstance(commit, Commit)
    assert not state.idle
    assert messages(state.committed([CommitOutcome.STORED])) == [Accepted(7, (0,))]
    assert state.idle
    assert state.waiting_bytes == 0


def test_what_arrives_during_a_commit_forms_the_next_group(upload):
    state = make_state()
    hello(state)
    assert len(send(state, upload(0))) == 1
    assert send(state, upload(1)) == []
    assert send(state, upload(2)) == []
    # The next group first, so that the disk does not wait for the answers to this one.
    commit, accepted = state.committed([CommitOutcome.STORED])
    assert accepted.message == Accepted(7, (0,))
    assert [frame.identity.number for frame in commit.frames] == [1, 2]
    answers = messages(state.committed([CommitOutcome.DUPLICATE, CommitOutcome.CONFLICT]))
    assert isinstance(answers[0], Refused)
    assert answers[0].permanent
    assert answers[1] == Accepted(7, (1,))


def test_a_full_store_refuses_every_waiting_upload_for_now_and_keeps_none(upload):
    state = make_state(retry_full_s=2.0)
    hello(state)
    send(state, upload(0))
    send(state, upload(1))
    answers = messages(state.commit_failed("the disk is full", full=True, now=10.0))
    assert [(a.number, a.code, a.permanent) for a in answers] == [(0, "full", False), (1, "full", False)]
    assert state.waiting_bytes == 0
    (held,) = messages(send(state, upload(2), now=11.0))
    assert (held.code, held.permanent) == ("full", False)
    assert isinstance(send(state, upload(3), now=12.1)[0], Commit)


def test_an_edge_may_not_have_more_uploads_waiting_than_its_window(upload):
    state = make_state(wire={"upload_window_frames": 2})
    hello(state)
    send(state, upload(0))
    send(state, upload(1))
    (answer,) = messages(send(state, upload(2)))
    assert (answer.code, answer.permanent) == ("full", False)


def test_an_edge_without_the_right_to_upload_is_refused(upload):
    state = make_state(rights={ONE: Device(ONE)})
    hello(state)
    (answer,) = messages(send(state, upload(0)))
    assert (answer.code, answer.permanent) == ("not_allowed", False)


def test_the_log_is_read_only_within_the_window():
    state = make_state(last_position=10)
    hello(state)
    (read,) = send(state, Pull(0, 3, 1000))
    assert (read.after, read.limit, read.max_bytes) == (0, 3, 1000)
    assert send(state, Pull(0, 3, 1000)) == [], "one page is read at a time"
    sent = state.page_read(read.session, page(record(1), record(2), record(3), more=True))
    assert [m.position for m in messages(sent)] == [1, 2, 3]
    assert not any(isinstance(entry, ReadLog) for entry in sent), "the window is used up"
    (read,) = send(state, Pull(2, 3, 1000))
    assert (read.after, read.limit) == (3, 2)


def test_bytes_bound_the_window_too():
    state = make_state(last_position=10)
    hello(state)
    (read,) = send(state, Pull(0, 100, 25))
    state.page_read(read.session, page(record(1), record(2), record(3), more=True))
    assert send(state, Pull(0, 100, 25)) == []
    (read,) = send(state, Pull(2, 100, 25))
    assert read.max_bytes == 15


def test_a_subscriber_learns_of_positions_that_its_filter_passes_over():
    state = make_state(last_position=10)
    hello(state, TWO)
    (read,) = send(state, Pull(0, 100, 1000), TWO)
    assert read.devices == {ONE, FOG}
    sent = messages(state.page_read(read.session, page(record(4), through=10)))
    assert isinstance(sent[0], RecordMessage)
    assert sent[1:] == [CaughtUp(10)]


def test_new_records_are_read_for_those_who_wait():
    state = make_state()
    hello(state)
    assert send(state, Pull(0, 10, 1000)) == []
    (read,) = state.log_grew(1)
    assert read.after == 0


def test_a_page_that_could_not_be_read_is_asked_for_again_after_a_while():
    state = make_state(last_position=1, retry_full_s=2.0)
    hello(state)
    (read,) = send(state, Pull(0, 10, 1000))
    state.page_failed(read.session, now=1.0)
    assert state.tick(1.05) == state.tick(2.9) == []
    assert state.log_grew(2) == []
    assert isinstance(state.tick(3.0)[0], ReadLog)
    assert state.tick(5.5) == [], "one page is read at a time"


def test_another_log_than_before_is_sent_from_its_beginning():
    state = make_state(last_position=10)
    hello(state, position=8, log_id=3)
    (read,) = send(state, Pull(0, 10, 1000))
    assert read.after == 0


def test_content_is_read_only_from_devices_that_the_edge_may_read():
    state = make_state()
    hello(state, TWO)
    (read,) = send(state, Fetch(bytes(32), 0, 1 << 20), TWO)
    assert isinstance(read, ReadBlob)
    assert read.devices == {ONE, FOG}
    assert read.length == FogSettings().wire.chunk_bytes
    (chunk,) = messages(state.blob_read(read.session, read, 3, b"abc"))
    assert chunk == Chunk(bytes(32), 0, 3, b"abc")
    (read,) = send(state, Fetch(bytes(32), 0, 10), TWO)
    (error,) = messages(state.blob_read(read.session, read, None, b""))
    assert (error.code, error.digest) == ("not_found", bytes(32))


def test_fetches_under_way_are_bounded():
    state = make_state()
    hello(state)
    answers = [send(state, Fetch(bytes(32), n, 10))[0] for n in range(17)]
    assert all(isinstance(answer, ReadBlob) for answer in answers[:16])
    assert isinstance(answers[16].message, Error)


def test_a_second_connection_replaces_the_first():
    state = make_state()
    hello(state)
    state.received(b"second", ONE, Hello(epoch=7, position=0), 0.0)
    (error,) = messages(send(state, Ping()))
    assert error.code == "no_session"
    assert messages(state.received(b"second", ONE, Ping(), 0.0)) == [Pong()]


def test_an_answer_for_a_session_that_has_ended_goes_nowhere():
    state = make_state(last_position=1)
    hello(state)
    (read,) = send(state, Pull(0, 10, 1000))
    hello(state)
    assert state.page_read(read.session, page(record(1))) == []


def test_an_edge_that_takes_nothing_more_loses_its_session():
    state = make_state()
    hello(state)
    state.unreachable(b"another connection", ONE)
    assert ONE in state.sessions
    state.unreachable(ONE.encode(), ONE)
    assert ONE not in state.sessions


def test_a_silent_edge_is_forgotten():
    state = make_state(wire={"heartbeat_seconds": 1.0, "liveness": 5})
    hello(state, now=0.0)
    send(state, Ping(), now=3.0)
    state.tick(7.9)
    assert ONE in state.sessions
    state.tick(8.1)
    assert ONE not in state.sessions


def test_uploads_of_an_edge_that_went_are_still_committed(upload):
    state = make_state()
    hello(state)
    send(state, upload(0))
    state.unreachable(ONE.encode(), ONE)
    assert state.committed([CommitOutcome.STORED]) == []
    assert state.idle


@pytest.mark.parametrize("outcome", [CommitOutcome.STORED, CommitOutcome.CONFLICT, None])
def test_a_device_that_was_set_up_anew_gets_no_answer_to_its_former_frames(upload, outcome):
    state = make_state()
    hello(state)
    send(state, upload(0))
    hello(state, epoch=8)
    if outcome is None:
        assert messages(state.commit_failed("full", full=True, now=0.0)) == []
    else:
        assert messages(state.committed([outcome])) == []
    assert state.idle


def test_removed_keys_are_told_and_lose_their_session():
    state = make_state()
    hello(state)
    hello(state, TWO)
    kept = {ONE: state.rights[ONE]}
    (told,) = state.rights_changed(kept)
    assert (told.key, told.message.code) == (TWO, "not_allowed")
    assert set(state.sessions) == {ONE}
    (refused,) = messages(send(state, Ping(), TWO))
    assert refused.code == "not_allowed"


def test_changed_rights_take_a_new_hello():
    state = make_state()
    hello(state)
    rights = {**state.rights, ONE: replace(state.rights[ONE], may_upload=False)}
    (told,) = messages(state.rights_changed(rights))
    assert told.code == "no_session"
    (welcome,) = messages(hello(state))
    assert not welcome.may_upload


def test_no_more_edges_than_the_limit():
    state = make_state(limits={"peers": 1})
    hello(state)
    (error,) = messages(hello(state, TWO))
    assert error.code == "full"
    assert messages(hello(state))[0].device == ONE


def test_a_new_plan_is_told_to_every_edge_and_to_those_who_come_later():
    state = make_state()
    hello(state)
    plan = Plan("fog", "it is cheaper", train=False)
    assert messages(state.plan_changed(plan)) == [plan]
    assert state.plan_changed(plan) == []
    assert plan in messages(hello(state, TWO))


def test_a_stopping_fog_finishes_what_it_has_and_takes_nothing_new(upload):
    state = make_state()
    hello(state)
    send(state, upload(0))
    state.stop()
    (refused,) = messages(send(state, upload(1)))
    assert (refused.code, refused.permanent) == ("stopping", False)
    assert messages(state.committed([CommitOutcome.STORED])) == [Accepted(7, (0,))]
    (farewell,) = messages(state.farewell())
    assert farewell.code == "stopping"


BOX = (1.0, 2.0, 9.0, 9.0, "object")


def correct(number=3, revision=1, labelled=True, boxes=(BOX,), epoch=7):
    return Correct(epoch, number, revision, labelled, boxes)


def test_a_correction_is_written_for_the_senders_own_frame_and_answered():
    state = make_state()
    hello(state)
    (write,) = send(state, correct())
    assert write.identity == FrameIdentity(ONE, 7, 3)
    assert (write.revision, write.labelled, write.boxes) == (1, True, (Box(*BOX),))
    (answer,) = messages(state.corrections.written(write, CorrectionResult(CorrectionOutcome.STORED)))
    assert answer == Corrected(7, 3, 1)


@pytest.mark.parametrize(
    ("message", "code", "permanent"),
    [
        (correct(boxes=((1.0, 2.0, 1.0, 9.0, "object"),)), "bad_box", True),
        (correct(boxes=((1.0, 2.0, 9.0, 9.0, "tram"),)), "unknown_class", True),
        (correct(labelled=False), "bad_message", True),
        (correct(number=2**47), "bad_message", True),
        (correct(boxes=(BOX,) * 1000), "bad_box", True),
    ],
)
def test_a_correction_that_no_trainer_could_use_is_refused_for_good(message, code, permanent):
    state = make_state(limits={"frame_boxes": 999})
    hello(state)
    (answer,) = messages(send(state, message))
    assert (answer.code, answer.permanent, answer.number) == (code, permanent, message.number)


def test_who_may_not_upload_may_not_correct():
    state = make_state(rights={TWO: Device(TWO, may_upload=False, may_subscribe=("*",))})
    hello(state, TWO)
    (answer,) = messages(send(state, correct(), TWO))
    assert answer.code == "not_allowed"


def test_corrections_that_wait_for_their_commit_are_bounded():
    state = make_state()
    hello(state)
    writes = [send(state, correct(number))[0] for number in range(WINDOW)]
    (answer,) = messages(send(state, correct(99)))
    assert (answer.code, answer.permanent) == ("full", False)
    (answer,) = messages(state.corrections.failed(writes[0], "the disk is full"))
    assert (answer.code, answer.permanent) == ("internal", False)
    assert isinstance(send(state, correct(99))[0], WriteCorrection)


def test_labels_are_sent_to_those_who_ask_for_them():
    for more, expected in (((), False), (("labels", "of the future"), True)):
        state = make_state(last_position=5)
        hello(state, more_kinds=more)
        (read,) = send(state, Pull(0, 10, 1000))
        assert (RecordKind.LABELS in read.kinds) == expected


def test_an_edge_that_is_ahead_of_the_log_is_told_and_gets_nothing_in_the_wrong_places():
    """The fog's store was put back by hand: new records get positions that the edge has passed."""
    state = make_state(last_position=5)
    (answer,) = messages(hello(state, position=15))
    assert isinstance(answer, Error)
    assert "holds position 15 of a log that ends at 5" in answer.sentence
    assert "run fog-node restore" in answer.sentence
    assert not state.sessions
    assert state.ahead == {ONE: 15}
    assert isinstance(messages(hello(state, position=15, log_id=8))[0], Welcome), (
        "of another log it is behind"
    )
    assert state.ahead == {}


def test_an_edge_may_have_what_the_reader_saw_before_it_was_told():
    state = make_state(last_position=5)
    hello(state)
    (read,) = state.received(ONE.encode(), ONE, Pull(5 - 1, 10, 1000), 0.0)
    state.page_read(read.session, LogPage((), 7, False))
    assert isinstance(messages(hello(state, position=7))[0], Welcome)


@pytest.mark.parametrize("outcome", [CommitOutcome.STORED, CommitOutcome.CONFLICT, None])
def test_an_answer_goes_to_the_session_that_uploaded_and_to_no_other(upload, outcome):
    """Of two copies of a device one must not drop its frame because the other's of that number was taken."""
    state = make_state()
    hello(state)
    send(state, upload(5))
    state.received(b"copy", ONE, Hello(epoch=7, position=0), 0.0)
    answered = (
        state.commit_failed("no", full=False, now=0.0) if outcome is None else state.committed([outcome])
    )
    assert messages(answered) == []
    if outcome is not None:
        state.received(b"copy", ONE, upload(5), 0.0)
        (answer,) = messages(state.committed([CommitOutcome.DUPLICATE]))
        assert answer == Accepted(7, (5,)), "sent again it is answered"


def test_an_edge_gets_no_larger_window_than_the_fog_allows_however_much_it_asks_for():
    wire = {"window_records": 20, "window_bytes": 5000, "send_queue_messages": 30}
    state = make_state(last_position=1000, wire=wire)
    hello(state)
    (read,) = send(state, Pull(0, 1_000_000, 1 << 40))
    assert read.limit == 15, "half the queue is left to answers"
    assert read.max_bytes == 5000
    state = make_state(last_position=1000, wire={**wire, "send_queue_messages": 200})
    hello(state)
    (read,) = send(state, Pull(0, 1_000_000, 1 << 40))
    assert read.limit == 20
