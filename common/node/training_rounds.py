"""When a node trains and what it deploys: a pure state machine shared by edge and fog (no torch).

The daemon tells it of frames, weights and what its trainer process says; it answers with instructions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from common.node.detector_checks import DetectorChecks
from common.node.learning_messages import (
    Check,
    Checked,
    Failed,
    Judge,
    LearningMessage,
    Position,
    Progress,
    Ready,
    Result,
    Stop,
    Train,
)
from common.node.training_instructions import Adopt, StartTrainer, Tell, TrainingInstruction

__all__ = [
    "Phase",
    "Received",
    "RoundRules",
    "TrainingRounds",
]

Phase: TypeAlias = Literal["idle", "starting", "ready", "training", "judging", "checking"]

CRASHES = 3
"""Crashes of the trainer in one round after which the round is given up until new frames come."""

RETRY_S = 10.0
"""Wait before a decision that could not be written down is tried again, seconds."""


@dataclass(frozen=True, slots=True)
class RoundRules:
    """When rounds are due.

    Attributes:
        first_frames: Frames to train on before the first round.
        new_frames: New ones before each later round.
        max_rounds: Rounds after which training ends; None: no end.
        max_wait_s: Seconds after which a later round begins with any new frame; None: never for that reason.
        check_s: Seconds between two checks of the detector in use; None: none.
        agreement_drop: Drop of the agreement with the labels (0..1) after which a later round begins with any
            new frame.
    """

    first_frames: int
    new_frames: int
    max_rounds: int | None = None
    max_wait_s: float | None = None
    check_s: float | None = None
    agreement_drop: float = 0.2


@dataclass(frozen=True, slots=True)
class Received:
    """Weights that came through the log and were written to a file.

    Attributes:
        weights: Path of the safetensors file.
        digest: Content hash in hex.
        metrics: What the fog said of them.
    """

    weights: str
    digest: str
    metrics: Mapping[str, Any]


class TrainingRounds:
    """Rounds of one node.

    Args:
        rules: When rounds are due.
        enabled: Whether this node ever trains; if not, received weights are deployed as they come.
        rounds: Rounds done before (from the history).
        frames_used: Frames known when the last of them began.
        detector: Path of the detector in use, or None.
        own: Whether the detector in use was trained here.
        previous: Path of the detector before it, or None.
    """

    def __init__(
        self,
        rules: RoundRules,
        *,
        enabled: bool,
        rounds: int = 0,
        frames_used: int = 0,
        detector: str | None = None,
        own: bool = False,
        previous: str | None = None,
    ) -> None:
        self._rules = rules
        self._enabled = enabled
        self._rounds = rounds
        self._used = frames_used
        self._detector = detector
        self._own = own
        self._previous = previous
        self.checks = DetectorChecks(rules.check_s, rules.agreement_drop)
        """Checks of the detector in use."""
        self._ended_at: float | None = None
        self._allowed = False
        self._phase: Phase = "idle"
        self._frames = 0
        self._position = 0
        self._told = -1
        self._begun_with = 0
        self._deployments = 0
        self._begun_after = 0
        self._trained: Result | None = None
        self._crashes = 0
        self._not_before = 0.0
        self._received: Received | None = None
        self._judging: Received | None = None
        self._decisions: list[Adopt] = []
        self._writing = False
        self._write_not_before = 0.0
        self._progress: Progress | None = None
        self._stopped = False

    @property
    def phase(self) -> Phase:
        """What the trainer does."""
        return self._phase

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return self._rounds

    @property
    def frames(self) -> int:
        """Frames to train on."""
        return self._frames

    @property
    def detector(self) -> str | None:
        """Path of the detector in use."""
        return self._detector

    @property
    def progress(self) -> Progress | None:
        """Newest progress of the round under way."""
        return self._progress

    def allow(self, allowed: bool, now: float, rules: RoundRules | None = None) -> list[TrainingInstruction]:
        """Whether the strategy lets this node train now; optionally with other rules from now on."""
        self._allowed = allowed
        self._rules = rules or self._rules
        return self._go(now)

    def frames_known(self, frames: int, position: int, now: float) -> list[TrainingInstruction]:
        """The store holds ``frames`` frames to train on, up to its ``position``.

        After a restart these are fewer than the last round began with, if retention has dropped some since:
        what comes from now on is new then.
        """
        self._frames = frames
        self._used = min(self._used, frames)
        self._position = max(position, self._position)
        return self._go(now)

    def weights_received(self, received: Received, now: float) -> list[TrainingInstruction]:
        """Weights have come through the log; only the newest that nothing is done with are kept."""
        self._received = received
        return self._go(now)

    def decided(
        self, detector: str | None, *, own: bool, now: float, previous: str | None = None
    ) -> list[TrainingInstruction]:
        """The decision is written down, and this file is the detector in use (None: there is none).

        ``previous`` is the one before it, as long as it may come back.
        """
        if self._decisions.pop(0).deploy:
            self._deployments += 1
            self.checks.deployed()
        self._previous = previous
        self._writing = False
        self._detector = detector
        self._own = own
        return self._go(now)

    def undecided(self, now: float) -> None:
        """The decision could not be written down; it is tried again later."""
        self._writing = False
        self._write_not_before = now + RETRY_S

    def said(self, message: LearningMessage, now: float) -> list[TrainingInstruction]:
        """The trainer has said something."""
        match message:
            case Ready():
                if self._phase == "starting":
                    self._phase = "ready"
            case Progress():
                self._progress = message
            case Result():
                self._end(message, now)
            case Checked():
                self._checked(message)
            case Failed() if self._phase == "checking":
                self._phase = "ready"
            case Failed(reason):
                self._end(Result(False, reason, ""), now)
            case _:
                pass
        return self._go(now)

    def lost(self, reason: str, retry_at: float, now: float) -> list[TrainingInstruction]:
        """The trainer has died; it is started again from ``retry_at`` on and resumes its checkpoint."""
        busy = self._phase in ("training", "judging")
        self._not_before = retry_at
        self._crashes += busy
        given_up = self._crashes >= CRASHES
        if given_up:
            self._end(Result(False, f"the trainer died {self._crashes} times: {reason}", ""), now)
        self._phase, self._told = "idle", -1
        # Weights whose judgement was cut short are judged again, unless newer ones have come; those of a
        # round still wait in ``_trained``.
        self._received, self._judging = self._received or self._judging, None
        return self._go(now) if given_up else []

    def tick(self, now: float) -> list[TrainingInstruction]:
        """Time has passed."""
        return self._go(now)

    def stop(self) -> list[TrainingInstruction]:
        """End the trainer."""
        self._stopped = True
        return [] if self._phase == "idle" else [Tell(Stop())]

    def _due(self, now: float) -> bool:
        """Whether a round is to begin: enough new frames, or any after a long time or a drop in agreement."""
        if not self._enabled or not self._allowed:
            return False
        if self._rules.max_rounds is not None and self._rounds >= self._rules.max_rounds:
            return False
        if self._rounds == 0:
            return self._frames >= self._rules.first_frames
        new = self._frames - self._used
        if self._ended_at is None:
            self._ended_at = now
        wait_s = self._rules.max_wait_s
        waited = wait_s is not None and now - self._ended_at >= wait_s
        return new >= self._rules.new_frames or (new > 0 and (waited or self.checks.dropped))

    def _go(self, now: float) -> list[TrainingInstruction]:
        instructions: list[TrainingInstruction] = self._adopt(now)
        if self._stopped:
            return instructions
        wanted = self._received is not None or self._trained is not None or self._due(now)
        wanted = wanted or self._check_due(now)
        if self._phase == "idle":
            if not wanted or now < self._not_before:
                return instructions
            self._phase = "starting"
            return [*instructions, StartTrainer()]
        if self._phase == "starting":
            return instructions
        if self._position > self._told:
            self._told = self._position
            instructions.append(Tell(Position(self._position)))
        if self._phase != "ready" or self._decisions:
            return instructions
        if self._trained is not None:
            self._phase = "judging"
            reason = "trained here while another detector was deployed"
            instructions.append(Tell(Judge(reason, self._trained.weights, self._detector)))
        elif self._received is not None:
            self._phase = "judging"
            self._judging, self._received = self._received, None
            reason = "received from the fog"
            instructions.append(Tell(Judge(reason, self._judging.weights, self._detector)))
        elif self._due(now):
            self._phase = "training"
            self._begun_with = self._frames
            self._begun_after = self._deployments
            self._progress = None
            new = self._frames - self._used
            instructions.append(Tell(Train(f"{new} new frames, {self._frames} in all", self._detector)))
        elif self._detector is not None and self._check_due(now):
            self._phase = "checking"
            self.checks.asked(now, self._frames)
            instructions.append(Tell(Check(self._detector, self._previous)))
        return instructions

    def _adopt(self, now: float) -> list[TrainingInstruction]:
        """The next decision to write down, if none is being written."""
        gated = self._enabled and self._own and self._detector is not None
        if self._received is not None and not gated and not self._decisions:
            received, self._received = self._received, None
            reason = "received from the fog, whose gate has let them through"
            self._decisions.append(self._of_received(received, True, reason, received.metrics))
        if not self._decisions or self._writing or now < self._write_not_before:
            return []
        self._writing = True
        return [self._decisions[0]]

    def _check_due(self, now: float) -> bool:
        may = self._enabled and self._allowed and self._detector is not None
        return may and self.checks.due(now, self._frames)

    def _checked(self, message: Checked) -> None:
        if self._phase != "checking":
            return
        self._phase = "ready"
        self.checks.answered(message.agreement)
        if message.roll_back and self._previous is not None:
            figures = message.reason, message.metrics, self._frames
            self._decisions.append(Adopt(True, "rolled_back", self._previous, *figures))

    def _end(self, result: Result, now: float) -> None:
        """The round or the judgement under way, if any, ends with this result."""
        if self._phase == "judging" and self._judging is not None:
            received, self._judging = self._judging, None
            decision = self._of_received(received, result.deploy, result.reason, result.metrics)
        elif self._phase == "judging" and self._trained is not None:
            trained, self._trained = self._trained, None
            decision = self._of_round(replace(result, weights=trained.weights), trained.metrics)
        elif self._phase == "training":
            self._rounds += 1
            self._ended_at = now
            # What has dropped was answered by this round, deployed or not.
            self.checks.deployed()
            self._used = self._begun_with
            deployed = self._deployments + sum(decision.deploy for decision in self._decisions)
            if deployed > self._begun_after and result.weights:
                # It was compared with a detector that is no longer in use.
                self._trained = result
                self._phase, self._progress, self._crashes = "ready", None, 0
                return
            decision = self._of_round(result, {})
        else:
            return
        self._phase = "ready"
        self._crashes = 0
        self._progress = None
        self._decisions.append(decision)

    def _of_round(self, result: Result, figures: Mapping[str, Any]) -> Adopt:
        metrics = {**figures, **result.metrics}
        return Adopt(result.deploy, "trained", result.weights, result.reason, metrics, self._used)

    def _of_received(
        self, received: Received, deploy: bool, reason: str, metrics: Mapping[str, Any]
    ) -> Adopt:
        return Adopt(deploy, "received", received.weights, reason, metrics, self._frames, received.digest)
