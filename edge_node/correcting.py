"""Which corrected labels are on their way to the fog: a state machine over the store, and its shell."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from common.node.jobs import Jobs
from common.node.logs import about
from common.store.contract import EdgeStore
from common.store.corrections import Correction
from common.wire.messages import Correct, Corrected, Message

__all__ = [
    "Correcting",
    "CorrectingInstruction",
    "Corrections",
    "LoadCorrections",
    "SendCorrection",
    "Settle",
]

WINDOW = 16
"""Corrections sent and not yet answered."""

LOOK_S = 1.0
"""Longest wait before a new correction, or one whose frame the fog has just taken, is looked for, seconds."""

RETRY_S = (2.0, 300.0)
"""First and longest wait before corrections are sent again that the fog refused for now, seconds."""

MOST_REFUSED = 100_000
"""Corrections refused for now that are remembered, so that they are not sent again before their time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadCorrections:
    """Instruction: read waiting corrections from the store, then call :meth:`Correcting.loaded`."""

    limit: int
    after: int


@dataclass(frozen=True, slots=True)
class SendCorrection:
    """Instruction: send this correction."""

    correction: Correction


@dataclass(frozen=True, slots=True)
class Settle:
    """Instruction: the fog has this correction, or refuses it for good (``reason``); tell the store."""

    number: int
    revision: int
    reason: str | None


CorrectingInstruction: TypeAlias = LoadCorrections | SendCorrection | Settle


class Correcting:
    """The corrections of one edge on their way.

    It goes through the waiting ones page by page. Those that the fog refuses for now, such as those of frames
    that a restored fog does not know, are passed over until it is their time again: they hold up no others.
    """

    def __init__(self) -> None:
        self._wait_s = RETRY_S[0]
        self._open = False
        self._in_flight: dict[int, int] = {}
        self._refused: dict[int, int] = {}
        self._request: LoadCorrections | None = None
        self._after = -1
        self._look_at: float | None = None
        self._look_again = False
        self._retry_at: float | None = None

    @property
    def in_flight(self) -> int:
        """Corrections sent and not yet answered."""
        return len(self._in_flight)

    def opened(self, supported: bool, now: float) -> list[CorrectingInstruction]:
        """A session has begun; an older fog takes no corrections, they wait for a newer one."""
        self._open = supported
        self._in_flight.clear()
        self._refused.clear()
        self._request, self._after, self._look_at = None, -1, now
        self._retry_at, self._look_again = None, False
        return self.tick(now)

    def closed(self) -> None:
        """The session has ended: nothing is in flight."""
        self._open = False
        self._in_flight.clear()

    def wake(self, now: float) -> None:
        """A correction was recorded, or the fog has taken a frame that may have one."""
        self._look_from(now + LOOK_S)

    def loaded(
        self, request: LoadCorrections, corrections: Sequence[Correction], now: float
    ) -> list[CorrectingInstruction]:
        """The store gave these for a request."""
        if request is not self._request:
            return []
        self._request = None
        if len(corrections) == request.limit:
            # There may be more behind them.
            self._look_at, self._after = now, corrections[-1].identity.number
        else:
            self._after = -1
            if self._look_again:
                self._look_again = False
                self._look_from(now + LOOK_S)
        instructions: list[CorrectingInstruction] = []
        for correction in corrections if self._open else ():
            number, revision = correction.identity.number, correction.revision
            if revision not in (self._in_flight.get(number), self._refused.get(number)):
                self._in_flight[number] = revision
                instructions.append(SendCorrection(correction))
        return instructions

    def failed(self, now: float) -> None:
        """The store could not be read or written."""
        self._request, self._after = None, -1
        self._later(now)

    def answered(self, answer: Corrected, now: float) -> list[CorrectingInstruction]:
        """The fog has answered a correction."""
        if self._in_flight.get(answer.number) == answer.revision:
            del self._in_flight[answer.number]
        if answer.code and not answer.permanent:
            # A device that has moved to this fog may have frames that only its former one knows.
            if len(self._refused) < MOST_REFUSED:
                self._refused[answer.number] = answer.revision
            self._later(now)
            return self.tick(now)
        self._refused.pop(answer.number, None)
        if not self._refused:
            self._wait_s = RETRY_S[0]
        reason = f"{answer.code}: {answer.sentence}" if answer.code else None
        return [Settle(answer.number, answer.revision, reason), *self.tick(now)]

    def tick(self, now: float) -> list[CorrectingInstruction]:
        """Time has passed."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._refused.clear()
            self._look_from(now)
        due = self._look_at is not None and now >= self._look_at
        room = WINDOW - len(self._in_flight)
        if not self._open or not due or self._request is not None or room <= 0:
            return []
        self._look_at = None
        self._request = LoadCorrections(room, self._after)
        return [self._request]

    def _look_from(self, at: float) -> None:
        """Go through all that wait; after the present pass, which may be beyond what is new."""
        if self._after >= 0 or self._request is not None:
            self._look_again = True
        else:
            self._look_at = at if self._look_at is None else min(self._look_at, at)

    def _later(self, now: float) -> None:
        """Try again what was refused or failed; the wait doubles once a round, however many were refused."""
        if self._retry_at is None:
            self._retry_at = now + self._wait_s
            self._wait_s = min(2 * self._wait_s, RETRY_S[1])


class Corrections:
    """Carries out what :class:`Correcting` decides.

    Args:
        state: The state machine.
        store: The edge's store.
        jobs: Its thread.
        send: Sends to the fog.
    """

    def __init__(
        self,
        state: Correcting,
        store: EdgeStore,
        jobs: Jobs,
        *,
        send: Callable[[Message], None],
    ) -> None:
        self.state = state
        self._store = store
        self._jobs = jobs
        self._send = send

    def perform(self, instructions: Sequence[CorrectingInstruction]) -> None:
        """Carry out instructions."""
        for instruction in instructions:
            match instruction:
                case LoadCorrections():
                    self._load(instruction)
                case SendCorrection(correction):
                    self._send(Correct.of(correction))
                case Settle():
                    self._settle(instruction)

    def opened(self, supported: bool, now: float) -> None:
        """A session with the own fog has begun."""
        self.perform(self.state.opened(supported, now))

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.perform(self.state.tick(now))

    def answered(self, answer: Corrected, now: float) -> None:
        """The fog has answered."""
        if answer.code and answer.permanent:
            facts = about(frame=answer.number)
            _log.warning(
                "corrected labels of frame %d were refused: %s", answer.number, answer.sentence, extra=facts
            )
        self.perform(self.state.answered(answer, now))

    def _load(self, request: LoadCorrections) -> None:
        def loaded(corrections: list[Correction]) -> None:
            self.perform(self.state.loaded(request, corrections, time.monotonic()))

        self._jobs.run(
            lambda: self._store.waiting_corrections(request.limit, request.after), loaded, self._failed
        )

    def _settle(self, settle: Settle) -> None:
        self._jobs.run(
            lambda: self._store.settle_correction(settle.number, settle.revision, settle.reason),
            lambda _: None,
            self._failed,
        )

    def _failed(self, error: Exception) -> None:
        _log.error("corrected labels wait: %s", error)
        self.state.failed(time.monotonic())
