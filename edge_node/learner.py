"""The learning side of an edge node: frames to train on, received weights, and whose turn it is to train."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.node.child import Child
from common.node.detector_history import Decision, DetectorHistory, write_durably
from common.node.jobs import Call, Jobs
from common.node.learning_messages import Start
from common.node.mailbox import Mailbox
from common.node.trainer_link import TrainerLink
from common.node.training_rounds import Received, RoundRules, TrainingRounds
from common.store.contract import EdgeStore
from common.store.corrections import trainable_change
from common.store.records import RecordKind
from common.wire.messages import Plan
from edge_node.settings import EdgeSettings

__all__ = ["Learner"]

COUNT_AT_ONCE = 1000
"""Records looked at in one step when frames to train on are counted."""

LOOK_AGAIN_S = 10.0
"""Wait before the inbox is looked at again after that failed, seconds."""

_log = logging.getLogger(__name__)


class Learner:
    """Follows the store's inbox and drives the trainer.

    Received weights are deployed at once while no detector trained here is in use: the fog's gate has let
    them through. Otherwise this node's own gate compares them with its detector.

    Args:
        settings: The edge's settings.
        folder: Folder of its store.
        store: Its store.
        jobs: The store's thread.
        mailbox: Brings what the trainer says to the I/O thread.
        on_detector: Called when a detector is in use for the first time, and at each later one.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        folder: Path,
        store: EdgeStore,
        jobs: Jobs,
        mailbox: Mailbox[Call],
        on_detector: Callable[[], None],
    ) -> None:
        self._settings = settings.training
        self._store = store
        self._jobs = jobs
        self._on_detector = on_detector
        self._plan: Plan | None = None
        self._counted_to = 0
        self._trainable = 0
        self._counted = False
        self._offered: set[str] = set()
        self._look_again_at: float | None = None
        self._unread = False
        history = DetectorHistory(folder / "detector")
        history.clean()
        in_use = history.in_use
        rules = RoundRules(
            self._settings.min_new_frames,
            self._settings.min_new_frames,
            self._settings.max_rounds,
            self._settings.max_wait_s,
            self._settings.check_s,
            self._settings.agreement_drop,
        )
        self._trainer = TrainerLink(
            TrainingRounds(
                rules,
                enabled=self._settings.mode != "never",
                rounds=history.rounds,
                frames_used=history.frames_used,
                detector=None if in_use is None else str(in_use),
                own=history.own,
                previous=None if history.previous is None else str(history.previous),
            ),
            history,
            start=Start(
                role="edge",
                store=str(folder),
                work_dir=str(folder / "trainer"),
                settings=self._settings.detector.model_dump(mode="json"),
            ),
            module=self._settings.module,
            threads=self._settings.detector.threads,
            children=settings.children,
            mailbox=mailbox,
            jobs=jobs,
            on_decision=self._decided,
        )

    @property
    def child(self) -> Child | None:
        """The trainer process, if it runs."""
        return self._trainer.child

    @property
    def trained(self) -> dict[str, Any]:
        """Figures of the newest round trained here; empty before the first."""
        for entry in reversed(self._trainer.history.decisions):
            if entry.source == "trained":
                return entry.metrics
        return {}

    def start(self) -> None:
        """Look at what the store holds already."""
        if self._trainer.history.in_use is not None:
            self._on_detector()
        self.inbox_grew(weights=True)

    def inbox_grew(self, *, weights: bool) -> None:
        """Records were stored; ``weights``: some of them were weights."""

        def failed(error: Exception) -> None:
            if not self._unread:
                _log.error("what has been received cannot be taken over yet: %s; it is tried again", error)
            self._unread = True
            self._look_again_at = time.monotonic() + LOOK_AGAIN_S

        def counted(_: None) -> None:
            self._counted = True
            self._go()

        self._jobs.run(self._count, counted, failed)
        if weights:
            self._jobs.run(self._newest_weights, self._weights_found, failed)

    def planned(self, plan: Plan) -> None:
        """The fog has told its plan."""
        if self._plan is None or plan.strategy != self._plan.strategy:
            _log.info("plan of the fog is now %s: %s", plan.strategy, plan.sentence)
        self._plan = plan
        self._go()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._look_again_at is not None and now >= self._look_again_at:
            self._look_again_at = None
            self.inbox_grew(weights=True)
        self._trainer.perform(self._trainer.rounds.tick(now))

    def busy(self, busy: bool) -> None:
        """Whether uploads wait: training makes way for them."""
        self._trainer.busy(busy)

    def stop(self) -> None:
        """Tell the trainer to save its work and end."""
        self._trainer.perform(self._trainer.rounds.stop())

    def status(self) -> dict[str, Any]:
        """The training's and the plan's part of the status file."""
        plan, trained = self._plan, self.trained
        return {
            "training": self._trainer.status(),
            "decode_frames_per_s": trained.get("decode_frames_per_second"),
            "training_frames_per_s": trained.get("training_frames_per_second"),
            "plan": None
            if plan is None
            else {"strategy": plan.strategy, "sentence": plan.sentence, "train": plan.train},
        }

    def _go(self) -> None:
        rounds, now = self._trainer.rounds, time.monotonic()
        if not self._counted:
            # Too few would look as if retention had dropped the others.
            return
        self._trainer.perform(rounds.frames_known(self._trainable, self._counted_to, now))
        mode = self._settings.mode
        planned = mode == "always" or (mode == "auto" and self._plan is not None and self._plan.train)
        ready = rounds.detector is not None or not self._settings.wait_for_detector
        self._trainer.perform(rounds.allow(planned and ready, now))

    def _count(self) -> None:
        """In the store's thread, the only one that changes these two: count on from where it stood."""
        kinds = (RecordKind.PACKET, RecordKind.LABELS)
        while records := self._store.records(self._counted_to, COUNT_AT_ONCE, kinds):
            self._trainable += sum(
                trainable_change(record.meta)
                if record.kind is RecordKind.LABELS
                else bool(record.meta.get("labelled")) and not record.meta.get("validation")
                for _, record in records
            )
            self._counted_to = records[-1][0]

    def _newest_weights(self) -> Received | None:
        """In the store's thread: the newest received weights, as a file, unless decided on before."""
        with self._store.training_view() as view:
            newest = view.latest_weights()
        if newest is None:
            return None
        record, content = newest
        digest = record.digest.hex()
        history = self._trainer.history
        if history.knows(digest) or digest in self._offered:
            return None
        path = history.incoming(digest)
        write_durably(path, content)
        self._offered.add(digest)
        metrics = record.meta.get("metrics")
        return Received(str(path), digest, metrics if isinstance(metrics, dict) else {})

    def _weights_found(self, received: Received | None) -> None:
        self._unread = False
        if received is not None:
            _log.info("weights %s have come through the log", received.digest[:16])
            self._trainer.perform(self._trainer.rounds.weights_received(received, time.monotonic()))

    def _decided(self, decision: Decision) -> None:
        if decision.deploy:
            self._on_detector()
        self._go()
