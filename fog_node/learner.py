"""The learning side of a fog node: whose turn it is to train, and weights into the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.node.child import Child
from common.node.detector_history import Decision, DetectorHistory
from common.node.jobs import Call, Jobs
from common.node.learning_messages import Start
from common.node.mailbox import Mailbox
from common.node.settings import ChildSettings
from common.node.trainer_link import TrainerLink
from common.node.training_rounds import RoundRules, TrainingRounds
from common.store.contract import FogStore
from common.store.records import RecordKind
from fog_node.settings import FogTrainingSettings

__all__ = ["Learner"]

_log = logging.getLogger(__name__)


class Learner:
    """Drives the trainer and publishes what its gate lets through.

    Args:
        settings: Training at the fog.
        children: Bounds of child processes.
        folder: Folder of the store.
        store: The fog's store.
        key: The fog's public key, under which its weights stand in the log.
        jobs: The store's writing thread.
        mailbox: Brings what the trainer says to the I/O thread.
        on_published: Called with the log position and the bytes of published weights.
    """

    def __init__(
        self,
        settings: FogTrainingSettings,
        children: ChildSettings,
        *,
        folder: Path,
        store: FogStore,
        key: str,
        jobs: Jobs,
        mailbox: Mailbox[Call],
        on_published: Callable[[int, int], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._key = key
        self._jobs = jobs
        self._on_published = on_published
        history = DetectorHistory(folder / "detector")
        history.clean()
        in_use = history.in_use
        rounds = TrainingRounds(
            _rules(settings, settings.min_frames, settings.rounds),
            enabled=settings.strategy in ("auto", "fog") or settings.starter_frames > 0,
            rounds=history.rounds,
            frames_used=history.frames_used,
            detector=None if in_use is None else str(in_use),
            own=history.own,
            previous=None if history.previous is None else str(history.previous),
        )
        self._trainer = TrainerLink(
            rounds,
            history,
            start=Start(
                role="fog",
                store=str(folder),
                work_dir=str(folder / "trainer"),
                settings=settings.detector.model_dump(mode="json"),
            ),
            module=settings.module,
            threads=settings.detector.threads,
            children=children,
            mailbox=mailbox,
            jobs=jobs,
            on_decision=self._decided,
        )
        # A crash between a decision and its record in the log: the same record again is the same position.
        deployed = [entry for entry in history.decisions if entry.deploy]
        if deployed:
            self._publish(deployed[-1])

    @property
    def child(self) -> Child | None:
        """The trainer process, if it runs."""
        return self._trainer.child

    @property
    def seconds(self) -> float | None:
        """Seconds of the newest round that measured them."""
        for entry in reversed(self._trainer.history.decisions):
            value = entry.metrics.get("seconds")
            if isinstance(value, int | float) and value > 0:
                return float(value)
        return None

    def update(self, frames: int, position: int, *, planned: bool) -> None:
        """Frames to train on, the log position that holds them, and whether the plan lets the fog train."""
        settings, rounds = self._settings, self._trainer.rounds
        starter = settings.starter_frames > 0 and rounds.detector is None
        first = settings.starter_frames if starter else settings.min_frames
        rules = _rules(settings, first, None if starter else settings.rounds)
        now = time.monotonic()
        self._trainer.perform(rounds.frames_known(frames, position, now))
        self._trainer.perform(rounds.allow(planned or starter, now, rules))

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._trainer.perform(self._trainer.rounds.tick(now))

    def busy(self, busy: bool) -> None:
        """Whether uploads wait: training makes way for them."""
        self._trainer.busy(busy)

    def stop(self) -> None:
        """Tell the trainer to save its work and end."""
        self._trainer.perform(self._trainer.rounds.stop())

    def status(self) -> dict[str, Any]:
        """The training's part of the status file."""
        return self._trainer.status()

    def _decided(self, decision: Decision) -> None:
        if decision.deploy:
            self._publish(decision)

    def _publish(self, decision: Decision) -> None:
        """Weights that the gate has let through go into the log, for every subscribed edge."""
        history = self._trainer.history
        # The number of a detector in the log: how many were deployed before it.
        number = decision.deployed_before

        def append() -> tuple[int, int]:
            payload = history.weights.read_bytes()
            meta = {"reason": decision.reason, "metrics": decision.metrics, "frames": decision.frames}
            epoch = self._store.log_id
            return self._store.append(RecordKind.WEIGHTS, self._key, epoch, number, meta, payload), len(
                payload
            )

        def done(answer: tuple[int, int]) -> None:
            position, size = answer
            _log.info("the detector of %d bytes stands at log position %d", size, position)
            self._on_published(position, size)

        def failed(error: Exception) -> None:
            _log.error("the detector could not be published: %s", error)

        self._jobs.run(append, done, failed)


def _rules(settings: FogTrainingSettings, first: int, rounds: int | None) -> RoundRules:
    return RoundRules(
        first,
        settings.min_new_frames,
        rounds,
        settings.max_wait_s,
        settings.check_s,
        settings.agreement_drop,
    )
