"""Which recorded frames are on their way to the fog: a pure state machine over the durable outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.frame import Frame
from edge_node.pacing import Pacing
from edge_node.settings import TrafficSettings

__all__ = ["Acknowledge", "LoadUploads", "Refuse", "SendUpload", "UploadInstruction", "Uploading"]


@dataclass(frozen=True, slots=True)
class LoadUploads:
    """Instruction: read unacknowledged frames from the outbox, then call :meth:`Uploading.loaded` with it."""

    limit: int
    max_bytes: int
    without: frozenset[int]


@dataclass(frozen=True, slots=True)
class SendUpload:
    """Instruction: send this frame."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Instruction: the fog has these on disk; tell the outbox."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Instruction: the fog refuses this frame for good; tell the outbox."""

    number: int
    reason: str


UploadInstruction = LoadUploads | SendUpload | Acknowledge | Refuse


class Uploading:
    """The upload window of one edge.

    Args:
        window_frames: Frames in flight at most; the fog's own bound may lower it.
        window_bytes: Their image bytes at most; one frame is always allowed.
        retry_s: Seconds after which frames are sent again that the fog refused for now, that the outbox
            could not give, or whose answer it could not write down.
        pacing: How much may be sent, and when; None for no bound.
    """

    def __init__(
        self, *, window_frames: int, window_bytes: int, retry_s: float, pacing: Pacing | None = None
    ) -> None:
        self.pacing = pacing or Pacing(TrafficSettings())
        self._window_frames = window_frames
        self._window_bytes = window_bytes
        self._retry_s = retry_s
        self._fog_frames = 0
        self._in_flight: dict[int, int] = {}
        self._unwritten: set[int] = set()
        self._open = False
        self._request: LoadUploads | None = None
        self._more = True
        self._retry_at: float | None = None
        self._probing = False
        self._stopped = False

    @property
    def in_flight(self) -> int:
        """Frames sent and not yet answered."""
        return len(self._in_flight)

    @property
    def loading(self) -> bool:
        """Whether frames are being read from the outbox, to be sent."""
        return self._request is not None

    @property
    def kept(self) -> frozenset[int]:
        """Frames that must not expire: the fog may have them on disk."""
        return frozenset(self._in_flight.keys() | self._unwritten)

    def opened(self, fog_frames: int, now: float) -> list[UploadInstruction]:
        """A session has begun in which at most ``fog_frames`` may be in flight; everything is sent anew."""
        self._open, self._fog_frames = True, fog_frames
        self._in_flight.clear()
        self._more, self._retry_at, self._probing = True, None, False
        # An answer that is still to come belongs to the session before: it must not move the new start.
        self._request = None
        return self._fill(now)

    def closed(self) -> None:
        """The session has ended: nothing is in flight."""
        self._open = False
        self._in_flight.clear()

    def recorded(self, now: float) -> list[UploadInstruction]:
        """The outbox has new frames."""
        self._more = True
        return self._fill(now)

    def loaded(self, request: LoadUploads, frames: Sequence[Frame], now: float) -> list[UploadInstruction]:
        """The outbox gave these frames for a request; none: there are no more."""
        if request is not self._request:
            return []
        self._request = None
        instructions: list[UploadInstruction] = []
        for frame in frames if self._open else ():
            number = -1 if frame.identity is None else frame.identity.number
            if number >= 0 and number not in self._in_flight:
                self._in_flight[number] = len(frame.image)
                self.pacing.sent(len(frame.image), now)
                instructions.append(SendUpload(frame))
        self._more = self._more or bool(frames)
        return [*instructions, *self._fill(now)]

    def load_failed(self, request: LoadUploads, now: float) -> None:
        """The outbox could not be read for a request."""
        if request is self._request:
            self._pause(now)

    def accepted(self, numbers: Sequence[int], now: float) -> tuple[int, list[UploadInstruction]]:
        """The fog has these frames on disk; also returns their bytes."""
        size = sum(self._in_flight.pop(number, 0) for number in numbers)
        self._unwritten.update(numbers)
        self._probing = False
        return size, [Acknowledge(tuple(numbers)), *self._fill(now)]

    def settled(self, numbers: Sequence[int]) -> None:
        """The outbox has written down that the fog has these."""
        self._unwritten.difference_update(numbers)

    def refused(
        self, number: int, reason: str, permanent: bool, now: float, wait_s: float | None = None
    ) -> list[UploadInstruction]:
        """The fog has refused a frame, for good or for now, and may have said how long to wait."""
        self._in_flight.pop(number, None)
        if permanent:
            self._probing = False
            return [Refuse(number, reason), *self._fill(now)]
        # What made the fog refuse one frame (a full disk, say) holds for the next one too.
        self._pause(now, wait_s)
        return []

    def settle_failed(self, now: float) -> None:
        """The outbox could not write down an answer: the fog is to give it again."""
        self._pause(now)

    def stop(self) -> None:
        """Send nothing more; what is in flight may still be answered."""
        self._stopped = True

    def tick(self, now: float) -> list[UploadInstruction]:
        """Time has passed."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            self._more, self._probing = True, True
        return self._fill(now)

    def _pause(self, now: float, wait_s: float | None = None) -> None:
        """Send nothing for a while, then one frame, then, if that is taken, everything unacknowledged."""
        self._retry_at = now + (self._retry_s if wait_s is None else wait_s)
        # An answer that is still to come would be sent meanwhile, and would move the new start.
        self._request = None

    def _fill(self, now: float) -> list[UploadInstruction]:
        if (
            self._stopped
            or not self._open
            or self._request is not None
            or not self._more
            or self._retry_at is not None
        ):
            return []
        window = 1 if self._probing else min(self._window_frames, self._fog_frames)
        frames = window - len(self._in_flight)
        size = self._window_bytes - sum(self._in_flight.values())
        if frames <= 0 or (size <= 0 and self._in_flight):
            return []
        allowed = self.pacing.uploads(now)
        if allowed is None:
            return []
        frames, size = min(frames, allowed[0]), min(size, allowed[1])
        self._request = LoadUploads(frames, max(size, 1), frozenset(self._in_flight))
        self._more = False
        return [self._request]
