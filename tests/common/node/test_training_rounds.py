"""When a node trains, judges and deploys, and what it does when a trainer dies."""

from pathlib import Path

from common.node.learning_messages import (
    Failed,
    Judge,
    Position,
    Ready,
    Result,
    Stop,
    Train,
)
from common.node.training_instructions import Adopt, StartTrainer, Tell
from common.node.training_rounds import Received, RoundRules, TrainingRounds

TESTS = str(Path(__file__).parents[2])


def rounds(*, enabled=True, first=10, new=5, most=None, **state):
    return TrainingRounds(RoundRules(first, new, most), enabled=enabled, **state)


def ready(state, frames=10):
    """A trainer that has begun its first round."""
    assert state.allow(True, 0.0) == []
    assert state.frames_known(frames, 100, 0.0) == [StartTrainer()]
    return state.said(Ready(), 0.0)


def tells(instructions, kind):
    return [e.message for e in instructions if isinstance(e, Tell) and isinstance(e.message, kind)]


def test_no_trainer_is_started_before_there_is_enough_to_train_on():
    state = rounds()
    assert state.allow(True, 0.0) == []
    assert state.frames_known(9, 9, 0.0) == []
    assert state.frames_known(10, 10, 0.0) == [StartTrainer()]


def test_a_trainer_is_told_the_position_before_its_round():
    position, train = ready(rounds(detector="now"))
    assert position == Tell(Position(100))
    assert train.message.start_weights == "now"


def test_the_next_round_needs_new_frames():
    state = rounds()
    ready(state)
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    assert adopt == Adopt(True, "trained", "w", "better", {}, 10)
    assert state.decided("w", own=True, now=1.0) == []
    assert tells(state.frames_known(14, 120, 2.0), Train) == []
    assert len(tells(state.frames_known(15, 121, 2.0), Train)) == 1


def test_the_next_round_waits_for_the_last_decision_and_starts_from_its_detector():
    state = rounds()
    ready(state)
    state.frames_known(20, 120, 0.5)
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    assert (adopt.deploy, state.tick(2.0)) == (True, [])
    (train,) = state.decided("in use", own=True, now=3.0)
    assert train.message.start_weights == "in use"


def test_a_decision_that_cannot_be_written_is_tried_again_before_the_next_round():
    state = rounds()
    ready(state)
    state.frames_known(20, 120, 0.5)
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    state.undecided(2.0)
    assert state.tick(2.1) == []
    assert state.tick(20.0) == [adopt]
    assert tells(state.decided("in use", own=True, now=21.0), Train)


def test_rounds_end_at_their_number():
    state = rounds(most=1)
    ready(state)
    state.said(Result(False, "worse", "w"), 1.0)
    assert tells(state.frames_known(1000, 1000, 2.0), Train) == []


def test_rounds_done_before_a_restart_count():
    state = rounds(most=1, rounds=1, frames_used=10)
    state.allow(True, 0.0)
    assert state.frames_known(1000, 1000, 0.0) == []


def test_after_retention_has_dropped_frames_and_a_restart_new_ones_still_begin_a_round():
    state = rounds(rounds=7, frames_used=10_000)
    state.allow(True, 0.0)
    assert state.frames_known(1000, 10_000, 0.0) == []
    assert state.frames_known(1004, 10_004, 1.0) == []
    assert state.frames_known(1005, 10_005, 2.0) == [StartTrainer()]


def test_a_node_that_may_not_train_waits_until_it_may():
    state = rounds()
    assert state.frames_known(100, 100, 0.0) == []
    assert state.allow(True, 0.0) == [StartTrainer()]


def test_a_failed_round_is_written_down_and_not_repeated_without_new_frames():
    state = rounds()
    ready(state)
    (adopt, *_) = state.said(Failed("no validation frames"), 1.0)
    assert (adopt.deploy, adopt.reason, adopt.weights) == (False, "no validation frames", "")
    assert state.tick(100.0) == []


def test_a_trainer_that_dies_is_started_again_after_its_wait_and_gets_the_round_again():
    state = rounds()
    ready(state)
    assert state.lost("signal SIGKILL", 5.0, 1.0) == []
    assert state.tick(4.9) == []
    assert state.tick(5.0) == [StartTrainer()]
    assert len(tells(state.said(Ready(), 6.0), Train)) == 1


def test_a_round_that_kills_trainers_is_given_up():
    state = rounds()
    ready(state)
    for _ in range(2):
        assert state.lost("signal SIGKILL", 0.0, 1.0) == []
        state.tick(1.0)
        state.said(Ready(), 1.0)
    (adopt,) = state.lost("signal SIGKILL", 0.0, 1.0)
    assert "died 3 times" in adopt.reason
    assert state.tick(2.0) == []


def test_only_crashes_during_a_round_count_against_it():
    state = rounds()
    state.allow(True, 0.0)
    state.frames_known(10, 100, 0.0)
    for _ in range(5):
        assert state.lost("no memory", 0.0, 1.0) == []
        assert state.tick(1.0) == [StartTrainer()]
    assert tells(state.said(Ready(), 1.0), Train)
    assert state.lost("signal SIGKILL", 0.0, 2.0) == []
    assert state.tick(3.0) == [StartTrainer()]


WEIGHTS = Received("received.safetensors", "ab", {"map50": 0.5})


def test_received_weights_are_deployed_while_no_own_detector_is_in_use():
    (adopt,) = rounds().weights_received(WEIGHTS, 0.0)
    assert (adopt.deploy, adopt.source, adopt.digest) == (True, "received", "ab")


def test_received_weights_are_deployed_as_they_come_on_a_node_that_never_trains():
    (adopt,) = rounds(enabled=False, detector="d", own=True).weights_received(WEIGHTS, 0.0)
    assert adopt.deploy


def test_received_weights_are_judged_against_a_detector_trained_here():
    state = rounds(detector="mine", own=True)
    assert state.weights_received(WEIGHTS, 0.0) == [StartTrainer()]
    (judge,) = tells(state.said(Ready(), 1.0), Judge)
    assert (judge.weights, judge.current) == ("received.safetensors", "mine")
    (adopt,) = state.said(Result(False, "it is worse", "received.safetensors"), 2.0)
    assert (adopt.deploy, adopt.source, adopt.reason) == (False, "received", "it is worse")


NEWER = Received("newer.safetensors", "cd", {})


def test_a_verdict_holds_for_the_weights_that_were_judged_and_newer_ones_are_judged_after_it():
    state = rounds(detector="mine", own=True)
    state.weights_received(WEIGHTS, 0.0)
    state.said(Ready(), 1.0)
    assert state.weights_received(NEWER, 2.0) == []
    (adopt,) = state.said(Result(True, "it is better", "received.safetensors"), 3.0)
    assert (adopt.weights, adopt.digest) == ("received.safetensors", "ab")
    # What is in use was received now, so the fog's gate is enough for the newer ones.
    (adopt,) = state.decided("in use", own=False, now=4.0)
    assert (adopt.weights, adopt.deploy) == ("newer.safetensors", True)


def test_weights_that_were_refused_give_way_to_the_judgement_of_newer_ones():
    state = rounds(detector="mine", own=True)
    state.weights_received(WEIGHTS, 0.0)
    state.said(Ready(), 1.0)
    state.weights_received(NEWER, 2.0)
    state.said(Result(False, "it is worse", "received.safetensors"), 3.0)
    (judge,) = tells(state.decided("mine", own=True, now=4.0), Judge)
    assert judge.weights == "newer.safetensors"


def test_a_judgement_that_was_cut_short_is_done_again():
    state = rounds(detector="mine", own=True)
    state.weights_received(WEIGHTS, 0.0)
    state.said(Ready(), 1.0)
    state.lost("signal SIGKILL", 0.0, 2.0)
    state.tick(3.0)
    assert tells(state.said(Ready(), 4.0), Judge)[0].weights == "received.safetensors"


def test_received_weights_wait_for_the_decision_on_a_detector_trained_here():
    state = rounds()
    ready(state)
    state.said(Result(True, "better", "w"), 1.0)
    assert state.weights_received(WEIGHTS, 2.0) == []
    assert tells(state.decided("mine", own=True, now=3.0), Judge)


def test_the_end_of_a_round_is_written_after_weights_adopted_meanwhile():
    state = rounds()
    ready(state)
    (first,) = state.weights_received(WEIGHTS, 1.0)
    assert (first.source, state.said(Failed("it diverged"), 2.0)) == ("received", [])
    (second,) = state.decided("received", own=False, now=3.0)
    assert second.source == "trained"


def test_a_round_is_judged_against_weights_deployed_while_it_ran():
    state = rounds(detector="old")
    ready(state)
    state.weights_received(WEIGHTS, 1.0)
    state.decided("in use", own=False, now=1.5)
    (judge,) = tells(state.said(Result(True, "better than the old", "w", {"steps": 9}), 2.0), Judge)
    assert (judge.weights, judge.current) == ("w", "in use")
    assert state.phase == "judging"
    (adopt,) = state.said(Result(False, "worse than the new", "w", {"map50": 0.1}), 3.0)
    assert (adopt.deploy, adopt.source, adopt.reason) == (False, "trained", "worse than the new")
    assert adopt.metrics == {"steps": 9, "map50": 0.1}
    assert state.rounds == 1


def test_a_round_waits_for_weights_that_are_being_deployed_before_it_is_judged():
    state = rounds(detector="old")
    ready(state)
    state.weights_received(WEIGHTS, 1.0)
    assert state.said(Result(True, "better than the old", "w"), 2.0) == []
    (judge,) = tells(state.decided("in use", own=False, now=3.0), Judge)
    assert judge.current == "in use"
    (adopt,) = state.said(Result(True, "better than both", "w"), 4.0)
    assert (adopt.deploy, adopt.weights, adopt.frames) == (True, "w", 10)


def test_the_second_judgement_of_a_round_survives_a_crash_of_the_trainer():
    state = rounds(detector="old")
    ready(state)
    state.weights_received(WEIGHTS, 1.0)
    state.decided("in use", own=False, now=1.5)
    state.said(Result(True, "better than the old", "w"), 2.0)
    state.lost("signal SIGKILL", 3.0, 2.5)
    assert state.tick(3.0) == [StartTrainer()]
    assert tells(state.said(Ready(), 4.0), Judge)[0].weights == "w"


def test_a_round_that_ends_while_the_node_stops_is_still_written_down():
    state = rounds()
    ready(state)
    state.stop()
    (adopt,) = state.said(Result(True, "better", "w"), 1.0)
    assert adopt.deploy


def test_a_stopped_node_starts_nothing():
    state = rounds()
    ready(state)
    assert state.stop() == [Tell(Stop())]
    state.lost("exit code 0", 0.0, 1.0)
    assert state.tick(100.0) == []
