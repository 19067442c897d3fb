"""An edge's dealings with one fog, without the socket: what it asks for, receives and fetches there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common import __version__
from common.errors import MessageError
from common.node.jobs import Jobs
from common.node.latency_meter import LatencyMeter
from common.node.logs import about
from common.node.rate_meter import RateMeter
from common.store.contract import EdgeStore
from common.store.records import ApplyResult, Keyframe, Original, RecordKind
from common.wire.messages import (
    FEATURES,
    Accepted,
    CaughtUp,
    Chunk,
    Corrected,
    Error,
    Fetch,
    Hello,
    Message,
    Plan,
    Pull,
    RecordMessage,
    Refused,
    Welcome,
)
from edge_node.counters import SessionCounters
from edge_node.fetching import Fetcher
from edge_node.fogs import FogPart
from edge_node.outbox_sender import OutboxSender
from edge_node.pacing import DownlinkGate, Pacing
from edge_node.receiving import (
    Apply,
    Content,
    FetchBlob,
    LoadKeyframes,
    LoadOriginals,
    Problem,
    Receiving,
    ReceivingInstruction,
    SendPull,
)
from edge_node.troubles import Troubles

__all__ = ["FogSession", "SessionEvents"]

RETRY_S = 2.0
"""Seconds before what the fog refused for now, or the store could not do, is tried again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionEvents:
    """What a session tells its node.

    Attributes:
        grew: Packets have become usable, or other records were stored; whether some were weights.
        planned: The own fog has told its plan.
        original_kept: An original was fetched and is held.
    """

    grew: Callable[[bool], None]
    planned: Callable[[Plan], None]
    original_kept: Callable[[], None]


class FogSession:
    """One edge and one fog.

    Args:
        part: The fog, and what is asked of it.
        store: The edge's store.
        jobs: The store's thread.
        receiving: Decides what is pulled, stored and fetched.
        meter: Measures the downlink from this fog.
        chunk_bytes: Bytes of one Fetch at most.
        send: Sends to this fog; raises WireError for a message that no fog would understand.
        pacing: The device's bandwidth.
        events: What the node is told.
        sender: The edge's uploads when this is its own fog, else None.
        log_id: Id of this fog's log if it is known already.

    Attributes:
        troubles: What does not work at present.
    """

    def __init__(
        self,
        part: FogPart,
        *,
        store: EdgeStore,
        jobs: Jobs,
        receiving: Receiving,
        meter: RateMeter,
        chunk_bytes: int,
        send: Callable[[Message], None],
        pacing: Pacing,
        events: SessionEvents,
        sender: OutboxSender | None,
        log_id: int | None,
    ) -> None:
        self.part = part
        self.receiving = receiving
        self.latency = LatencyMeter()
        self.counters = SessionCounters()
        self.down = meter
        self._store = store
        self._jobs = jobs
        self._chunk_bytes = chunk_bytes
        self._pacing = pacing
        self._gate = DownlinkGate(pacing, send)
        self._events = events
        self._sender = sender
        self.troubles = Troubles(_log)
        self._welcome: Welcome | None = None
        self._open_at: float | None = None
        self._log_id = log_id
        self._fetcher = Fetcher(store, jobs, send=self._fetch, done=self._fetched)

    @property
    def log_id(self) -> int | None:
        """Id of this fog's log; None while it is not known."""
        return self._log_id

    @property
    def position(self) -> int:
        """Position of this fog's log that the store holds."""
        return 0 if self._log_id is None else self._store.positions.get(self._log_id, 0)

    def hello(self) -> Hello:
        """The message that opens a session."""
        return Hello(
            epoch=self._store.epoch,
            position=self.position,
            log_id=self._log_id,
            devices=self.part.devices,
            kinds=(*self.part.kinds, "gap"),
            more_kinds=("labels",) if "packet" in self.part.kinds else (),
            software=__version__,
            features=FEATURES,
        )

    def welcomed(self, welcome: Welcome) -> None:
        """A session has begun."""
        self.counters.sessions += 1
        self._welcome = welcome
        self._follow(welcome)
        if self._sender is not None and not welcome.may_upload:
            self._sender.not_allowed(welcome.device)

    def disconnected(self) -> None:
        """The session has ended."""
        self._welcome = self._open_at = None
        self.latency.reset()
        self.down.end()
        if self._sender is not None:
            self._sender.closed()
        self.receiving.closed()
        self._fetcher.cancel()
        self._gate.clear()

    def received(self, message: Message, size: int) -> None:
        """A message of the session has come, of ``size`` bytes.

        Raises:
            MessageError: It contradicts itself or the window: the connection is to be closed.
        """
        now = time.monotonic()
        self._pacing.received(size, now)
        self.counters.was_received(message)
        match message:
            case Accepted(epoch) | Refused(epoch) | Corrected(epoch) if epoch != self._store.epoch:
                # The same key recorded these with another store, before this device was installed anew.
                _log.debug("an answer to uploads of another installation, epoch %d", epoch)
            case Accepted() if self._sender is not None:
                self._sender.accepted(message.numbers, now)
            case Refused() if self._sender is not None:
                self._sender.refused(message, now)
            case Corrected() if self._sender is not None:
                self._sender.corrections.answered(message, now)
            case RecordMessage():
                self.down.add(size, now)
                self.perform(self.receiving.record(message.to_record()))
                if self.receiving.overrun:
                    raise MessageError("the fog sends far more than was asked for")
            case CaughtUp():
                self.perform(self.receiving.caught_up(message.position))
            case Chunk():
                self.down.add(size, now)
                self._fetcher.chunk(message)
            case Plan() if self.part.own:
                self._events.planned(message)
            case Error():
                if message.digest is not None:
                    self._fetcher.unavailable(message.digest, message.code, message.sentence)
                else:
                    _log.error("the fog at %s says: %s", self.part.fog.address, message.sentence)
            case _:
                pass

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._welcome is not None and self._open_at is not None and now >= self._open_at:
            self._follow(self._welcome)
        self.perform(self.receiving.tick(now))
        self._fetcher.tick(now)
        self._gate.tick(now)

    def status(self) -> dict[str, Any]:
        """The session's part of the status file."""
        return {
            "own": self.part.own,
            "log_id": self._log_id,
            "log_position": self.position,
            "downlink_bytes_per_s": self.down.bytes_per_second(),
            "latency_s": self.latency.seconds(),
            "counters": self.counters.status(),
        }

    def perform(self, instructions: Sequence[ReceivingInstruction]) -> None:
        """Carry out instructions."""
        for instruction in instructions:
            match instruction:
                case SendPull(position, records, payload_bytes):
                    self._gate.send(Pull(position, records, payload_bytes), time.monotonic())
                case Apply():
                    self._apply(instruction)
                case FetchBlob():
                    chunk_bytes = self._chunk_bytes
                    if self._welcome is not None:
                        chunk_bytes = min(chunk_bytes, self._welcome.chunk_bytes)
                    self._fetcher.begin(instruction, chunk_bytes)
                case LoadOriginals(limit):
                    self._load_originals(limit)
                case LoadKeyframes(limit):
                    self._load_keyframes(limit)

    def _follow(self, welcome: Welcome) -> None:
        self._open_at = None
        what = f"the store cannot follow the log of the fog at {self.part.fog.address}"

        def opened(answer: tuple[int, int]) -> None:
            self.troubles.working(what)
            self._log_id = welcome.log_id
            if self._welcome is not welcome:
                return
            self.perform(self.receiving.opened(*answer, welcome.log_id))
            if self._sender is not None and welcome.may_upload:
                self._sender.opened(welcome)

        def failed(error: Exception) -> None:
            self.troubles.failing(what, error)
            if self._welcome is welcome:
                self._open_at = time.monotonic() + RETRY_S

        self._jobs.run(
            lambda: (self._store.follow(welcome.log_id), self._store.original_count()), opened, failed
        )

    def _apply(self, request: Apply) -> None:
        kinds = {record.kind for record in request.records}
        log_id = self._log_id
        what = "received records cannot be stored"

        def applied(result: ApplyResult) -> None:
            self.troubles.working(what)
            self.counters.was_applied(request.records, result)
            for identity in result.conflicts:
                facts = about(device=identity.device, frame=identity.number)
                _log.error(
                    "the log holds other content for frame %d of %s",
                    identity.number,
                    identity.device,
                    extra=facts,
                )
            for record in request.records:
                if record.kind is RecordKind.GAP:
                    _log.warning("records are missing: %s", dict(record.meta))
            self.perform(
                self.receiving.applied(request.position, RecordKind.PACKET in kinds, result.waiting > 0)
            )
            if kinds:
                self._events.grew(RecordKind.WEIGHTS in kinds)

        def failed(error: Exception) -> None:
            self.troubles.failing(what, error)
            self.receiving.apply_failed(time.monotonic())

        self._jobs.run(lambda: self._store.apply(request.records, request.position, log_id), applied, failed)

    def _load_originals(self, limit: int) -> None:
        def failed(error: Exception) -> None:
            _log.error("validation originals cannot be chosen: %s", error)
            self.perform(self.receiving.originals_wanted([]))

        def wanted(originals: list[Original]) -> None:
            self.perform(self.receiving.originals_wanted(originals))

        self._jobs.run(lambda: self._store.wanted_originals(limit, self._log_id), wanted, failed)

    def _load_keyframes(self, limit: int) -> None:
        def failed(error: Exception) -> None:
            _log.error("the keyframes that packets wait for cannot be listed: %s", error)
            self.perform(self.receiving.keyframes_wanted([]))

        def wanted(keyframes: list[Keyframe]) -> None:
            self.perform(self.receiving.keyframes_wanted(keyframes))

        self._jobs.run(lambda: self._store.wanted_keyframes(limit, self._log_id), wanted, failed)

    def _fetch(self, message: Fetch) -> None:
        self.down.begin(time.monotonic())
        self._gate.send(message, time.monotonic())

    def _fetched(self, request: FetchBlob, problem: Problem | None) -> None:
        self.down.end()
        self.perform(self.receiving.fetched(request, problem, time.monotonic()))
        if problem is not None:
            return
        match request.content:
            case Content.KEYFRAME:
                self._events.grew(False)
            case Content.ORIGINAL:
                self._events.original_kept()
            case Content.PAYLOAD:
                pass
