"""The trainer process: ``python -m common.learning.worker``, started by a daemon, spoken to over its pipe.

It owns the resident store, rebuilds it from the node's SQLite store when it starts, and dies with its daemon.
The messages are in :mod:`common.node.learning_messages`.
"""

from __future__ import annotations

import contextlib
import math
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from common.errors import MessageError, ResidualInrError
from common.learning.hooks import TrainerHooks
from common.learning.node_trainer import PACKETS_AT_A_TIME, NodeTrainer, Outcome
from common.learning.settings import TrainingSettings
from common.node.learning_messages import (
    Busy,
    Check,
    Checked,
    Failed,
    Judge,
    LearningMessage,
    Position,
    Progress,
    Ready,
    Result,
    Start,
    Stop,
    Train,
    from_map,
    to_map,
)
from common.node.niceness import make_way
from common.node.pipe import ParentPipe, connect_parent
from common.store import open_training_view

__all__ = ["main"]


class _Conversation:
    """Messages from the daemon, readable while a round is under way."""

    def __init__(self, pipe: ParentPipe) -> None:
        self._pipe = pipe
        # A SimpleQueue may be put to from a signal handler.
        self._arrived: queue.SimpleQueue[LearningMessage] = queue.SimpleQueue()
        self._waiting: deque[LearningMessage] = deque()
        self.stopping = False
        self.wanted = 0
        self._busy = False
        signal.signal(signal.SIGTERM, self._terminate)
        threading.Thread(target=self._read, name="daemon-reader", daemon=True).start()

    def send(self, message: LearningMessage) -> None:
        """Tell the daemon; a daemon that has gone ends this process by its parent watch."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(to_map(message))

    def next(self) -> LearningMessage:
        """The next message that asks for work, or Stop."""
        while not self._waiting and not self.stopping:
            self._sort(self._arrived.get())
            if not self._waiting and not self.stopping and self._arrived.empty():
                return Position(self.wanted)
        return Stop() if self.stopping else self._waiting.popleft()

    def told_to_stop(self) -> bool:
        """Whether Stop has arrived by now."""
        self.look()
        return self.stopping

    def daemon_is_busy(self) -> bool:
        """Whether it has work that comes first."""
        self.look()
        return self._busy

    def look(self) -> None:
        """Take note of what has arrived, without waiting."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._sort(self._arrived.get_nowait())

    def give_way(self, seconds: float) -> None:
        """Wait while the daemon is busy, at most this long, or until there is something to do."""
        end = time.monotonic() + seconds
        self.look()
        while self._busy and not self.stopping and (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._sort(self._arrived.get(timeout=left))

    def _sort(self, message: LearningMessage) -> None:
        match message:
            case Stop():
                self.stopping = True
            case Position(position):
                self.wanted = max(self.wanted, position)
            case Busy(busy):
                self._busy = busy
            case _:
                self._waiting.append(message)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                try:
                    value = self._pipe.receive()
                    if value is None:
                        break
                    self._arrived.put(from_map(value))
                except MessageError as error:
                    sys.stderr.write(f"trainer: {error}\n")
                    break
        self._arrived.put(Stop())

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self._arrived.put(Stop())


def main() -> int:
    """Run until Stop, SIGTERM or the daemon's end; 0 after a clean stop, 1 when it could not start."""
    talk = _Conversation(connect_parent())
    start = talk.next()
    while isinstance(start, Position):
        start = talk.next()
    if isinstance(start, Stop):
        return 0
    try:
        trainer = _open(start)
        trainer.catch_up(should_stop=talk.told_to_stop)
        if talk.stopping:
            return 0
        boxes = trainer.validation().boxes
    except (ResidualInrError, ValidationError) as error:
        talk.send(Failed(f"the trainer cannot start: {_sentence(error)}"))
        return 1
    talk.send(Ready(trainer.position, len(trainer.store), boxes))
    while not isinstance(message := talk.next(), Stop):
        _serve(trainer, talk, message)
    return 0


def _open(start: LearningMessage) -> NodeTrainer:
    if not isinstance(start, Start):
        raise MessageError(f"the first message to a trainer is 'start', not {start.kind!r}")
    settings = TrainingSettings.model_validate(start.settings)
    make_way(settings.nice)
    return NodeTrainer(open_training_view(start.store), Path(start.work_dir), settings, Path(start.store))


def _serve(trainer: NodeTrainer, talk: _Conversation, message: LearningMessage) -> None:
    """Do one thing that the daemon asks for; an error is reported, and the trainer stays ready.

    A Position has no answer: what cannot be read now is read before the next thing is done.
    """

    def fail(sentence: str) -> None:
        if isinstance(message, Position):
            sys.stderr.write(f"trainer: {sentence}\n")
        else:
            talk.send(Failed(sentence))

    def follow() -> None:
        talk.give_way(trainer.settings.yield_s)
        if trainer.position < talk.wanted:
            trainer.catch_up(PACKETS_AT_A_TIME)

    hooks = TrainerHooks(
        between_batches=follow,
        # A training that diverges reports NaN until its epoch ends; a Progress is free of it.
        on_step=lambda step, steps, loss: talk.send(
            Progress(step, steps, loss if math.isfinite(loss) else None)
        ),
        should_stop=talk.told_to_stop,
        busy=talk.daemon_is_busy,
    )
    outcome: Outcome | None = None
    try:
        trainer.catch_up(should_stop=talk.told_to_stop)
        match message:
            case Train(start_weights=current):
                outcome = trainer.train_round(current, hooks)
            case Judge(weights=weights, current=current):
                outcome = trainer.judge(weights, current)
            case Check(detector, previous):
                agreement = trainer.agreement(detector)
                if previous is None:
                    talk.send(Checked(False, "there is no detector before it", agreement))
                else:
                    back, reason, metrics = trainer.review(detector, previous)
                    talk.send(Checked(back, reason, agreement, metrics))
            case Position():
                return
            case _:
                raise MessageError(f"a trainer that is ready has no use for the message {message.kind!r}")
    except ResidualInrError as error:
        fail(_sentence(error))
        return
    except Exception as error:  # a defect in a library must not cost the resident store
        traceback.print_exc()
        fail(f"the training failed with an unexpected {type(error).__name__}: {_sentence(error)}")
        return
    if outcome is not None:
        decision = outcome.decision
        metrics = outcome.metrics | {"difference": decision.difference}
        talk.send(Result(decision.deploy, decision.reason, str(outcome.weights), metrics))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:2000]


if __name__ == "__main__":
    raise SystemExit(main())
