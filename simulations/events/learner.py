"""Rounds of training of one simulated node: the product's state machine, with a stand-in for the trainer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from common.node.learning_messages import Judge, Ready, Result, Train
from common.node.training_instructions import Adopt, StartTrainer, Tell, TrainingInstruction
from common.node.training_rounds import Received, RoundRules, TrainingRounds
from simulations.events.engine import Engine

__all__ = ["Learner"]

MOST_PENDING = 1024
"""Arrivals remembered before those that are past are counted."""


class Learner:
    """Trains when its rounds are due.

    The state machine is told of frames when a round could be due and at every other event, not at each
    frame: in between, a frame more changes nothing.

    Args:
        engine: The clock.
        rules: When rounds are due.
        start_s: Seconds until the trainer is ready.
        round_s: Seconds of a round over so many frames.
        on_trained: Called with the time and the seconds of a round that has ended with weights which the gate
            lets through.
        refuses: Draws whether the gate refuses the weights of a round.

    Attributes:
        trained, refused: Rounds that have ended, and those of them whose weights the gate refused.
        busy_s: Seconds of these rounds.
    """

    def __init__(
        self,
        engine: Engine,
        rules: RoundRules,
        *,
        start_s: float,
        round_s: Callable[[int], float],
        on_trained: Callable[[float, float], None],
        refuses: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._start_s = start_s
        self._round_s = round_s
        self._on_trained = on_trained
        self._refuses = refuses
        self.trained = self.refused = 0
        self.busy_s = 0.0
        self._rounds = TrainingRounds(rules, enabled=True)
        self._pending: deque[float] = deque()
        self._frames = 0
        self._needed = rules.first_frames
        self._version = 0
        self.last_s: float | None = None
        self.finished = 0.0
        self.received = 0

    @property
    def rounds(self) -> int:
        """Rounds done."""
        return self._rounds.rounds

    def allow(self, allowed: bool, now: float) -> None:
        """Whether the strategy lets this node train now."""
        self._count(now)
        self._perform(self._rounds.allow(allowed, now), now)

    def frame(self, time: float) -> None:
        """A frame to train on is here from ``time`` on, which is not before that of any earlier frame."""
        self._pending.append(time)
        if self._frames + len(self._pending) == self._needed:
            self._engine.at(time, self._check)
        if len(self._pending) > MOST_PENDING:
            self._count(self._engine.now)

    def weights(self, now: float) -> None:
        """Weights have come from the fog."""
        self.received += 1
        self.finished = now
        self._count(now)
        received = Received(f"received {self.received}", f"{self.received}", {})
        self._perform(self._rounds.weights_received(received, now), now)

    def _count(self, now: float) -> None:
        """Count the frames that have come by now."""
        pending, before = self._pending, self._frames
        while pending and pending[0] <= now:
            pending.popleft()
            self._frames += 1
        if self._frames > before:
            self._perform(self._rounds.frames_known(self._frames, self._frames, now), now)

    def _check(self, now: float, _: Any) -> None:
        self._count(now)

    def _perform(self, instructions: Sequence[TrainingInstruction], now: float) -> None:
        for instruction in instructions:
            match instruction:
                case StartTrainer():
                    self._engine.at(now + self._start_s, self._said, Ready())
                case Tell(Train()):
                    seconds = self._round_s(self._frames)
                    self._needed = self._frames + self._rules.new_frames
                    self._engine.at(now + seconds, self._trained, seconds)
                case Tell(Judge(_, weights, _)):
                    self._said(now, Result(True, "received", weights))
                case Adopt(deploy, source, weights):
                    detector = weights if deploy else self._rounds.detector
                    self._perform(self._rounds.decided(detector, own=source == "trained", now=now), now)
                case _:
                    pass

    def _trained(self, now: float, seconds: float) -> None:
        self.last_s = seconds
        self.finished = now
        self.trained += 1
        self.busy_s += seconds
        refused = self._refuses()
        self.refused += refused
        self._said(now, Result(not refused, "trained", f"round {self.rounds + 1}", {"seconds": seconds}))
        if not refused:
            self._on_trained(now, seconds)

    def _said(self, now: float, message: Ready | Result) -> None:
        self._count(now)
        self._perform(self._rounds.said(message, now), now)
        missing = self._needed - self._frames
        if 0 < missing <= len(self._pending):
            self._engine.at(next(islice(self._pending, missing - 1, None)), self._check)
