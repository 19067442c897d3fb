"""Corrected labels on their way: from a source's label file to every edge, once, whatever is restarted."""

import time

import pytest

from common.frame import Box, FrameIdentity
from common.store import open_edge_store, open_fog_store
from common.store.corrections import Correction
from common.store.records import RecordKind
from common.wire.messages import Corrected
from edge_node.correcting import WINDOW, Correcting, LoadCorrections, SendCorrection, Settle
from tests.node_processes import Deployment, write_frames

BOX = Box(1, 2, 3, 4)


def made(*numbers, revision=1):
    return [Correction(FrameIdentity("d" * 40, 7, n), revision, 9, 9, True, (BOX,)) for n in numbers]


def opened(now=0.0):
    state = Correcting()
    (request,) = state.opened(True, now)
    return state, request


def sent(instructions):
    return [i.correction.identity.number for i in instructions if isinstance(i, SendCorrection)]


def test_a_session_begins_with_what_waits():
    state, request = opened()
    assert request == LoadCorrections(WINDOW, -1)
    assert sent(state.loaded(request, made(3, 5), 0.0)) == [3, 5]
    assert state.answered(Corrected(7, 3, 1), 1.0)[0] == Settle(3, 1, None)
    assert state.in_flight == 1


def test_an_older_fog_gets_none():
    state = Correcting()
    assert state.opened(False, 0.0) == []
    state.wake(0.0)
    assert state.tick(10.0) == []


def test_the_window_is_bounded_and_read_on_behind_it():
    state, request = opened()
    assert len(sent(state.loaded(request, made(*range(WINDOW)), 0.0))) == WINDOW
    assert state.tick(5.0) == []
    (settle, load) = state.answered(Corrected(7, 0, 1), 5.0)
    assert (settle.number, load) == (0, LoadCorrections(1, WINDOW - 1))


def test_a_refusal_for_now_is_tried_again_and_one_for_good_is_settled():
    state, request = opened()
    state.loaded(request, made(3, 5), 0.0)
    assert state.answered(Corrected(7, 3, 1, "not_found", "no such frame"), 1.0) == []
    assert state.answered(Corrected(7, 5, 1, "bad_box", "no", permanent=True), 1.0)[0].reason == "bad_box: no"
    assert state.tick(2.9) == []
    (again,) = state.tick(3.0)
    assert sent(state.loaded(again, made(3), 3.0)) == [3]


def test_corrections_of_frames_that_the_fog_does_not_know_hold_up_no_others():
    state, request = opened()
    unknown, known = list(range(3 * WINDOW)), [3 * WINDOW, 3 * WINDOW + 1]
    waiting = made(*unknown, *known)
    settled, now = [], 0.0
    while request is not None and now < 1.0:
        page = [c for c in waiting if c.identity.number > request.after][: request.limit]
        found, request = sent(state.loaded(request, page, now)), None
        # Whatever is sent is answered before anything else is loaded.
        for number in found:
            code = "not_found" if number in unknown else ""
            for instruction in state.answered(Corrected(7, number, 1, code), now):
                if isinstance(instruction, Settle):
                    settled.append(instruction.number)
                else:
                    request = instruction
        now += 0.01
        request = request or next(iter(state.tick(now)), None)
    assert settled == known


def test_the_wait_doubles_once_a_round_however_many_are_refused():
    state, request = opened()
    now = 0.0
    for wait in (2.0, 4.0, 8.0, 16.0):
        state.loaded(request, made(*range(10)), now)
        for number in range(10):
            state.answered(Corrected(7, number, 1, "not_found", "no such frame"), now)
        assert state.tick(now + wait - 0.1) == []
        now += wait
        (request,) = state.tick(now)


def test_a_new_correction_does_not_wait_for_those_that_were_refused():
    state, request = opened()
    state.loaded(request, made(3), 0.0)
    state.answered(Corrected(7, 3, 1, "not_found", "no such frame"), 0.0)
    state.wake(0.0)
    (request,) = state.tick(1.0)
    assert sent(state.loaded(request, made(3, 5), 1.0)) == [5]


def test_what_comes_in_front_of_a_pass_is_found_after_it():
    state, request = opened()
    state.loaded(request, made(*range(10, 10 + WINDOW)), 0.0)
    (request,) = [i for i in state.answered(Corrected(7, 10, 1), 0.1) if isinstance(i, LoadCorrections)]
    state.wake(0.2)
    assert state.loaded(request, [], 0.3) == []
    (again,) = state.tick(1.3)
    assert again.after == -1


def test_a_correction_in_flight_is_not_sent_twice_but_its_successor_is():
    state, request = opened()
    state.loaded(request, made(3), 0.0)
    state.wake(0.0)
    (again,) = state.tick(1.0)
    assert state.loaded(again, made(3), 1.0) == []
    state.wake(1.0)
    (again,) = state.tick(2.0)
    assert sent(state.loaded(again, made(3, revision=2), 2.0)) == [3]
    assert state.answered(Corrected(7, 3, 1), 3.0)[0] == Settle(3, 1, None)
    assert state.in_flight == 1


def test_a_store_that_fails_is_asked_again():
    state, request = opened()
    state.failed(0.0)
    assert state.loaded(request, made(3), 0.5) == []
    assert isinstance(state.tick(2.0)[0], LoadCorrections)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def boxes_of(store, numbers):
    with store.training_view() as view:
        found = [c for _, c in view.corrections_after(0, 100)]
    return {c.identity.number: c.boxes[0].x0 for c in found if c.identity.number in numbers}


def test_a_corrected_label_file_reaches_every_edge_whatever_is_killed(deployment, tmp_path, photo):
    deployment.start_fog()
    source = write_frames(tmp_path / "a", photo, [f"{n:03d}" for n in range(4)])
    one = deployment.edge("one", [source])
    one.settings["sources"][0]["again_s"] = 1
    one.start()
    two = deployment.edge("two", upload=False).start()
    two.wait_for(lambda s: s["inbox"]["packet"] == 4, "4 packets")
    labels = next(source.glob("groundtruth*.txt"))
    lines = labels.read_text().splitlines()
    first = [float(value) for value in lines[2].replace(",", " ").split()]
    lines[2] = ",".join(str(value) for value in (first[0] + 3, *first[1:]))
    labels.write_text("\n".join(lines) + "\n")
    two.wait_for(lambda s: s["inbox"]["labels"] == 1, "the correction at an edge that only receives")
    # A second one, while the fog is down and the edge is killed before it can send it.
    deployment.fog.kill()
    lines[1] = ",".join(str(value) for value in (first[0] + 5, *first[1:]))
    labels.write_text("\n".join(lines) + "\n")
    one.wait_for(lambda s: s["recording"]["corrected"] == 2, "the second correction in the outbox")
    one.kill()
    deployment.fog.start()
    one.start()
    two.wait_for(lambda s: s["inbox"]["labels"] == 2, "the second correction", 60)
    one.wait_for(lambda s: s["inbox"]["labels"] == 2, "the corrections come back to the device", 60)
    time.sleep(1.2)
    for edge in (one, two):
        assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    # The format counts pixels from 1.
    wanted = {1: first[0] + 4, 2: first[0] + 2}
    for edge in (one, two):
        with open_edge_store(edge.store, edge.keys.public) as store:
            assert boxes_of(store, range(4)) == wanted
            assert store.count(RecordKind.LABELS) == 2
            assert store.count(RecordKind.PACKET) == 4
    with open_fog_store(deployment.fog.store) as store:
        assert boxes_of(store, range(4)) == wanted
