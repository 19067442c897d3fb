"""Who may do what, what is acknowledged and what is sent: the fog's pure state machine.

Events are method calls with the time; each returns the instructions that follow from it. There is no
socket, no thread and no clock in here. Waiting uploads are in :mod:`fog_node.uploads`; the encoder's part
is :mod:`fog_node.encoding`, training's is :mod:`fog_node.learner`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from common.errors import MessageVersionError, WireError
from common.store.records import CommitOutcome, LogPage
from common.wire.allow_list import Device
from common.wire.credits import SendWindow
from common.wire.messages import (
    FEATURES,
    CaughtUp,
    Chunk,
    Correct,
    Error,
    ErrorCode,
    Fetch,
    Hello,
    Message,
    Ping,
    Plan,
    Pong,
    Pull,
    RecordMessage,
    Report,
    Upload,
    Welcome,
)
from fog_node.corrections import Corrections
from fog_node.downlink_pacing import DownlinkPacing
from fog_node.instructions import Instruction, ReadBlob, ReadLog, Send
from fog_node.peer_limits import PeerLimits
from fog_node.rivals import Rivals
from fog_node.sessions import AHEAD, Session, readable_devices, wanted_kinds
from fog_node.settings import FogSettings
from fog_node.uploads import Uploads

__all__ = ["FogState"]

MAX_FETCHES = 16
"""Fetch requests of one edge under way; each answer is at most one chunk."""


class FogState:
    """Sessions, uploads and subscriptions of one fog node.

    Args:
        settings: The fog's settings.
        fog_key: The fog's own public key.
        log_id: Id of its log.
        last_position: Newest position of its log.
        rights: Device by public key.
        seed: Seed of the session numbers.
        clock: The local time, for the hours of devices.
    """

    def __init__(
        self,
        settings: FogSettings,
        *,
        fog_key: str,
        log_id: int,
        last_position: int,
        rights: Mapping[str, Device],
        seed: int | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._settings = settings
        self._fog_key = fog_key
        self._log_id = log_id
        self._last_position = last_position
        self._rights = dict(rights)
        self._random = random.Random(seed)
        self._sessions: dict[str, Session] = {}
        self._numbers: dict[int, Session] = {}
        self.limits = PeerLimits(settings.limits)
        self.downlink = DownlinkPacing(settings.traffic, settings.planner.packet_overhead_bytes, clock)
        self.downlink.listed(self._rights)
        self._uploads = Uploads(settings, self._sessions, self.limits)
        self.corrections = Corrections(settings, self._numbers)
        """Corrected labels on their way to the log."""
        self.ahead: dict[str, int] = {}
        """Positions that devices hold of this log, beyond its end, by their keys."""
        self.rivals = Rivals()
        """Keys that two nodes use at once."""
        self._plan: Plan | None = None
        self._stopping = False
        # Of the newest event that told it, for those that do not: a tick comes every few milliseconds.
        self._now = 0.0

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The sessions by key."""
        return self._sessions

    def session(self, number: int) -> Session | None:
        """The session of this number, if it has not ended."""
        return self._numbers.get(number)

    @property
    def rights(self) -> Mapping[str, Device]:
        """The rights in force by key."""
        return self._rights

    @property
    def waiting_bytes(self) -> int:
        """Bytes of uploads in memory that wait for their commit."""
        return self._uploads.waiting_bytes

    @property
    def idle(self) -> bool:
        """Whether no upload waits for its commit."""
        return self._uploads.idle

    def received(self, routing_id: bytes, key: str, message: Message, now: float) -> list[Instruction]:
        """A message has come from the connection ``routing_id`` of the authenticated ``key``."""
        self._now = now
        rights = self._rights.get(key)
        if rights is None:
            return [self._error(routing_id, key, ErrorCode.NOT_ALLOWED, _not_listed(key))]
        if isinstance(message, Hello):
            return self._hello(routing_id, key, rights, message, now)
        session = self._sessions.get(key)
        if session is None or session.routing_id != routing_id:
            sentence = "there is no session on this connection; say Hello first"
            return [self._error(routing_id, key, ErrorCode.NO_SESSION, sentence)]
        session.heard = now
        match message:
            case Upload():
                return self._uploads.received(session, message, now)
            case Correct():
                return self.corrections.received(session, message)
            case Pull():
                wire = self._settings.wire
                # Half the socket's queue is left to acknowledgements and chunks: a window that fits the
                # queue never finds it full, however slow the edge.
                records = min(message.records, wire.window_records, wire.send_queue_messages // 2)
                size = min(message.payload_bytes, wire.window_bytes)
                session.window.pulled(message.position, max(records, 1), size)
                return self._read_on(session)
            case Fetch():
                return self._fetch(session, message)
            case Report():
                session.report = message
                return []
            case Ping():
                return [self._send(session, Pong())]
            case _:
                sentence = f"a {type(message).__name__} is for edges; a fog does not take it"
                return [self._error(routing_id, key, ErrorCode.BAD_MESSAGE, sentence)]

    def malformed(self, routing_id: bytes, key: str, error: WireError, now: float) -> list[Instruction]:
        """A message that could not be decoded has come; the session, if any, lives on."""
        session = self._sessions.get(key)
        if session is not None and session.routing_id == routing_id:
            session.heard = now
        version = isinstance(error, MessageVersionError)
        code = ErrorCode.BAD_VERSION if version else ErrorCode.BAD_MESSAGE
        return [self._error(routing_id, key, code, str(error))]

    def committed(self, outcomes: Sequence[CommitOutcome]) -> list[Instruction]:
        """The frames of the last :class:`Commit` are on disk, each with its outcome."""
        return self._uploads.committed(outcomes)

    def commit_failed(self, sentence: str, *, full: bool, now: float) -> list[Instruction]:
        """Nothing of the last :class:`Commit` was stored.

        Every waiting upload is refused for now, so that the fog holds no images while its disk is full;
        the edges keep theirs and send them again later.
        """
        return self._uploads.commit_failed(sentence, full=full, now=now)

    def log_grew(self, last_position: int) -> list[Instruction]:
        """Records have been appended up to ``last_position``."""
        self._last_position = max(self._last_position, last_position)
        return [instruction for session in self._sessions.values() for instruction in self._read_on(session)]

    def page_read(self, number: int, page: LogPage) -> list[Instruction]:
        """The store has answered a :class:`ReadLog`."""
        session = self._numbers.get(number)
        if session is None:
            return []
        session.reading = False
        # The reader may see what was committed a moment before this is told.
        self._last_position = max(self._last_position, page.through)
        for record in page.records:
            size = len(record.payload or b"")
            session.window.sent(record.position, size)
            self.downlink.sent(session.key, 1, size, self._now)
        session.window.passed(page.through)
        sent: list[Instruction] = [self._send(session, RecordMessage.of(record)) for record in page.records]
        last = page.records[-1].position if page.records else 0
        if not page.more and page.through > last:
            sent.append(self._send(session, CaughtUp(page.through)))
        return [*sent, *self._read_on(session)]

    def page_failed(self, number: int, now: float) -> None:
        """The store could not carry out a :class:`ReadLog`; it is asked again after a while."""
        session = self._numbers.get(number)
        if session is not None:
            session.read_again_at = now + self._settings.retry_full_s

    def blob_read(
        self, number: int, request: ReadBlob, total: int | None, payload: bytes
    ) -> list[Instruction]:
        """The store has answered a :class:`ReadBlob`; ``total`` is None when there is no such content."""
        if total is None:
            sentence = "the fog has no such content, or your key may not read it"
            return self._fetched(number, Error(ErrorCode.NOT_FOUND, sentence, request.digest))
        session = self._numbers.get(number)
        if session is not None:
            self.downlink.sent(session.key, 0, len(payload), self._now)
        return self._fetched(number, Chunk(request.digest, request.offset, total, payload))

    def blob_failed(self, number: int, request: ReadBlob) -> list[Instruction]:
        """The store could not carry out a :class:`ReadBlob` now: the edge may ask again later."""
        sentence = "the fog cannot read this content at present; ask again later"
        return self._fetched(number, Error(ErrorCode.INTERNAL, sentence, request.digest))

    def unreachable(self, routing_id: bytes, key: str) -> None:
        """A connection is gone or takes nothing more: its session ends, the edge will connect again."""
        session = self._sessions.get(key)
        if session is not None and session.routing_id == routing_id:
            self._end(session)

    def rights_changed(self, rights: Mapping[str, Device]) -> list[Instruction]:
        """The allow list has changed: sessions of removed keys end, others get their new rights."""
        changed = {key for key in self._sessions if rights.get(key) != self._rights.get(key)}
        for key in self._rights.keys() - rights.keys():
            self.limits.forget(key)
            self.rivals.forget(key)
            self.ahead.pop(key, None)
        self._rights = dict(rights)
        self.downlink.listed(self._rights)
        instructions: list[Instruction] = []
        for key in changed:
            session = self._sessions[key]
            listed = key in rights
            # A key that stays says Hello again, and so gets its new rights and subscription.
            code = ErrorCode.NO_SESSION if listed else ErrorCode.NOT_ALLOWED
            sentence = "your rights have changed; say Hello again" if listed else _not_listed(key)
            instructions.append(self._error(session.routing_id, key, code, sentence))
            self._end(session)
        return instructions

    def plan_changed(self, plan: Plan) -> list[Instruction]:
        """The planner has chosen: every edge is told."""
        if plan == self._plan:
            return []
        self._plan = plan
        return [self._send(session, plan) for session in self._sessions.values()]

    def tick(self, now: float) -> list[Instruction]:
        """Time has passed: silent edges are forgotten, what was held back goes on."""
        self._now = now
        wire = self._settings.wire
        for session in list(self._sessions.values()):
            if now - session.heard > wire.heartbeat_seconds * wire.liveness:
                self._end(session)
        pages: list[Instruction] = []
        for session in self._sessions.values():
            if session.read_again_at is not None and now >= session.read_again_at:
                session.reading, session.read_again_at = False, None
                pages += self._read_on(session)
            if session.held:
                pages += self._release(session)
        return [*self._uploads.commit(), *pages]

    def stop(self) -> None:
        """Take nothing new; what waits is still committed and acknowledged."""
        self._stopping = True
        self._uploads.stop()

    def farewell(self) -> list[Instruction]:
        """The last messages of all: every edge is told to connect again later."""
        sentence = "the fog is stopping; connect again later"
        return [self._send(s, Error(ErrorCode.STOPPING, sentence)) for s in self._sessions.values()]

    def _hello(
        self, routing_id: bytes, key: str, rights: Device, hello: Hello, now: float
    ) -> list[Instruction]:
        if self._stopping:
            return [
                self._error(routing_id, key, ErrorCode.STOPPING, "the fog is stopping; connect again later")
            ]
        if hello.log_id == self._log_id and hello.position > self._last_position:
            self.ahead[key] = hello.position
            sentence = AHEAD.format(position=hello.position, last=self._last_position)
            return [self._error(routing_id, key, ErrorCode.INTERNAL, sentence)]
        self.ahead.pop(key, None)
        before = self._sessions.get(key)
        if before is None and len(self._sessions) >= self._settings.limits.peers:
            sentence = f"the fog serves {len(self._sessions)} edges, its limit; raise limits.peers there"
            return [self._error(routing_id, key, ErrorCode.FULL, sentence)]
        if before is not None:
            if before.routing_id != routing_id:
                self.rivals.took(key, before.routing_id, routing_id, now)
            self._end(before)
        session = Session(
            key=key,
            routing_id=routing_id,
            number=self._random.getrandbits(63),
            epoch=hello.epoch,
            may_upload=rights.may_upload,
            devices=readable_devices(hello.devices, rights.may_subscribe, self._fog_key),
            kinds=wanted_kinds(hello),
            heard=now,
            window=SendWindow(hello.position if hello.log_id == self._log_id else 0),
            software=hello.software,
            features=frozenset(hello.features),
        )
        self._uploads.count_waiting(session)
        self._sessions[key] = session
        self._numbers[session.number] = session
        wire = self._settings.wire
        welcome = Welcome(
            session=session.number,
            log_id=self._log_id,
            last_position=self._last_position,
            device=key,
            fog=self._fog_key,
            may_upload=rights.may_upload,
            max_upload_bytes=wire.max_message_bytes,
            max_uploads=wire.upload_window_frames,
            chunk_bytes=wire.chunk_bytes,
            heartbeat_seconds=wire.heartbeat_seconds,
            features=FEATURES,
            max_uploads_per_s=self._settings.limits.uploads_per_s,
            max_upload_bytes_per_s=self._settings.limits.upload_bytes_per_s,
        )
        plan = [] if self._plan is None else [self._send(session, self._plan)]
        return [self._send(session, welcome), *plan]

    def _fetch(self, session: Session, message: Fetch) -> list[Instruction]:
        if session.fetches >= MAX_FETCHES:
            sentence = f"at most {MAX_FETCHES} Fetch requests may be under way"
            error = Error(ErrorCode.BAD_MESSAGE, sentence, message.digest)
            return [Send(session.routing_id, error, session.key)]
        session.fetches += 1
        session.held_fetches.append(message)
        return self._release(session)

    def _release(self, session: Session) -> list[Instruction]:
        """What the device's bandwidth and hours let through of what it has asked for; the rest is held."""
        reads: list[Instruction] = []
        # One at a time: what it takes of the bandwidth is known once it is read.
        if session.held_fetches and self.downlink.ready(session.key, self._now):
            fetch = session.held_fetches.popleft()
            length = self.downlink.piece(session.key, min(fetch.length, self._settings.wire.chunk_bytes))
            reads.append(ReadBlob(session.number, fetch.digest, fetch.offset, length, session.devices))
        session.held = bool(session.held_fetches)
        return [*reads, *self._read_on(session)]

    def _fetched(self, number: int, answer: Message) -> list[Instruction]:
        session = self._numbers.get(number)
        if session is None:
            return []
        session.fetches -= 1
        return [self._send(session, answer)]

    def _read_on(self, session: Session) -> list[Instruction]:
        window = session.window
        if session.reading or window.through >= self._last_position:
            return []
        records, size = window.room()
        if not records:
            return []
        if not self.downlink.ready(session.key, self._now):
            session.held = True
            return []
        records, size = self.downlink.page(session.key, records, size, self._now)
        session.reading = True
        return [ReadLog(session.number, window.through, records, size, session.devices, session.kinds)]

    def _send(self, session: Session, message: Message) -> Send:
        return Send(session.routing_id, message, session.key)

    def _error(self, routing_id: bytes, key: str, code: ErrorCode, sentence: str) -> Send:
        return Send(routing_id, Error(code, sentence[:2000]), key)

    def _end(self, session: Session) -> None:
        del self._sessions[session.key]
        del self._numbers[session.number]


def _not_listed(key: str) -> str:
    return f"the key {key} is not on the fog's allow list; run fog-node allow there"
