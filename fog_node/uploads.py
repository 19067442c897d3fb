"""The uploads of one fog, from their arrival to their acknowledgement; no socket, no thread, no clock.

A part of :mod:`fog_node.state`, which owns the sessions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from common.errors import ResidualInrError, WireError
from common.frame import Frame, FrameIdentity
from common.store.records import CommitOutcome
from common.wire.messages import MAX_NUMBERS, Accepted, ErrorCode, Refused, Upload
from fog_node.instructions import Commit, Instruction, Send
from fog_node.peer_limits import PeerLimits
from fog_node.sessions import Session
from fog_node.settings import FogSettings
from fog_node.upload_check import check_upload, error_code

__all__ = ["Uploads"]

LONGEST_WAIT_S = 60.0
"""Longest wait told to an edge that uploads too fast."""


class Uploads:
    """Uploads in memory that wait for their commit, and the answers to them.

    Args:
        settings: The fog's settings.
        sessions: The sessions by key, as they are at any time.
        limits: Rates of each device.
    """

    def __init__(self, settings: FogSettings, sessions: Mapping[str, Session], limits: PeerLimits) -> None:
        self._settings = settings
        self._sessions = sessions
        self._limits = limits
        # Each with the number of the session that uploaded it.
        self._queue: deque[tuple[Frame, int]] = deque()
        self._committing: tuple[tuple[Frame, int], ...] = ()
        self._waiting_bytes = 0
        self._full_until = 0.0
        self._full_reason = ""
        self._stopping = False

    @property
    def waiting_bytes(self) -> int:
        """Bytes of images that wait for their commit."""
        return self._waiting_bytes

    @property
    def idle(self) -> bool:
        """Whether no upload waits for its commit."""
        return not self._queue and not self._committing

    def received(self, session: Session, upload: Upload, now: float) -> list[Instruction]:
        """An edge has uploaded a frame: it is refused, or waits for its commit."""
        identity = FrameIdentity(session.key, upload.epoch, upload.number)
        if not session.may_upload:
            sentence = (
                f"the key {session.key} may not upload; run fog-node allow with --may-upload at the fog"
            )
            return self._refuse(session, identity, ErrorCode.NOT_ALLOWED, sentence, False)
        if self._stopping:
            return self._refuse(session, identity, ErrorCode.STOPPING, "the fog is stopping", False)
        if now < self._full_until:
            return self._refuse(session, identity, ErrorCode.FULL, self._full_reason, False)
        wait = self._limits.upload(session.key, len(upload.payload), now)
        if wait > 0:
            sentence = "this device uploads more than the fog takes of one; send fewer a second"
            return self._refuse(session, identity, ErrorCode.TOO_FAST, sentence, False, wait)
        if upload.epoch != session.epoch:
            sentence = f"the upload is of epoch {upload.epoch}, its session of epoch {session.epoch}"
            return self._refuse(session, identity, ErrorCode.BAD_MESSAGE, sentence, True)
        size, limits = len(upload.payload), self._settings.limits
        crowded = self._waiting_bytes > 0 and self._waiting_bytes + size > limits.waiting_bytes
        own = (
            session.upload_bytes + size > limits.upload_bytes
            or session.uploads >= self._settings.wire.upload_window_frames
        )
        if crowded or (session.uploads and own):
            sentence = "too many uploads wait for their commit; send fewer at a time"
            return self._refuse(session, identity, ErrorCode.FULL, sentence, False)
        try:
            frame = check_upload(upload, session.key, self._settings)
        except ResidualInrError as error:
            return self._refuse(session, identity, error_code(error), str(error), True)
        session.uploads += 1
        session.upload_bytes += size
        self._waiting_bytes += size
        self._queue.append((frame, session.number))
        return self.commit()

    def commit(self) -> list[Instruction]:
        """One commit at a time: what arrives meanwhile forms the next group."""
        if self._committing or not self._queue:
            return []
        count = min(len(self._queue), self._settings.limits.commit_frames)
        self._committing = tuple(self._queue.popleft() for _ in range(count))
        return [Commit(tuple(frame for frame, _ in self._committing))]

    def committed(self, outcomes: Sequence[CommitOutcome]) -> list[Instruction]:
        """The frames of the last :class:`Commit` are on disk, each with its outcome."""
        frames, self._committing = self._committing, ()
        self._full_until = 0.0
        # The disk has the next group before the answers to this one are written.
        instructions = self.commit()
        accepted: dict[tuple[str, int], list[FrameIdentity]] = {}
        for (frame, uploader), outcome in zip(frames, outcomes, strict=True):
            identity = self._leave(frame)
            if outcome is not CommitOutcome.CONFLICT:
                accepted.setdefault((identity.device, uploader), []).append(identity)
                continue
            sentence = (
                f"frame {identity.number} was uploaded before with other content; "
                "frame numbers are never reused: give it a new one"
            )
            instructions += self._refuse_late(identity, uploader, ErrorCode.CONFLICT, sentence, True)
        for (key, uploader), identities in accepted.items():
            session = self._session_of(key, uploader)
            if session is not None:
                numbers = [identity.number for identity in identities]
                for start in range(0, len(numbers), MAX_NUMBERS):
                    answer = Accepted(session.epoch, tuple(numbers[start : start + MAX_NUMBERS]))
                    instructions.append(Send(session.routing_id, answer, key))
        return instructions

    def commit_failed(self, sentence: str, *, full: bool, now: float) -> list[Instruction]:
        """Nothing of the last :class:`Commit` was stored.

        Every waiting upload is refused for now, so that the fog holds no images while its disk is full;
        the edges keep theirs and send them again later.
        """
        frames = [*self._committing, *self._queue]
        self._committing = ()
        self._queue.clear()
        self._full_until = now + self._settings.retry_full_s
        self._full_reason = sentence
        code = ErrorCode.FULL if full else ErrorCode.INTERNAL
        instructions: list[Instruction] = []
        for frame, uploader in frames:
            identity = self._leave(frame)
            instructions += self._refuse_late(identity, uploader, code, sentence, False)
        return instructions

    def count_waiting(self, session: Session) -> None:
        """Tell a new session what of its device's former sessions still waits."""
        waiting = [
            frame for frame, _ in (*self._committing, *self._queue) if _identity(frame).device == session.key
        ]
        session.uploads = len(waiting)
        session.upload_bytes = sum(len(frame.image) for frame in waiting)

    def stop(self) -> None:
        """Take nothing new; what waits is still committed and acknowledged."""
        self._stopping = True

    def _leave(self, frame: Frame) -> FrameIdentity:
        """A frame leaves the memory; its identity."""
        identity, size = _identity(frame), len(frame.image)
        self._waiting_bytes -= size
        session = self._sessions.get(identity.device)
        if session is not None:
            session.uploads -= 1
            session.upload_bytes -= size
        return identity

    def _session_of(self, key: str, number: int) -> Session | None:
        """The session that uploaded a frame, unless it has ended: the next one sends it again.

        A device that was set up anew counts from 0 again, and so does a copy of one: neither must take an
        answer to other frames for one to its own of the same number.
        """
        session = self._sessions.get(key)
        return session if session is not None and session.number == number else None

    def _refuse_late(
        self, identity: FrameIdentity, uploader: int, code: ErrorCode, sentence: str, permanent: bool
    ) -> list[Instruction]:
        session = self._session_of(identity.device, uploader)
        return [] if session is None else self._refuse(session, identity, code, sentence, permanent)

    def _refuse(
        self,
        session: Session,
        identity: FrameIdentity,
        code: ErrorCode,
        sentence: str,
        permanent: bool,
        retry_after_s: float | None = None,
    ) -> list[Instruction]:
        wait = None if retry_after_s is None else min(retry_after_s, LONGEST_WAIT_S)
        answer = Refused(identity.epoch, identity.number, code, sentence[:2000], permanent, wait)
        return [Send(session.routing_id, answer, session.key)]


def _identity(frame: Frame) -> FrameIdentity:
    if frame.identity is None:
        raise WireError(f"frame {frame.name!r} has no identity")
    return frame.identity
