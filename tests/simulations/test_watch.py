"""How far a deployment is, told from status files alone."""

from pathlib import Path
from typing import Any

import pytest

from common.errors import DeploymentError
from common.node.status_file import write_status
from simulations.stages import Stages
from simulations.watch import Expectation, Observation, Stage, observe, status_of

EXPECTED = Expectation(clip_frames=20, frames=40, trainers=2)


def training(**more: Any) -> dict[str, Any]:
    return {"rounds": 0, "step": None, "steps": None, "last_decision": None, **more}


def fog(packets: int, tombstones: int = 0, position: int = 0, held: tuple[int, ...] = (), **more: Any):
    return {
        "state": "serving",
        "encoded": {"packets": packets, "tombstones": tombstones},
        "training": training(),
        "log_position": position,
        "peers": {str(i): {"held_position": value} for i, value in enumerate(held)},
        **more,
    }


STARTED = training(rounds=1, last_decision={"deploy": True, "reason": "good", "metrics": {"steps": 200}})
FAILED = training(rounds=1, last_decision={"deploy": False, "reason": "mAP 0", "metrics": {"steps": 200}})
WAITING = {"training": training()}
TRAINED = {"training": training(rounds=1, last_decision={"deploy": False, "metrics": {"steps": 160}})}


def test_before_the_fog_serves_the_nodes_are_starting() -> None:
    assert observe(EXPECTED, None, []).stage is Stage.START
    assert observe(EXPECTED, fog(0, state="starting"), []).stage is Stage.START


def test_tombstones_count_as_finished_frames() -> None:
    assert observe(EXPECTED, fog(11, 2), [None] * 3) == Observation(Stage.FIRST_CLIP, 13, 20)


def test_the_starter_is_trained_once_the_first_clip_is_encoded() -> None:
    status = fog(20, training=training(step=30, steps=200))
    assert observe(EXPECTED, status, [None] * 3) == Observation(Stage.STARTER, 30, 200)


def test_a_starter_that_is_not_deployed_ends_the_run_with_the_reason() -> None:
    with pytest.raises(DeploymentError, match=r"not deployed \(mAP 0\)"):
        observe(EXPECTED, fog(20, training=FAILED), [None] * 3)


def test_the_second_clip_follows_the_starter() -> None:
    assert observe(EXPECTED, fog(27, training=STARTED), [WAITING] * 3) == Observation(
        Stage.SECOND_CLIP, 7, 20
    )


def test_only_the_first_edges_train_and_their_steps_add_up() -> None:
    busy = {"training": training(step=40, steps=160)}
    seen = observe(EXPECTED, fog(40, training=STARTED), [TRAINED, busy, WAITING])
    assert seen == Observation(Stage.ADAPT, 200, 320)


def test_an_edge_without_a_status_has_not_trained() -> None:
    assert observe(EXPECTED, fog(40, training=STARTED), [None] * 3).stage is Stage.ADAPT


def test_the_run_ends_when_every_edge_holds_the_whole_log() -> None:
    edges = [TRAINED, TRAINED, WAITING]
    behind = fog(40, position=41, held=(41, 40, 41), training=STARTED)
    assert observe(EXPECTED, behind, edges) == Observation(Stage.SETTLE, 2, 3)
    complete = fog(40, position=41, held=(41, 41, 41), training=STARTED)
    assert observe(EXPECTED, complete, edges).stage is Stage.DONE


def test_a_status_is_read_from_a_store_and_may_be_missing(tmp_path: Path) -> None:
    assert status_of(tmp_path) is None
    write_status(tmp_path, {"state": "serving"})
    status = status_of(tmp_path)
    assert status is not None
    assert status["state"] == "serving"


def test_stages_are_timed_and_shown_nowhere_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages() as stages:
        stages.update("first", 1, 2)
        stages.update("second")
        stages.update("first", 2, 2)
        seconds = stages.finish()
    assert list(seconds) == ["first", "second", "total"]
    assert seconds["first"] + seconds["second"] == pytest.approx(seconds["total"], abs=0.01)
    assert capsys.readouterr() == ("", "")


def test_stages_are_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Stages() as stages:
        stages.update("recording and encoding", 3, 7)
        stages.finish()
    assert "recording and encoding" in terminal.getvalue()
