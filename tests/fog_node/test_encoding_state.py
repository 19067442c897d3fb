"""Which frame goes to which encoder and when its record is written, without a process."""

from hypothesis import given
from hypothesis import strategies as st

from common.frame import Frame, FrameIdentity
from common.store.records import PendingFrame
from fog_node.encoding import Assign, EncodingState, FinishFrames, Kill, LoadPending
from fog_node.workers.encoder_messages import Encoded, NotEncoded

ENCODED = Encoded(b"packet", 30.0, (), 1.0, True)


def pending(arrival, device="a", damage=None):
    identity = FrameIdentity(device, 0, arrival)
    frame = None if damage else Frame(f"{arrival}", b"jpeg", 4, 4, identity=identity)
    return PendingFrame(arrival, identity, frame, damage)


def make(workers=1, batch_frames=4, wait_s=0.0, attempts=3):
    return EncodingState(
        workers=workers,
        batch_frames=batch_frames,
        wait_s=wait_s,
        attempts=attempts,
        batch_timeout_s=10.0,
        retry_s=1.0,
    )


def only(kind, instructions):
    return [entry for entry in instructions if isinstance(entry, kind)]


def arrivals(finish):
    return [item.identity.number for item in finish.items]


def test_frames_of_several_devices_share_a_batch():
    state = make()
    assert state.tick(0.0) == [LoadPending(8, frozenset())]
    state.worker_ready(0, 0.0)
    (assign,) = only(Assign, state.loaded([pending(1), pending(2, "b"), pending(3)], 8, 0.0))
    assert [frame.identity.device for frame in assign.frames] == ["a", "b", "a"]


def test_a_frame_waits_a_little_for_others():
    state = make(wait_s=0.5)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    assert only(Assign, state.loaded([pending(1)], 8, 0.0)) == []
    assert only(Assign, state.tick(0.4)) == []
    assert len(only(Assign, state.tick(0.5))) == 1


def test_a_full_batch_waits_for_nobody():
    state = make(wait_s=100.0)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    assert len(only(Assign, state.loaded([pending(n) for n in range(1, 5)], 8, 0.0))) == 1


def test_memory_is_bounded_by_workers_and_batch():
    state = make(workers=2, batch_frames=3)
    (load,) = state.tick(0.0)
    assert load.limit == 9
    assert only(LoadPending, state.loaded([pending(n) for n in range(1, 10)], 9, 0.0)) == []
    assert state.held == 9


def test_records_of_a_device_keep_its_order_though_workers_do_not():
    state = make(workers=2, batch_frames=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.worker_ready(1, 0.0)
    first, second = only(Assign, state.loaded([pending(1), pending(2)], 3, 0.0))
    assert only(FinishFrames, state.batch_encoded(second.worker, second.batch, [ENCODED], 1.0)) == []
    (finish,) = only(FinishFrames, state.batch_encoded(first.worker, first.batch, [ENCODED], 2.0))
    assert arrivals(finish) == [1, 2]


def test_a_device_stays_with_the_worker_that_has_its_keyframe():
    state = make(workers=2, batch_frames=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.worker_ready(1, 0.0)
    frames = [pending(1, "a"), pending(2, "b"), pending(3, "b")]
    first, second = only(Assign, state.loaded(frames, 3, 0.0))
    assert [entry.frames[0].identity.device for entry in (first, second)] == ["a", "b"]
    (finish,) = only(FinishFrames, state.batch_encoded(second.worker, second.batch, [ENCODED], 1.0))
    assert arrivals(finish) == [2]
    state.finished(1.0)
    assert state.loaded([pending(4, "a")], 1, 1.0) == []
    (next_of_a,) = only(Assign, state.batch_encoded(first.worker, first.batch, [ENCODED], 2.0))
    assert (next_of_a.worker, next_of_a.arrivals) == (first.worker, (4,))
    assert next_of_a.frames[0].identity.device == "a"


def test_devices_of_a_dead_worker_go_to_any():
    state = make(workers=2, batch_frames=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    (first,) = only(Assign, state.loaded([pending(1)], 3, 0.0))
    state.batch_encoded(0, first.batch, [ENCODED], 0.0)
    state.worker_lost(0, "signal SIGKILL", 1.0)
    state.finished(1.0)
    state.frames_committed(1.0)
    state.loaded([pending(2)], 3, 1.0)
    assert [entry.worker for entry in only(Assign, state.worker_ready(1, 1.0))] == [1]


def test_an_idle_worker_takes_over_some_devices_and_leaves_some():
    state = make(workers=2, batch_frames=4)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    (first,) = only(Assign, state.loaded([pending(n, "abcd"[n % 4]) for n in range(4)], 12, 0.0))
    assert len(first.frames) == 4
    state.frames_committed(0.0)
    state.loaded([pending(4 + n, "abcd"[n % 4]) for n in range(4)], 8, 0.0)
    (second,) = only(Assign, state.worker_ready(1, 0.0))
    assert [frame.identity.device for frame in second.frames] == ["a", "c"]
    (third,) = only(Assign, state.batch_encoded(0, first.batch, [ENCODED] * 4, 1.0))
    assert third.worker == 0
    assert [frame.identity.device for frame in third.frames] == ["b", "d"]


def test_another_device_does_not_wait_for_it():
    state = make(workers=2, batch_frames=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.worker_ready(1, 0.0)
    _, second = only(Assign, state.loaded([pending(1), pending(2, "b")], 3, 0.0))
    (finish,) = only(FinishFrames, state.batch_encoded(second.worker, second.batch, [ENCODED], 1.0))
    assert arrivals(finish) == [2]


def test_after_a_crash_each_frame_is_tried_alone_and_the_culprit_becomes_a_tombstone():
    state = make(batch_frames=2, attempts=2)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.loaded([pending(1), pending(2)], 4, 0.0)
    state.worker_lost(0, "signal SIGKILL", 1.0)
    (alone,) = only(Assign, state.worker_ready(0, 2.0))
    assert [frame.identity.number for frame in alone.frames] == [1]
    (finish,) = only(FinishFrames, state.worker_lost(0, "signal SIGKILL", 3.0))
    assert finish.items[0].result == NotEncoded("the encoder died 2 times on this frame (signal SIGKILL)")
    state.finished(3.0)
    (other,) = only(Assign, state.worker_ready(0, 4.0))
    (finish,) = only(FinishFrames, state.batch_encoded(0, other.batch, [ENCODED], 5.0))
    assert arrivals(finish) == [2]
    assert finish.items[0].result == ENCODED


def test_a_worker_that_dies_idle_costs_no_attempt():
    state = make(attempts=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.worker_lost(0, "exit code 1", 0.0)
    assert len(only(Assign, [*state.loaded([pending(1)], 8, 0.0), *state.worker_ready(0, 1.0)])) == 1


def test_a_lost_cluster_costs_no_attempt_and_its_frames_go_on_in_their_order():
    state = make(batch_frames=2, attempts=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.loaded([pending(n) for n in range(1, 5)], 4, 0.0)
    for _ in range(3):
        assert state.worker_lost(0, "no network", 1.0, blamed=False) == []
        (again,) = only(Assign, state.worker_ready(0, 2.0))
        assert [frame.identity.number for frame in again.frames] == [1, 2]


def test_a_suspect_stays_one_when_the_cluster_is_lost():
    state = make(batch_frames=2, attempts=2)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.loaded([pending(1), pending(2)], 4, 0.0)
    state.worker_lost(0, "signal SIGKILL", 1.0)
    state.worker_ready(0, 2.0)
    state.worker_lost(0, "no network", 3.0, blamed=False)
    (alone,) = only(Assign, state.worker_ready(0, 4.0))
    assert [frame.identity.number for frame in alone.frames] == [1]


def test_a_late_answer_to_an_earlier_batch_is_ignored():
    state = make(batch_frames=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    (assign,) = only(Assign, state.loaded([pending(1)], 2, 0.0))
    assert state.batch_encoded(0, assign.batch - 1, [ENCODED], 1.0) == []
    assert state.held == 1


def test_a_damaged_image_becomes_a_tombstone_without_a_worker():
    state = make()
    state.tick(0.0)
    (finish,) = only(FinishFrames, state.loaded([pending(1, damage="its checksum is wrong")], 8, 0.0))
    assert finish.items[0].result == NotEncoded("its checksum is wrong")


def test_records_that_could_not_be_written_are_kept_and_written_later():
    state = make(batch_frames=1)
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    (assign,) = only(Assign, state.loaded([pending(1)], 2, 0.0))
    assert len(only(FinishFrames, state.batch_encoded(0, assign.batch, [ENCODED], 1.0))) == 1
    assert state.finish_failed(1.0) == []
    assert only(FinishFrames, state.tick(1.5)) == []
    (again,) = only(FinishFrames, state.tick(2.1))
    assert arrivals(again) == [1]
    state.finished(2.2)
    assert state.held == 0


def test_a_hung_worker_is_killed():
    state = make()
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.loaded([pending(1)], 8, 0.0)
    assert only(Kill, state.tick(9.0)) == []
    assert only(Kill, state.tick(10.1)) == [Kill(0)]


def test_frames_committed_while_the_store_reads_are_not_overlooked():
    state = make()
    state.tick(0.0)
    state.frames_committed(0.0)
    (load,) = only(LoadPending, state.loaded([], 8, 0.0))
    assert load.without == set()


def test_a_stopped_state_gives_out_no_more_batches():
    state = make()
    state.tick(0.0)
    state.worker_ready(0, 0.0)
    state.stop()
    assert only(Assign, state.loaded([pending(1)], 8, 0.0)) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.randoms())
def test_every_frame_is_written_once_and_in_the_order_of_its_device(frames, chance):
    """Workers crash and finish in any order; every frame still gets exactly one record."""
    stored = [
        pending(n + 1, device, None if sound else "damaged") for n, (device, sound) in enumerate(frames)
    ]
    state = make(workers=2, batch_frames=3, attempts=2)
    busy, written = {}, []
    queue = [*state.tick(0.0), *state.worker_ready(0, 0.0), *state.worker_ready(1, 0.0)]
    now = 0.0
    while queue or busy:
        now += 0.01
        if not queue:
            worker = chance.choice(sorted(busy))
            assign = busy.pop(worker)
            if chance.random() < 0.3:
                queue += state.worker_lost(worker, "chance", now, blamed=chance.random() < 0.7)
                queue += state.worker_ready(worker, now)
            else:
                queue += state.batch_encoded(worker, assign.batch, [ENCODED] * len(assign.frames), now)
            continue
        match queue.pop(0):
            case LoadPending(limit, without):
                waiting = [entry for entry in stored if entry.identity not in written]
                found = [entry for entry in waiting if entry.arrival not in without][:limit]
                queue += state.loaded(found, limit, now)
            case Assign() as assign:
                busy[assign.worker] = assign
            case FinishFrames(items):
                written += [item.identity for item in items]
                queue += state.finished(now)
    assert sorted(identity.number for identity in written) == [entry.arrival for entry in stored]
    for device in "abc":
        numbers = [identity.number for identity in written if identity.device == device]
        assert numbers == sorted(numbers)
    assert state.idle
