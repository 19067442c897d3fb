"""When a round begins early, when the detector in use is checked, and when the one before it comes back."""

import pytest

from common.node.detector_checks import DetectorChecks
from common.node.detector_history import DetectorHistory
from common.node.learning_messages import (
    Check,
    Checked,
    Failed,
    Judge,
    Ready,
    Result,
    Train,
    from_map,
    to_map,
)
from common.node.training_instructions import Adopt, StartTrainer, Tell
from common.node.training_rounds import Received, RoundRules, TrainingRounds


def rounds(*, wait=None, check=None, drop=0.2, previous=None, detector="now", **state):
    rules = RoundRules(10, 5, None, wait, check, drop)
    made = TrainingRounds(rules, enabled=True, detector=detector, own=True, previous=previous, **state)
    made.allow(True, 0.0)
    return made


def running(made, frames, now=0.0):
    """A trainer that is ready, after a first round with ``frames`` frames."""
    made.frames_known(frames, 100, now)
    made.said(Ready(), now)
    made.said(Result(False, "worse", "w"), now)
    made.decided("now", own=True, now=now, previous=made._previous)
    return made


def tells(instructions, kind):
    return [e.message for e in instructions if isinstance(e, Tell) and isinstance(e.message, kind)]


def test_after_a_long_time_any_new_frame_begins_a_round():
    made = running(rounds(wait=100.0), 10)
    assert tells(made.frames_known(11, 101, 99.0), Train) == []
    assert len(tells(made.tick(100.0), Train)) == 1


def test_time_alone_begins_none():
    made = running(rounds(wait=100.0), 10)
    assert tells(made.tick(1000.0), Train) == []


def test_after_a_restart_the_wait_begins_anew():
    made = rounds(wait=100.0, rounds=1, frames_used=10)
    assert made.frames_known(12, 100, 50.0) == []
    assert made.tick(99.0) == []
    assert made.tick(100.0) == [StartTrainer()]


def test_a_check_is_made_in_its_interval_if_there_are_new_frames():
    made = running(rounds(check=60.0, previous="before"), 10)
    made.tick(0.0)
    assert tells(made.tick(61.0), Check) == [Check("now", "before")]
    assert made.phase == "checking"
    made.said(Checked(False, "kept", 0.8), 62.0)
    assert (made.phase, made.checks.agreement) == ("ready", 0.8)
    assert tells(made.tick(200.0), Check) == [], "nothing has come since"
    assert tells(made.frames_known(11, 101, 201.0), Check) == [Check("now", "before")]


def test_a_drop_in_agreement_begins_a_round_with_any_new_frame():
    made = running(rounds(check=60.0), 10)
    made.tick(0.0)
    for frames, agreement, now in ((11, 0.7, 60.0), (12, 0.9, 120.0), (13, 0.75, 180.0)):
        assert tells(made.frames_known(frames, 100 + frames, now), Check)
        assert tells(made.said(Checked(False, "kept", agreement), now), Train) == []
    assert tells(made.frames_known(14, 120, 240.0), Check)
    (train,) = tells(made.said(Checked(False, "kept", 0.6), 241.0), Train)
    assert train.start_weights == "now"
    made.said(Result(False, "worse", "w"), 250.0)
    assert made.checks.agreement is None, "a round answers the drop, whether it was deployed or not"


def test_a_check_that_failed_or_was_cut_short_holds_up_nothing():
    made = running(rounds(check=60.0), 10)
    made.tick(0.0)
    made.tick(60.0)
    assert made.phase == "checking"
    made.said(Failed("bad weights"), 61.0)
    assert made.phase == "ready"
    made.frames_known(11, 101, 121.0)
    assert made.phase == "checking"
    made.lost("signal SIGKILL", 122.0, 121.5)
    assert made.frames_known(15, 105, 123.0) == [StartTrainer()]
    assert tells(made.said(Ready(), 124.0), Train)


def test_a_detector_that_does_worse_than_the_one_before_gives_way_to_it():
    made = running(rounds(check=60.0, previous="before"), 10)
    made.tick(0.0)
    made.tick(60.0)
    (adopt,) = made.said(Checked(True, "rolled back", 0.3, {"map50": 0.5}), 61.0)
    assert adopt == Adopt(True, "rolled_back", "before", "rolled back", {"map50": 0.5}, 10)
    made.decided("now", own=False, now=62.0, previous=None)
    made.frames_known(11, 101, 130.0)
    assert made.said(Checked(True, "again", 0.3), 131.0) == [], "there is none before it any more"


def test_judgements_and_rounds_come_before_checks():
    made = running(rounds(check=60.0), 10)
    made.tick(0.0)
    assert tells(made.frames_known(15, 105, 61.0), Train)
    made = running(rounds(check=60.0), 10)
    made.tick(0.0)
    assert tells(made.weights_received(Received("r", "ab", {}), 61.0), Judge)


@pytest.mark.parametrize("message", [Check("a", None), Check("a", "b"), Checked(True, "why", None, {"x": 1})])
def test_messages_cross_the_pipe(message):
    assert from_map(to_map(message)) == message


def test_no_interval_means_no_checks():
    checks = DetectorChecks(None, 0.2)
    assert not checks.due(1e9, 100)


def decide(history, path, source="trained", deploy=True):
    return history.decide(
        time=1.0, source=source, deploy=deploy, reason="r", frames=1, metrics={}, weights=str(path)
    )


def test_the_detector_before_is_kept_comes_back_once_and_survives_restarts(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    weights = tmp_path / "w"
    for content, source in ((b"fog", "received"), (b"mine", "trained"), (b"refused", "trained")):
        weights.write_bytes(content)
        decide(history, weights, source, deploy=content != b"refused")
    history = DetectorHistory(tmp_path / "detector")
    assert (history.in_use.read_bytes(), history.previous.read_bytes(), history.own) == (
        b"mine",
        b"fog",
        True,
    )
    decision = decide(history, history.previous, "rolled_back")
    assert decision.deploy
    history = DetectorHistory(tmp_path / "detector")
    assert (history.in_use.read_bytes(), history.previous) == (b"fog", None)
    assert not history.own, "what came back was received"
    assert history.rounds == 2


def test_a_decision_that_is_written_again_after_a_crash_keeps_the_right_one(tmp_path):
    history = DetectorHistory(tmp_path / "detector")
    weights = tmp_path / "w"
    weights.write_bytes(b"one")
    decide(history, weights)
    weights.write_bytes(b"two")
    decide(history, weights)
    # As if it had been killed before the history was written: the same decision again.
    decide(history, weights)
    assert history.previous.read_bytes() == b"one"
