"""The trainer process as its daemon sees it: carries out what :mod:`common.node.training_rounds` decides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import MessageError, reason
from common.node.child import Child
from common.node.detector_history import Decision, DetectorHistory
from common.node.jobs import Call, Jobs
from common.node.learning_messages import Busy, Failed, LearningMessage, Start, from_map, to_map
from common.node.logs import about
from common.node.mailbox import Mailbox
from common.node.settings import ChildSettings
from common.node.training_instructions import Adopt, StartTrainer, Tell, TrainingInstruction
from common.node.training_rounds import TrainingRounds
from common.wire.backoff import Backoff

__all__ = ["TrainerLink"]

_log = logging.getLogger(__name__)


class TrainerLink:
    """Starts, tells, restarts and stops the trainer, and writes its decisions down.

    Args:
        rounds: The state machine that decides.
        history: The node's detector folder.
        start: First message to each new trainer.
        module: Module of the trainer process.
        threads: Its CPU threads.
        children: Bounds of child processes.
        mailbox: Brings what the trainer says to the I/O thread.
        jobs: Writes decisions.
        on_decision: Called in the I/O thread after a decision is on disk.
    """

    def __init__(
        self,
        rounds: TrainingRounds,
        history: DetectorHistory,
        *,
        start: Start,
        module: str,
        threads: int,
        children: ChildSettings,
        mailbox: Mailbox[Call],
        jobs: Jobs,
        on_decision: Callable[[Decision], None],
    ) -> None:
        self.rounds = rounds
        self.history = history
        self._start = start
        self._module = module
        self._threads = threads
        self._children = children
        self._mailbox = mailbox
        self._jobs = jobs
        self._on_decision = on_decision
        self._backoff = Backoff(children.restart_first_s, children.restart_max_s)
        self._child: Child | None = None
        self._unwritten = False
        self._busy = False
        self._crashes = 0
        self._problem = ""

    @property
    def child(self) -> Child | None:
        """The running process, if any."""
        return self._child

    @property
    def _job(self) -> dict[str, Any]:
        return about(job=f"training round {self.rounds.rounds + 1}")

    def perform(self, instructions: Sequence[TrainingInstruction]) -> None:
        """Carry out instructions."""
        for instruction in instructions:
            match instruction:
                case StartTrainer():
                    self._launch()
                case Tell(message):
                    self._tell(message)
                case Adopt():
                    self._adopt(instruction)

    def busy(self, busy: bool) -> None:
        """Whether uploads wait, so that training has to."""
        if busy != self._busy:
            self._busy = busy
            self._tell(Busy(busy))

    def status(self) -> dict[str, Any]:
        """The training's part of a status file."""
        progress = self.rounds.progress
        decisions = self.history.decisions
        return {
            "phase": self.rounds.phase,
            "pid": None if self._child is None else self._child.pid,
            "frames": self.rounds.frames,
            "rounds": self.rounds.rounds,
            "step": None if progress is None else progress.step,
            "steps": None if progress is None else progress.steps,
            "loss": None if progress is None else progress.loss,
            "detector": self.rounds.detector,
            "agreement": self.rounds.checks.agreement,
            "crashes": self._crashes,
            "problem": self._problem,
            "decisions": len(decisions),
            "last_decision": None
            if not decisions
            else {
                "source": decisions[-1].source,
                "deploy": decisions[-1].deploy,
                "reason": decisions[-1].reason,
                "metrics": decisions[-1].metrics,
            },
        }

    def _launch(self) -> None:
        try:
            child = Child(
                self._module,
                arguments=[str(self._children.pipe_bytes)],
                threads=self._threads,
                max_bytes=self._children.pipe_bytes,
                on_message=lambda value: self._mailbox.post(lambda: self._said(value)),
                on_exit=lambda code: self._mailbox.post(lambda: self._lost(f"exit code {code}")),
            )
        except OSError as error:
            self._child = None
            self._lost(f"it cannot be started: {reason(error)}")
            return
        self._child = child
        _log.info("trainer started, pid %d", child.pid, extra=self._job)
        self._tell(self._start)
        if self._busy:
            self._tell(Busy(True))

    def _tell(self, message: LearningMessage) -> None:
        if self._child is None:
            return
        try:
            self._child.send(to_map(message))
        except MessageError as error:
            _log.error("%s; it is restarted", error)
            self._child.terminate()

    def _said(self, value: dict[str, Any]) -> None:
        try:
            message = from_map(value)
        except MessageError as error:
            _log.error("the trainer is restarted: %s", error)
            if self._child is not None:
                self._child.terminate()
            return
        self._problem = ""
        if isinstance(message, Failed):
            _log.warning("the trainer could not do what it was told: %s", message.reason, extra=self._job)
        self.perform(self.rounds.said(message, time.monotonic()))

    def _lost(self, reason: str) -> None:
        now = time.monotonic()
        self._child = None
        self._crashes += 1
        self._problem = f"the trainer has ended ({reason})"
        wait = self._backoff.failed(now)
        _log.warning(
            "the trainer has ended (%s); a new one starts when needed, in %.1f s at most",
            reason,
            wait,
            extra=self._job,
        )
        self.perform(self.rounds.lost(reason, now + wait, now))

    def _adopt(self, adopt: Adopt) -> None:
        self._backoff.succeeded()

        def decide() -> Decision:
            return self.history.decide(
                time=time.time(),
                source=adopt.source,
                deploy=adopt.deploy,
                reason=adopt.reason,
                frames=adopt.frames,
                metrics=adopt.metrics,
                weights=adopt.weights,
            )

        def decided(decision: Decision) -> None:
            self._unwritten = False
            verb = "deployed" if decision.deploy else "not deployed"
            _log.info("%s weights %s: %s", adopt.source, verb, decision.reason, extra=self._job)
            in_use = self.history.in_use
            detector = None if in_use is None else str(in_use)
            before = self.history.previous
            instructions = self.rounds.decided(
                detector,
                own=self.history.own,
                now=time.monotonic(),
                previous=None if before is None else str(before),
            )
            # First: it may read the weights, which the next decision replaces.
            self._on_decision(decision)
            self.perform(instructions)

        def failed(error: Exception) -> None:
            if not self._unwritten:
                _log.error("a decision on weights cannot be written down yet: %s; it is tried again", error)
            self._unwritten = True
            self.rounds.undecided(time.monotonic())

        self._jobs.run(decide, decided, failed)
