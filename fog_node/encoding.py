"""Which frame goes to which encoder worker, and when its record is written: a pure state machine.

Frames are loaded from the store by priority, of equal priority in order of arrival, and gathered in batches
of any devices. A device stays with one worker, which holds its keyframe, until another has nothing to do.
Workers may finish in any order; records are written so that those of one device follow the order in which
they were loaded. When a worker dies, each frame of its batch is tried again alone, so that the frame that
brings encoders down is found; after a bounded number of attempts it becomes a tombstone that says why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common.frame import Frame, FrameIdentity
from common.store.records import PendingFrame
from fog_node.workers.encoder_messages import Encoded, NotEncoded

__all__ = ["Assign", "EncodingState", "Finish", "FinishFrames", "Kill", "LoadPending"]


@dataclass(frozen=True, slots=True)
class LoadPending:
    """Instruction: read pending frames from the store, then call :meth:`EncodingState.loaded`."""

    limit: int
    without: frozenset[int]


@dataclass(frozen=True, slots=True)
class Assign:
    """Instruction: send this batch to this worker; ``arrivals`` are the frames' places in the store."""

    worker: int
    batch: int
    frames: tuple[Frame, ...]
    arrivals: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Kill:
    """Instruction: this worker has been silent for too long: end it."""

    worker: int


@dataclass(frozen=True, slots=True)
class Finish:
    """One frame's record to write.

    Attributes:
        identity: The frame.
        frame: The frame as it was uploaded; None if its stored image was damaged.
        result: The packet, or why there is none.
    """

    identity: FrameIdentity
    frame: Frame | None
    result: Encoded | NotEncoded


@dataclass(frozen=True, slots=True)
class FinishFrames:
    """Instruction: write these records in this order, then call :meth:`EncodingState.finished`."""

    items: tuple[Finish, ...]


EncodingInstruction = LoadPending | Assign | Kill | FinishFrames


@dataclass(slots=True)
class _Item:
    pending: PendingFrame
    since: float
    order: int
    attempts: int = 0
    result: Encoded | NotEncoded | None = None


@dataclass(slots=True)
class _Worker:
    ready: bool = False
    batch: int = 0
    items: list[_Item] = field(default_factory=list)
    since: float = 0.0


class EncodingState:
    """Frames from the store to the log by way of encoder workers.

    At most ``(workers + 1) * batch_frames`` images are held in memory.

    Args:
        workers: Number of encoder processes, named 0 to workers - 1.
        batch_frames: Frames of a full batch.
        wait_s: Seconds a frame may wait for its batch to fill.
        attempts: Times a frame is tried before it becomes a tombstone.
        batch_timeout_s: Seconds after which a busy worker counts as hung.
        retry_s: Seconds between attempts to write when the store refused.
    """

    def __init__(
        self,
        *,
        workers: int,
        batch_frames: int,
        wait_s: float,
        attempts: int,
        batch_timeout_s: float,
        retry_s: float,
    ) -> None:
        self._workers = {number: _Worker() for number in range(workers)}
        self._batch_frames = batch_frames
        self._wait_s = wait_s
        self._attempts = attempts
        self._batch_timeout_s = batch_timeout_s
        self._retry_s = retry_s
        self._room = (workers + 1) * batch_frames if workers else 0
        self._order: dict[str, deque[_Item]] = {}
        self._waiting: deque[_Item] = deque()
        self._suspects: deque[_Item] = deque()
        self._homes: dict[str, int] = {}
        self._held = 0
        self._loads = 0
        self._loading = False
        self._more = True
        self._finishing: tuple[_Item, ...] = ()
        self._hold_until = 0.0
        self._batches = 0
        self._stopped = False

    @property
    def held(self) -> int:
        """Frames loaded and not yet written."""
        return self._held

    @property
    def idle(self) -> bool:
        """Whether nothing is in work, nothing waits here and the store is known to hold no more."""
        return not self._held and not self._more and not self._loading

    def frames_committed(self, now: float) -> list[EncodingInstruction]:
        """New frames have been committed to the store."""
        self._more = True
        return self._pump(now)

    def loaded(self, frames: Sequence[PendingFrame], limit: int, now: float) -> list[EncodingInstruction]:
        """The store gave these pending frames for a :class:`LoadPending` of ``limit``."""
        self._loading = False
        self._more = self._more or len(frames) >= limit
        for pending in frames:
            self._loads += 1
            item = _Item(pending, now, self._loads)
            self._order.setdefault(pending.identity.device, deque()).append(item)
            self._held += 1
            if pending.frame is None:
                item.result = NotEncoded(pending.damage or "the stored image is damaged")
            else:
                self._waiting.append(item)
        return self._pump(now)

    def load_failed(self, now: float) -> list[EncodingInstruction]:
        """The store could not be read; it is tried again after a while."""
        self._loading = False
        self._more = True
        self._hold_until = now + self._retry_s
        return self._pump(now)

    def worker_ready(self, worker: int, now: float) -> list[EncodingInstruction]:
        """A worker has started and can encode."""
        self._workers[worker].ready = True
        return self._pump(now)

    def batch_encoded(
        self, worker: int, batch: int, results: Sequence[Encoded | NotEncoded], now: float
    ) -> list[EncodingInstruction]:
        """A worker has answered a batch; answers to another batch than its present one are ignored."""
        entry = self._workers[worker]
        if batch != entry.batch or len(results) != len(entry.items):
            return []
        for item, result in zip(entry.items, results, strict=True):
            item.result = result
        entry.items = []
        return self._pump(now)

    def worker_lost(
        self, worker: int, reason: str, now: float, *, blamed: bool = True
    ) -> list[EncodingInstruction]:
        """A worker has died; ``reason`` says how, in a few words.

        ``blamed`` tells whether a frame of its batch may be why: only then this counts as an attempt.
        """
        entry = self._workers[worker]
        lost, entry.items, entry.ready = entry.items, [], False
        self._homes = {device: home for device, home in self._homes.items() if home != worker}
        if not blamed:
            for item in reversed(lost):
                (self._suspects if item.attempts else self._waiting).appendleft(item)
            return self._pump(now)
        for item in lost:
            item.attempts += 1
            if item.attempts >= self._attempts:
                item.result = NotEncoded(f"the encoder died {item.attempts} times on this frame ({reason})")
            else:
                self._suspects.append(item)
        return self._pump(now)

    def finished(self, now: float) -> list[EncodingInstruction]:
        """The records of the last :class:`FinishFrames` are on disk."""
        for item in self._finishing:
            queue = self._order[item.pending.identity.device]
            queue.popleft()
            if not queue:
                del self._order[item.pending.identity.device]
            self._held -= 1
        self._finishing = ()
        return self._pump(now)

    def finish_failed(self, now: float) -> list[EncodingInstruction]:
        """The records could not be written (a full disk); they are kept and tried again after a while."""
        self._finishing = ()
        self._hold_until = now + self._retry_s
        return []

    def tick(self, now: float) -> list[EncodingInstruction]:
        """Time has passed."""
        hung = [
            Kill(number)
            for number, entry in self._workers.items()
            if entry.items and now - entry.since > self._batch_timeout_s
        ]
        return [*hung, *self._pump(now)]

    def stop(self) -> None:
        """Give out no more batches; what is encoded already is still written."""
        self._stopped = True

    @property
    def writing(self) -> bool:
        """Whether records are being written."""
        return bool(self._finishing)

    def _pump(self, now: float) -> list[EncodingInstruction]:
        return [*self._load(now), *self._assign(now), *self._finish(now)]

    def _load(self, now: float) -> Iterator[EncodingInstruction]:
        room = self._room - self._held
        if self._loading or self._stopped or not self._more or room <= 0 or now < self._hold_until:
            return
        self._loading = True
        # A commit while the store reads may be missing from its answer: it sets this again.
        self._more = False
        held = (item.pending.arrival for queue in self._order.values() for item in queue)
        yield LoadPending(room, frozenset(held))

    def _assign(self, now: float) -> Iterator[EncodingInstruction]:
        if self._stopped or not (self._suspects or self._ripe(self._waiting, now)):
            return
        idle = {number: entry for number, entry in self._workers.items() if entry.ready and not entry.items}
        # A worker without frames of its own takes over devices of others, once these have had their turn.
        for choose in (self._own, self._taken_over):
            for number, entry in idle.items():
                if entry.items:
                    continue
                items = [self._suspects.popleft()] if self._suspects else self._batch(choose(number), now)
                if not items:
                    continue
                self._homes |= {item.pending.identity.device: number for item in items}
                self._batches += 1
                entry.batch, entry.items, entry.since = self._batches, items, now
                frames = tuple(item.pending.frame for item in items if item.pending.frame is not None)
                yield Assign(number, entry.batch, frames, tuple(item.pending.arrival for item in items))

    def _own(self, worker: int) -> list[_Item]:
        """Frames that wait for this worker or for any."""
        return [
            item for item in self._waiting if self._homes.get(item.pending.identity.device, worker) == worker
        ]

    def _taken_over(self, worker: int) -> list[_Item]:
        """Frames of half of the devices that wait for others: whoever is busy keeps some."""
        devices = list(dict.fromkeys(item.pending.identity.device for item in self._waiting))[::2]
        return [item for item in self._waiting if item.pending.identity.device in devices]

    def _ripe(self, items: Sequence[_Item], now: float) -> bool:
        """Whether these, the oldest first, make a full batch or have waited for one long enough."""
        return len(items) >= self._batch_frames or bool(items and now - items[0].since >= self._wait_s)

    def _batch(self, items: list[_Item], now: float) -> list[_Item]:
        """What of these to encode together now, taken off the frames that wait."""
        if not self._ripe(items, now):
            return []
        batch = items[: self._batch_frames]
        taken = {id(item) for item in batch}
        self._waiting = deque(item for item in self._waiting if id(item) not in taken)
        return batch

    def _finish(self, now: float) -> Iterator[EncodingInstruction]:
        if self._finishing or now < self._hold_until:
            return
        items = []
        for queue in self._order.values():
            for item in queue:
                if item.result is None:
                    break
                items.append(item)
        if items:
            self._finishing = tuple(sorted(items, key=lambda item: item.order))
            yield FinishFrames(
                tuple(
                    Finish(item.pending.identity, item.pending.frame, item.result)
                    for item in self._finishing
                    if item.result is not None
                )
            )
