"""Corrected labels on their way from an edge into the fog's log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from common.errors import BoxError
from common.frame import Box, FrameIdentity
from common.node.jobs import Jobs
from common.node.logs import about
from common.store.contract import FogStore
from common.store.corrections import LAST_FRAME, CorrectionOutcome, CorrectionResult
from common.wire.messages import Correct, Corrected, ErrorCode
from fog_node.instructions import Instruction, Send, WriteCorrection
from fog_node.log_records import Figures
from fog_node.sessions import Session
from fog_node.settings import FogSettings

__all__ = ["WINDOW", "CorrectionWriter", "Corrections"]

WINDOW = 16
"""Corrections of one edge that may wait for their commit."""

_log = logging.getLogger(__name__)


class Corrections:
    """Checks corrections and answers them; a part of :mod:`fog_node.state`, without socket, thread or clock.

    Args:
        settings: The fog's settings.
        sessions: The sessions by number, as they are at any time.
    """

    def __init__(self, settings: FogSettings, sessions: Mapping[int, Session]) -> None:
        self._settings = settings
        self._sessions = sessions

    def received(self, session: Session, message: Correct) -> list[Instruction]:
        """An edge has corrected the labels of a frame of its own."""
        problem = self._problem(session, message)
        if problem is not None:
            return [self._answer(session, message, *problem)]
        session.corrections += 1
        identity = FrameIdentity(session.key, message.epoch, message.number)
        boxes = tuple(Box(*box) for box in message.boxes)
        return [WriteCorrection(session.number, identity, message.revision, message.labelled, boxes)]

    def written(self, request: WriteCorrection, result: CorrectionResult) -> list[Instruction]:
        """The store has answered a :class:`WriteCorrection`."""
        number = request.identity.number
        match result.outcome:
            case CorrectionOutcome.CONFLICT:
                return self._refuse(
                    request,
                    ErrorCode.CONFLICT,
                    f"revision {request.revision} of the labels of frame {number} was used for other labels; "
                    "give these a greater one",
                    True,
                )
            case CorrectionOutcome.UNKNOWN_FRAME:
                sentence = f"the fog has no frame {number} of this device; upload it first"
                return self._refuse(request, ErrorCode.NOT_FOUND, sentence, False)
            case _:
                return self._refuse(request, "", "", False)

    def failed(self, request: WriteCorrection, sentence: str) -> list[Instruction]:
        """Nothing was stored: the edge sends it again later."""
        return self._refuse(request, ErrorCode.INTERNAL, sentence, False)

    def _refuse(
        self, request: WriteCorrection, code: str, sentence: str, permanent: bool
    ) -> list[Instruction]:
        session = self._sessions.get(request.session)
        if session is None:
            return []
        session.corrections -= 1
        return [self._answer(session, request, code, sentence, permanent)]

    def _answer(
        self,
        session: Session,
        about: Correct | WriteCorrection,
        code: str,
        sentence: str,
        permanent: bool,
    ) -> Send:
        frame = about if isinstance(about, Correct) else about.identity
        answer = Corrected(
            frame.epoch, frame.number, about.revision, code, sentence[:2000], permanent=permanent
        )
        return Send(session.routing_id, answer, session.key)

    def _problem(self, session: Session, message: Correct) -> tuple[ErrorCode, str, bool] | None:
        """(code, sentence, permanent) of what is wrong with a correction."""
        what, number = self._settings, message.number
        if not session.may_upload:
            sentence = (
                f"the key {session.key} may correct no labels; run fog-node allow --may-upload at the fog"
            )
            return ErrorCode.NOT_ALLOWED, sentence, False
        if session.corrections >= WINDOW:
            return ErrorCode.FULL, f"at most {WINDOW} corrections may wait for their commit", False
        if number > LAST_FRAME or (message.boxes and not message.labelled):
            sentence = f"the labels of frame {number} are unlabelled with boxes, or its number is too large"
            return ErrorCode.BAD_MESSAGE, sentence, True
        if len(message.boxes) > what.limits.frame_boxes:
            sentence = (
                f"frame {number} has {len(message.boxes)} corrected boxes, more than the limit of "
                f"{what.limits.frame_boxes}; leave some out or raise limits.frame_boxes at the fog"
            )
            return ErrorCode.BAD_BOX, sentence, True
        try:
            boxes = [Box(*box) for box in message.boxes]
        except BoxError as error:
            return ErrorCode.BAD_BOX, str(error), True
        for box in boxes:
            if what.training.detector.class_index(box.name) is None:
                sentence = (
                    f"frame {number} has a corrected box of class {box.name!r}, which is none of "
                    f"{', '.join(what.training.detector.classes)}; add it to training.detector.classes or "
                    "class_map at the fog"
                )
                return ErrorCode.UNKNOWN_CLASS, sentence, True
        return None


class CorrectionWriter:
    """Carries out :class:`WriteCorrection`.

    Args:
        corrections: Told of what became of each.
        figures: Count the frames to train on.
        store: The fog's store.
        writes: Its writing thread.
        done: Called in the I/O thread with what to do then and the log's last position.
    """

    def __init__(
        self,
        corrections: Corrections,
        figures: Figures,
        store: FogStore,
        writes: Jobs,
        *,
        done: Callable[[Sequence[Instruction], int], None],
    ) -> None:
        self._corrections = corrections
        self._figures = figures
        self._store = store
        self._writes = writes
        self._done = done

    def write(self, request: WriteCorrection) -> None:
        """Append the correction."""

        def job() -> tuple[CorrectionResult, int]:
            result = self._store.correct(request.identity, request.revision, request.labelled, request.boxes)
            return result, self._store.last_position

        def written(answer: tuple[CorrectionResult, int]) -> None:
            result, position = answer
            self._figures.trainable += result.trainable
            self._done(self._corrections.written(request, result), position)

        def failed(error: Exception) -> None:
            number, facts = request.identity.number, about(request.identity.device, request.identity.number)
            _log.error("corrected labels of frame %d wait: %s", number, error, extra=facts)
            self._done(self._corrections.failed(request, str(error)), 0)

        self._writes.run(job, written, failed)
