"""An edge node without its socket: the state machines, the store, the recorder and the trainer.

Every method runs in the daemon's I/O thread; the store is touched in a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.errors import MessageError, WireError
from common.frame import Frame
from common.node.child import Child
from common.node.jobs import Call, Jobs
from common.node.latency_meter import LatencyMeter
from common.node.mailbox import Mailbox
from common.node.rate_meter import RateMeter
from common.store.contract import EdgeStore
from common.store.records import ApplyResult, Keyframe, Original, RecordKind
from common.wire.messages import (
    FEATURES,
    Accepted,
    CaughtUp,
    Chunk,
    Error,
    Fetch,
    Hello,
    Message,
    Plan,
    Pull,
    RecordMessage,
    Refused,
    Report,
    Upload,
    Welcome,
)
from edge_node.fetching import Fetcher
from edge_node.learner import Learner
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
from edge_node.recorder import Recorder
from edge_node.settings import EdgeSettings
from edge_node.uploading import Acknowledge, LoadUploads, Refuse, SendUpload, Uploading, UploadInstruction

__all__ = ["EdgeNode"]

RETRY_S = 2.0
"""Seconds before what the fog refused for now, or the store could not do, is tried again."""

LEAST_BYTES = 16_384
"""Bytes that must be under way together for their time to tell the link's rate."""

_log = logging.getLogger(__name__)


class EdgeNode:
    """Recording, uploading, receiving and training of one edge.

    Args:
        settings: Its settings.
        base: Folder that relative paths of sources start from.
        folder: Folder of its store.
        store: Its store.
        mailbox: Brings outcomes of threads and children to the I/O thread.
        send: Sends to the fog; raises WireError for a message that no fog would understand.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        base: Path,
        folder: Path,
        store: EdgeStore,
        mailbox: Mailbox[Call],
        send: Callable[[Message], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._epoch = store.epoch
        self._send = send
        self._jobs = Jobs("store", mailbox)
        self._welcome: Welcome | None = None
        self._open_at: float | None = None
        self._last_refusal = ""
        self._failures: dict[str, str] = {}
        self._up = RateMeter(least_bytes=LEAST_BYTES)
        self._down = RateMeter(least_bytes=LEAST_BYTES)
        self.latency = LatencyMeter()
        wire, fetch = settings.wire, settings.fetch
        self.uploading = Uploading(
            window_frames=wire.upload_window_frames,
            window_bytes=settings.upload_bytes,
            retry_s=RETRY_S,
        )
        self.receiving = Receiving(
            window_records=wire.window_records,
            window_bytes=wire.window_bytes,
            originals=fetch.validation_originals,
            largest_blob=fetch.large_bytes,
            retry_s=RETRY_S,
        )
        self._fetcher = Fetcher(store, self._jobs, send=self._fetch, done=self._fetched)
        self._recorder = Recorder(
            settings,
            base=base,
            store=store,
            on_recorded=lambda: mailbox.post(lambda: self._upload(self.uploading.recorded(time.monotonic()))),
        )
        self.learner = Learner(
            settings,
            folder=folder,
            store=store,
            jobs=self._jobs,
            mailbox=mailbox,
            on_detector=self._recorder.detector_deployed,
        )

    @property
    def settled(self) -> bool:
        """Whether nothing sent waits for its answer and everything received is stored."""
        return not self.uploading.in_flight and self.receiving.idle and not self._jobs.outstanding

    @property
    def children(self) -> list[Child]:
        """The running child processes."""
        return [] if self.learner.child is None else [self.learner.child]

    def start(self) -> None:
        """Begin to record, and to learn from what the store holds."""
        self.learner.start()
        self._recorder.start()

    def hello(self) -> Hello:
        """The message that opens a session."""
        from common import __version__

        subscription = self._settings.subscription
        return Hello(
            epoch=self._epoch,
            position=self._store.position,
            log_id=self._store.log_id,
            devices=subscription.devices,
            kinds=(*subscription.kinds, "gap"),
            software=__version__,
            features=FEATURES,
        )

    def welcomed(self, welcome: Welcome) -> None:
        """A session has begun."""
        self._welcome = welcome
        self._follow(welcome)
        if not welcome.may_upload and self._settings.sources:
            _log.warning(
                "the fog does not take uploads of this node: run there: fog-node allow %s --may-upload",
                welcome.device,
            )

    def _follow(self, welcome: Welcome) -> None:
        self._open_at = None

        def opened(answer: tuple[int, int]) -> None:
            self._working("the store cannot follow the fog's log")
            if self._welcome is not welcome:
                return
            self._receive(self.receiving.opened(*answer, welcome.log_id))
            if welcome.may_upload:
                self._upload(self.uploading.opened(welcome.max_uploads, time.monotonic()))

        def failed(error: Exception) -> None:
            self._failing("the store cannot follow the fog's log", error)
            if self._welcome is welcome:
                self._open_at = time.monotonic() + RETRY_S

        self._jobs.run(
            lambda: (self._store.follow(welcome.log_id), self._store.original_count()), opened, failed
        )

    def disconnected(self) -> None:
        """The session has ended."""
        self._welcome = self._open_at = None
        self.latency.reset()
        self._up.end()
        self._down.end()
        self.uploading.closed()
        self.receiving.closed()
        self._fetcher.cancel()

    def received(self, message: Message, size: int) -> None:
        """A message of the session has come, of ``size`` bytes.

        Raises:
            MessageError: It contradicts itself or the window: the connection is to be closed.
        """
        now = time.monotonic()
        match message:
            case Accepted(epoch) | Refused(epoch) if epoch != self._epoch:
                # The same key recorded these with another store, before this device was installed anew.
                _log.debug("an answer to uploads of another installation, epoch %d", epoch)
            case Accepted():
                taken, instructions = self.uploading.accepted(message.numbers, now)
                self._up.add(taken, now)
                self._last_refusal = ""
                self._upload(instructions)
            case Refused():
                self._refused(message, now)
            case RecordMessage():
                self._down.add(size, now)
                self._receive(self.receiving.record(message.to_record()))
                if self.receiving.overrun:
                    raise MessageError("the fog sends far more than was asked for")
            case CaughtUp():
                self._receive(self.receiving.caught_up(message.position))
            case Chunk():
                self._down.add(size, now)
                self._fetcher.chunk(message)
            case Plan():
                self.learner.planned(message)
            case Error():
                if message.digest is not None:
                    self._fetcher.unavailable(message.digest, message.code, message.sentence)
                else:
                    _log.error("the fog says: %s", message.sentence)
            case _:
                pass
        if not self.uploading.in_flight:
            self._up.end()

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._welcome is not None and self._open_at is not None and now >= self._open_at:
            self._follow(self._welcome)
        self._upload(self.uploading.tick(now))
        self._receive(self.receiving.tick(now))
        self._fetcher.tick(now)
        self.learner.tick(now)

    def report(self) -> Report:
        """The rates measured so far."""
        outbox = self._store.outbox_state()
        metrics = self.learner.trained
        return Report(
            decode_frames_per_second=_positive(metrics.get("decode_frames_per_second")),
            training_seconds=_positive(metrics.get("seconds")),
            training_frames_per_second=_positive(metrics.get("training_frames_per_second")),
            uplink_bytes_per_second=self._up.bytes_per_second(),
            downlink_bytes_per_second=self._down.bytes_per_second(),
            latency_seconds=self.latency.seconds(),
            frames_recorded=outbox.recorded,
            map50=_share(metrics.get("map50")),
            map50_95=_share(metrics.get("map50_95")),
            position=self.receiving.position,
        )

    def stop(self, timeout: float) -> None:
        """Record and upload nothing more; what is under way goes on until :attr:`settled`."""
        self._recorder.stop(timeout)
        self.uploading.stop()

    def close(self) -> None:
        """End the threads after what they have in work."""
        self._recorder.stop(5.0)
        self._jobs.close()

    def status(self) -> dict[str, Any]:
        """The node's part of the status file."""
        outbox = self._store.outbox_state()
        recorder = self._recorder.status
        return {
            "epoch": self._epoch,
            "log_id": self._store.log_id,
            "log_position": self._store.position,
            "inbox_position": self._store.inbox_position,
            "recording": {
                "state": recorder.state,
                "source": recorder.source,
                "skipped": recorder.skipped,
                "problems": list(recorder.problems),
            },
            "outbox": {
                "recorded": outbox.recorded,
                "waiting": outbox.waiting,
                "waiting_bytes": outbox.waiting_bytes,
                "acknowledged": outbox.acknowledged,
                "refused": outbox.refused,
            },
            "inbox": {kind.value: self._store.count(kind) for kind in RecordKind},
            "waiting_for_keyframe": self._store.waiting_packets,
            "originals_fetched": self._store.original_count(),
            "uplink_bytes_per_s": self._up.bytes_per_second(),
            "downlink_bytes_per_s": self._down.bytes_per_second(),
            "latency_s": self.latency.seconds(),
            **self.learner.status(),
        }

    def _refused(self, message: Refused, now: float) -> None:
        what = "for good" if message.permanent else "for now"
        if message.permanent or message.sentence != self._last_refusal:
            _log.warning("frame %d was refused %s: %s", message.number, what, message.sentence)
        self._last_refusal = message.sentence
        reason = f"{message.code}: {message.sentence}"
        self._upload(self.uploading.refused(message.number, reason, message.permanent, now))

    def _upload(self, instructions: Sequence[UploadInstruction]) -> None:
        for instruction in instructions:
            match instruction:
                case LoadUploads():
                    self._load_uploads(instruction)
                case SendUpload(frame):
                    self._send_frame(frame)
                case Acknowledge(numbers):
                    self._outbox(partial(self._store.acknowledge, numbers))
                case Refuse(number, reason):
                    self._outbox(partial(self._store.refuse, number, reason))

    def _load_uploads(self, request: LoadUploads) -> None:
        def load() -> list[Frame]:
            return self._store.unacknowledged(request.limit, request.max_bytes, request.after)

        def loaded(frames: list[Frame]) -> None:
            self._working("the outbox cannot be read")
            self._upload(self.uploading.loaded(request, frames, time.monotonic()))

        def failed(error: Exception) -> None:
            self._failing("the outbox cannot be read", error)
            self.uploading.load_failed(request, time.monotonic())

        self._jobs.run(load, loaded, failed)

    def _send_frame(self, frame: Frame) -> None:
        if self._welcome is None or frame.identity is None:
            return
        limit = self._welcome.max_upload_bytes
        try:
            if len(frame.image) > limit:
                # Sending it would only end the connection, again and again.
                raise MessageError(f"its image has {len(frame.image)} bytes, the fog takes {limit}")
            self._up.begin(time.monotonic())
            self._send(Upload.of(frame))
        except WireError as error:
            number, reason = frame.identity.number, str(error)
            _log.warning("frame %d cannot be uploaded: %s", number, reason)
            self._upload(self.uploading.refused(number, reason, True, time.monotonic()))

    def _outbox(self, job: Call) -> None:
        def written(_: None) -> None:
            self._working("the outbox cannot be written")

        def failed(error: Exception) -> None:
            self._failing("the outbox cannot be written", error)
            self.uploading.settle_failed(time.monotonic())

        self._jobs.run(job, written, failed)

    def _failing(self, what: str, error: Exception) -> None:
        """Log a problem that is tried again: once, not at each attempt."""
        if self._failures.get(what) != str(error):
            _log.error("%s and is tried again: %s", what, error)
        self._failures[what] = str(error)

    def _working(self, what: str) -> None:
        if self._failures.pop(what, None) is not None:
            _log.info("no longer: %s", what)

    def _receive(self, instructions: Sequence[ReceivingInstruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SendPull(position, records, payload_bytes):
                    self._send(Pull(position, records, payload_bytes))
                case Apply():
                    self._apply(instruction)
                case FetchBlob():
                    chunk_bytes = self._settings.wire.chunk_bytes
                    if self._welcome is not None:
                        chunk_bytes = min(chunk_bytes, self._welcome.chunk_bytes)
                    self._fetcher.begin(instruction, chunk_bytes)
                case LoadOriginals(limit):
                    self._load_originals(limit)
                case LoadKeyframes(limit):
                    self._load_keyframes(limit)

    def _apply(self, request: Apply) -> None:
        kinds = {record.kind for record in request.records}

        def applied(result: ApplyResult) -> None:
            self._working("received records cannot be stored")
            for identity in result.conflicts:
                _log.error("the log holds other content for frame %d of %s", identity.number, identity.device)
            for record in request.records:
                if record.kind is RecordKind.GAP:
                    _log.warning("records are missing: %s", dict(record.meta))
            self._receive(
                self.receiving.applied(request.position, RecordKind.PACKET in kinds, result.waiting > 0)
            )
            if kinds:
                self.learner.inbox_grew(weights=RecordKind.WEIGHTS in kinds)

        def failed(error: Exception) -> None:
            self._failing("received records cannot be stored", error)
            self.receiving.apply_failed(time.monotonic())

        self._jobs.run(lambda: self._store.apply(request.records, request.position), applied, failed)

    def _load_originals(self, limit: int) -> None:
        def failed(error: Exception) -> None:
            _log.error("validation originals cannot be chosen: %s", error)
            self._receive(self.receiving.originals_wanted([]))

        def wanted(originals: list[Original]) -> None:
            self._receive(self.receiving.originals_wanted(originals))

        self._jobs.run(lambda: self._store.wanted_originals(limit), wanted, failed)

    def _load_keyframes(self, limit: int) -> None:
        def failed(error: Exception) -> None:
            _log.error("the keyframes that packets wait for cannot be listed: %s", error)
            self._receive(self.receiving.keyframes_wanted([]))

        def wanted(keyframes: list[Keyframe]) -> None:
            self._receive(self.receiving.keyframes_wanted(keyframes))

        self._jobs.run(lambda: self._store.wanted_keyframes(limit), wanted, failed)

    def _fetch(self, message: Fetch) -> None:
        self._down.begin(time.monotonic())
        self._send(message)

    def _fetched(self, request: FetchBlob, problem: Problem | None) -> None:
        self._down.end()
        self._receive(self.receiving.fetched(request, problem, time.monotonic()))
        if request.content is Content.KEYFRAME and problem is None:
            self.learner.inbox_grew(weights=False)


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e15 else None


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
