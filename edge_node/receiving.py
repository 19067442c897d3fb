"""Records from one fog's log into the edge's store: a pure state machine.

Records are stored in the order in which they came, several in one transaction together with the position
that they lead to. A record whose payload is a large file waits, and all behind it, until the file is there;
one whose payload is not to be had is stored as a gap. A packet whose keyframe this edge lacks is stored as
it comes; its keyframe is fetched beside everything else, once for all that refer to it.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from common.store.records import Keyframe, Original, Record
from common.wire.backoff import Backoff

__all__ = [
    "Apply",
    "Content",
    "FetchBlob",
    "LoadKeyframes",
    "LoadOriginals",
    "Problem",
    "Receiving",
    "ReceivingInstruction",
    "SendPull",
]

KEYFRAMES_AT_ONCE = 64
"""Keyframes that the store is asked for at a time."""

KEYFRAME_WAIT_S = (2.0, 300.0)
"""Longest first and longest wait before a keyframe that could not be fetched is asked for again, seconds."""


class Content(enum.Enum):
    """What fetched content is, and so where it is kept."""

    PAYLOAD = enum.auto()
    """A record's large payload; the record waits for it."""
    ORIGINAL = enum.auto()
    """A validation frame's image."""
    KEYFRAME = enum.auto()
    """A packet that others refer to."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why content was not fetched.

    Attributes:
        sentence: The reason.
        gone: The fog does not have it (or this edge may not read it): asking again is of no use.
    """

    sentence: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class SendPull:
    """Instruction: tell the fog the position held and the window."""

    position: int
    records: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Instruction: store these records and the position in one transaction, then call ``applied``."""

    records: tuple[Record, ...]
    position: int


@dataclass(frozen=True, slots=True)
class FetchBlob:
    """Instruction: see that this content is in the store, then call ``fetched``.

    Attributes:
        digest: Content hash.
        size: Bytes.
        content: What it is.
    """

    digest: bytes
    size: int
    content: Content


@dataclass(frozen=True, slots=True)
class LoadOriginals:
    """Instruction: ask the store which originals it wants, then call ``originals_wanted``."""

    limit: int


@dataclass(frozen=True, slots=True)
class LoadKeyframes:
    """Instruction: ask the store which keyframes its packets wait for, then call ``keyframes_wanted``."""

    limit: int


ReceivingInstruction = SendPull | Apply | FetchBlob | LoadOriginals | LoadKeyframes


class Receiving:
    """The pull window of one edge at one fog and what it fetches there.

    Args:
        window_records: Records asked for and not yet stored.
        window_bytes: Their payload bytes.
        originals: Validation originals of other devices to keep at most.
        largest_blob: Largest payload fetched, bytes.
        retry_s: Seconds after which records that could not be stored are tried again.
        source: Randomness of the waits between attempts at a keyframe.
    """

    def __init__(
        self,
        *,
        window_records: int,
        window_bytes: int,
        originals: int,
        largest_blob: int,
        retry_s: float,
        source: random.Random | None = None,
    ) -> None:
        self._window_records = window_records
        self._window_bytes = window_bytes
        self._most_originals = originals
        self._largest_blob = largest_blob
        self._retry_s = retry_s
        self._queue: deque[tuple[Record | None, int]] = deque()
        self._open = False
        self._log_id = 0
        self._position = 0
        self._stated = 0
        self._applying: Apply | None = None
        self._retry_at: float | None = None
        self._fetching: FetchBlob | None = None
        self._present: set[bytes] = set()
        self._originals_held = 0
        self._originals: deque[Original] = deque()
        self._unavailable: set[bytes] = set()
        self._ask_originals = True
        self._asking = False
        self._random = source
        self._keyframes: deque[Keyframe] = deque()
        self._ask_keyframes = True
        self._asking_keyframes = False
        self._waits: dict[bytes, Backoff] = {}
        self._held_back: set[bytes] = set()
        self._overrun = False

    @property
    def position(self) -> int:
        """Position of the fog's log that the store holds."""
        return self._position

    @property
    def overrun(self) -> bool:
        """Whether the fog has sent far beyond the window: the connection is not to be trusted."""
        return self._overrun

    @property
    def idle(self) -> bool:
        """Whether nothing is under way to the store: what waits for room there will come again."""
        return self._applying is None and (not self._queue or self._retry_at is not None)

    def opened(self, position: int, originals_held: int, log_id: int) -> list[ReceivingInstruction]:
        """A session has begun; the store follows the log ``log_id`` and holds it up to ``position``."""
        self._open, self._overrun = True, False
        self._retry_at = None
        self._queue.clear()
        self._log_id = log_id
        self._position = self._stated = position
        self._originals_held = originals_held
        self._originals.clear()
        self._unavailable.clear()
        self._ask_originals = True
        self._keyframes.clear()
        self._waits.clear()
        self._held_back.clear()
        self._ask_keyframes = True
        pull = SendPull(position, self._window_records, self._window_bytes)
        return [pull, *self._go()]

    def closed(self) -> None:
        """The session has ended: what was received and not stored will come again."""
        self._open = False
        self._queue.clear()
        self._fetching = None

    def record(self, record: Record) -> list[ReceivingInstruction]:
        """A record has come."""
        self._queue.append((record, record.position))
        self._overrun = len(self._queue) > 2 * self._window_records + 16
        return self._go()

    def caught_up(self, position: int) -> list[ReceivingInstruction]:
        """There is nothing more for this edge up to ``position``."""
        # While nothing can be stored these would pile up; the newest says it all.
        if self._queue and self._queue[-1][0] is None:
            self._queue.pop()
        self._queue.append((None, position))
        return self._go()

    def applied(self, position: int, packets: bool, waiting: bool = False) -> list[ReceivingInstruction]:
        """The store holds everything up to ``position``.

        Args:
            position: Of the log.
            packets: Whether some of what was stored were packets.
            waiting: Whether some of them wait for their keyframe.
        """
        self._applying = None
        self._position = max(self._position, position)
        self._ask_originals = self._ask_originals or packets
        self._ask_keyframes = self._ask_keyframes or waiting
        instructions: list[ReceivingInstruction] = []
        # Half a window of silence at most: the fog goes on sending while this message travels.
        if self._open and (not self._queue or 2 * len(self._queue) <= self._window_records):
            instructions += self._state_window()
        return [*instructions, *self._go()]

    def apply_failed(self, now: float) -> None:
        """Nothing was stored: the records are kept and tried again, and meanwhile no more are asked for."""
        request, self._applying = self._applying, None
        if request is None or not self._open:
            return
        self._queue.appendleft((None, request.position))
        self._queue.extendleft((record, record.position) for record in reversed(request.records))
        self._retry_at = now + self._retry_s

    def tick(self, now: float) -> list[ReceivingInstruction]:
        """Time has passed."""
        ready = {digest for digest, wait in self._waits.items() if wait.ready(now)} & self._held_back
        if ready:
            self._held_back -= ready
            self._ask_keyframes = True
        waiting = self._retry_at is not None and now < self._retry_at
        if not ready and (waiting or self._retry_at is None):
            return []
        if not waiting:
            self._retry_at = None
        return self._go()

    def fetched(self, request: FetchBlob, problem: Problem | None, now: float) -> list[ReceivingInstruction]:
        """A :class:`FetchBlob` has ended: its content is here, or ``problem`` says why it is not."""
        if request is not self._fetching:
            return []
        self._fetching = None
        match request.content:
            case Content.ORIGINAL:
                if problem is None:
                    self._originals_held += 1
                else:
                    self._unavailable.add(request.digest)
            case Content.KEYFRAME:
                self._keyframe_fetched(request.digest, problem, now)
            case Content.PAYLOAD:
                if problem is None:
                    self._present.add(request.digest)
                else:
                    self._skip(request.digest, problem.sentence)
        return self._go()

    def originals_held(self, count: int) -> None:
        """The store holds this many fetched originals: others were fetched from another fog."""
        self._originals_held = count

    def originals_wanted(self, originals: Sequence[Original]) -> list[ReceivingInstruction]:
        """The store wants these originals."""
        self._asking = False
        known = {entry.digest for entry in self._originals} | self._unavailable
        self._originals.extend(entry for entry in originals if entry.digest not in known)
        return self._go()

    def keyframes_wanted(self, keyframes: Sequence[Keyframe]) -> list[ReceivingInstruction]:
        """The store's packets wait for these keyframes."""
        self._asking_keyframes = False
        self._held_back |= {entry.digest for entry in keyframes if entry.size > self._largest_blob}
        fetching = None if self._fetching is None else self._fetching.digest
        self._keyframes = deque(
            entry for entry in keyframes if entry.digest not in self._held_back and entry.digest != fetching
        )
        # There may be more behind these.
        self._ask_keyframes = self._ask_keyframes or len(self._keyframes) >= KEYFRAMES_AT_ONCE
        return self._go()

    def _keyframe_fetched(self, digest: bytes, problem: Problem | None, now: float) -> None:
        if problem is None:
            self._waits.pop(digest, None)
            return
        self._held_back.add(digest)
        if problem.gone:
            self._waits.pop(digest, None)
        else:
            wait = self._waits.setdefault(digest, Backoff(*KEYFRAME_WAIT_S, self._random))
            wait.failed(now)

    def _go(self) -> list[ReceivingInstruction]:
        return [*self._apply(), *self._load_keyframes(), *self._fetch()]

    def _load_keyframes(self) -> list[ReceivingInstruction]:
        if not self._open or self._keyframes or self._asking_keyframes or not self._ask_keyframes:
            return []
        self._asking_keyframes, self._ask_keyframes = True, False
        return [LoadKeyframes(KEYFRAMES_AT_ONCE + len(self._held_back))]

    def _apply(self) -> list[ReceivingInstruction]:
        if self._applying is not None or self._retry_at is not None or not self._queue:
            return []
        records: list[Record] = []
        position = self._position
        while self._queue:
            record, reached = self._queue[0]
            if record is not None and record.payload is None and record.digest not in self._present:
                if record.size > self._largest_blob:
                    size, limit = record.size, self._largest_blob
                    self._skip(record.digest, f"it has {size} bytes, more than fetch.large_bytes ({limit})")
                    continue
                break
            self._queue.popleft()
            position = max(position, reached)
            if record is not None:
                records.append(record)
        if not records and position == self._position:
            return []
        self._present.difference_update(record.digest for record in records)
        self._applying = Apply(tuple(records), position)
        return [self._applying]

    def _skip(self, digest: bytes, reason: str) -> None:
        """Put gaps in the place of records whose payload is not to be had."""
        self._queue = deque(
            (
                Record.gap(self._log_id, position, position, reason)
                if record is not None and record.digest == digest
                else record,
                position,
            )
            for record, position in self._queue
        )

    def _fetch(self) -> list[ReceivingInstruction]:
        if not self._open or self._fetching is not None:
            return []
        head = self._queue[0][0] if self._queue else None
        if head is not None and head.payload is None and head.digest not in self._present:
            self._fetching = FetchBlob(head.digest, head.size, Content.PAYLOAD)
            return [self._fetching]
        if self._keyframes:
            keyframe = self._keyframes.popleft()
            self._fetching = FetchBlob(keyframe.digest, keyframe.size, Content.KEYFRAME)
            return [self._fetching]
        # Originals can wait: they are fetched only while no record does.
        if self._queue or self._originals_held >= self._most_originals:
            return []
        if self._originals:
            wanted = self._originals.popleft()
            self._fetching = FetchBlob(wanted.digest, wanted.size, Content.ORIGINAL)
            return [self._fetching]
        if self._ask_originals and not self._asking:
            self._asking, self._ask_originals = True, False
            return [LoadOriginals(self._most_originals - self._originals_held)]
        return []

    def _state_window(self) -> list[ReceivingInstruction]:
        if self._position <= self._stated:
            return []
        self._stated = self._position
        return [SendPull(self._position, self._window_records, self._window_bytes)]
