"""The outbox of an edge's store in memory: recorded frames, kept until the fog has them."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable

from common.errors import StoreFullError
from common.frame import Frame, FrameIdentity, in_validation_block
from common.store.records import OutboxState
from common.store.retention import Usage
from common.store.rows import marked
from common.store.settings import EdgeStoreSettings

__all__ = ["MemoryOutbox"]


@dataclasses.dataclass(slots=True)
class _Recorded:
    frame: Frame
    size: int
    digest: bytes
    state: str = "waiting"
    reason: str = ""
    expires: float | None = None

    @property
    def kept(self) -> bool:
        return bool(self.frame.image)

    @property
    def held_out(self) -> bool:
        return self.frame.validation and self.frame.labelled


class MemoryOutbox:
    """The half of :class:`common.store.contract.EdgeStore` that the recorder fills and the fog empties.

    Args:
        device: This device's key.
        settings: Bounds.
    """

    def __init__(self, device: str, settings: EdgeStoreSettings) -> None:
        self._device = device
        self._settings = settings
        self._epoch = secrets.randbits(64)
        self._keys: dict[str, int] = {}
        self._outbox: list[_Recorded] = []

    @abstractmethod
    def _open(self) -> threading.RLock: ...

    @property
    def epoch(self) -> int:
        """Random number of this installation."""
        return self._epoch

    def recorded(self, source_key: str) -> int | None:
        """The number given to this source key."""
        with self._open():
            return self._keys.get(source_key)

    def record_frame(
        self,
        source_key: str,
        frame: Frame,
        mark: Callable[[int], bool] = in_validation_block,
        expires: float | None = None,
    ) -> int:
        """Give a frame the next number and keep it until the fog has it."""
        size = len(frame.image)
        with self._open():
            if source_key in self._keys:
                return self._keys[source_key]
            state = self.outbox_state()
            if state.waiting and (
                state.waiting >= self._settings.max_outbox_frames
                or state.waiting_bytes + size > self._settings.max_outbox_bytes
            ):
                raise StoreFullError(
                    f"the outbox holds {state.waiting} frames ({state.waiting_bytes} bytes) that the fog "
                    f"has not taken yet; wait, or raise max_outbox_frames and max_outbox_bytes"
                )
            number = len(self._outbox)
            identity = FrameIdentity(self._device, self._epoch, number)
            stored = dataclasses.replace(marked(frame, mark(number)), identity=identity)
            self._outbox.append(_Recorded(stored, size, stored.digest, expires=expires))
            self._keys[source_key] = number
            return number

    def _recorded_frame(self, source_key: str) -> tuple[Frame, str] | None:
        number = self._keys.get(source_key)
        return None if number is None else (self._outbox[number].frame, self._outbox[number].state)

    def _state(self, number: int) -> str:
        return self._outbox[number].state

    def unacknowledged(self, limit: int, max_bytes: int, without: Collection[int] = ()) -> list[Frame]:
        """Frames the fog may not have, by priority and number."""
        frames: list[Frame] = []
        total = 0
        with self._open():
            waiting = [
                item
                for number, item in enumerate(self._outbox)
                if item.state == "waiting" and number not in without
            ]
            for item in sorted(waiting, key=lambda item: -item.frame.priority):
                if len(frames) >= limit or (frames and total + item.size > max_bytes):
                    break
                frames.append(item.frame)
                total += item.size
        return frames

    def expire(self, now: float, without: Collection[int] = ()) -> int:
        """Drop waiting frames that have outlived their time."""
        with self._open():
            old = [
                number
                for number, item in enumerate(self._outbox)
                if item.state == "waiting" and item.expires is not None and item.expires <= now
            ]
            gone = [number for number in old if number not in without]
            for number in gone:
                self._settle(number, "expired", "")
            return len(gone)

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """The fog has these."""
        with self._open():
            for number in numbers:
                self._settle(number, "acknowledged", "")

    def refuse(self, number: int, reason: str) -> None:
        """The fog refuses this frame for good."""
        with self._open():
            self._settle(number, "refused", reason)

    def _settle(self, number: int, state: str, reason: str) -> None:
        if not 0 <= number < len(self._outbox) or self._outbox[number].state != "waiting":
            return
        item = self._outbox[number]
        item.state, item.reason = state, reason
        if state != "acknowledged" or not item.held_out:
            item.frame = dataclasses.replace(item.frame, image=b"")

    def refused(self) -> list[tuple[int, str]]:
        """(number, reason) of every refused frame."""
        with self._open():
            items = enumerate(self._outbox)
            return [(number, item.reason) for number, item in items if item.state == "refused"]

    def outbox_state(self) -> OutboxState:
        """How full the outbox is."""
        with self._open():
            waiting = [item.size for item in self._outbox if item.state == "waiting"]
            return OutboxState(
                recorded=len(self._outbox),
                waiting=len(waiting),
                waiting_bytes=sum(waiting),
                acknowledged=sum(item.state == "acknowledged" for item in self._outbox),
                refused=sum(item.state == "refused" for item in self._outbox),
                expired=sum(item.state == "expired" for item in self._outbox),
            )

    def _has_image(self, digest: bytes) -> bool:
        return any(item.kept and item.frame.digest == digest for item in self._outbox)

    def _held_out_digests(self) -> set[bytes]:
        return {item.digest for item in self._outbox if item.held_out}

    def _own_originals(self) -> list[Frame]:
        """Labelled validation frames whose image is here, the newest first."""
        return [item.frame for item in reversed(self._outbox) if item.kept and item.held_out]

    def _drop_images(self, limit: int, excess: Callable[[Usage], int]) -> int:
        """Drop the oldest images of acknowledged frames; how many went.

        Args:
            limit: At most so many.
            excess: Bytes to drop of what there is.
        """
        kept = [item for item in self._outbox if item.kept and item.state == "acknowledged"]
        left = excess(Usage(original_bytes=sum(item.size for item in kept)))
        gone = 0
        for item in kept[:limit]:
            if left <= 0:
                break
            item.frame = dataclasses.replace(item.frame, image=b"")
            left -= item.size
            gone += 1
        return gone
