"""Carries out what :class:`edge_node.uploading.Uploading` decides: the outbox on its way to the own fog."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from common.errors import MessageError, WireError
from common.frame import Frame
from common.node.jobs import Call, Jobs
from common.node.logs import about
from common.node.rate_meter import RateMeter
from common.store.contract import EdgeStore
from common.wire.messages import Message, Refused, Upload, Welcome
from edge_node.correcting import Correcting, Corrections
from edge_node.troubles import Troubles
from edge_node.upload_times import UploadTimes
from edge_node.uploading import Acknowledge, LoadUploads, Refuse, SendUpload, Uploading, UploadInstruction

__all__ = ["OutboxSender"]

EXPIRE_S = 1.0
"""Seconds between two looks for frames that have outlived their time."""

_log = logging.getLogger(__name__)


class OutboxSender:
    """Uploads of one edge.

    Args:
        store: Its store.
        jobs: The store's thread.
        uploading: Decides what is sent when.
        meter: Measures the uplink.
        expected: Whether this node records, so that a fog that takes no uploads of it is worth a warning.
        send: Sends to the edge's own fog; raises WireError for a message that no fog would understand.

    Attributes:
        last_refusal: Why the fog takes no frames at present, in its words; empty while it does.
        troubles: What does not work at present.
        times: How long acknowledgements take.
    """

    def __init__(
        self,
        store: EdgeStore,
        jobs: Jobs,
        uploading: Uploading,
        meter: RateMeter,
        expected: bool,
        send: Callable[[Message], None],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self.uploading = uploading
        self._meter = meter
        self._expected = expected
        self._send = send
        self.corrections = Corrections(Correcting(), store, jobs, send=send)
        self.troubles = Troubles(_log)
        self.times = UploadTimes()
        self._welcome: Welcome | None = None
        self.last_refusal = ""
        self._expire_at = 0.0

    def opened(self, welcome: Welcome) -> None:
        """A session with the own fog has begun, in which this node may upload."""
        self._welcome = welcome
        now = time.monotonic()
        self.uploading.pacing.welcomed(welcome)
        self.perform(self.uploading.opened(welcome.max_uploads, now))
        self.corrections.opened("corrections" in welcome.features, now)

    def not_allowed(self, device: str) -> None:
        """A session has begun in which this node, of this key, may not upload."""
        if self._expected:
            _log.warning(
                "the fog does not take uploads of this node: run there: fog-node allow %s --may-upload",
                device,
            )

    def closed(self) -> None:
        """That session has ended."""
        self._welcome = None
        self._meter.end()
        self.times.closed()
        self.uploading.closed()
        self.corrections.state.closed()

    def recorded(self) -> None:
        """The outbox has new frames."""
        self.perform(self.uploading.recorded(time.monotonic()))

    def corrected(self) -> None:
        """The store has new corrections."""
        self.corrections.state.wake(time.monotonic())

    def accepted(self, numbers: Sequence[int], now: float) -> None:
        """The fog has these frames on disk."""
        taken, instructions = self.uploading.accepted(numbers, now)
        self.times.accepted(numbers, now)
        self._meter.add(taken, now)
        self.last_refusal = ""
        self.perform(instructions)
        self.corrections.state.wake(now)
        self._pause_meter()

    def refused(self, message: Refused, now: float) -> None:
        """The fog has refused a frame."""
        what = "for good" if message.permanent else "for now"
        if message.permanent or message.sentence != self.last_refusal:
            facts = about(frame=message.number)
            _log.warning("frame %d was refused %s: %s", message.number, what, message.sentence, extra=facts)
        self.last_refusal = message.sentence
        self.times.forget(message.number)
        reason = f"{message.code}: {message.sentence}"
        self.perform(
            self.uploading.refused(message.number, reason, message.permanent, now, message.retry_after_s)
        )
        self._pause_meter()

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.perform(self.uploading.tick(now))
        self.corrections.tick(now)
        # Not while frames are read that are to be sent: they are not in flight yet, and must not vanish.
        if now >= self._expire_at and not self.uploading.loading:
            self._expire_at = now + EXPIRE_S
            self._expire()

    def perform(self, instructions: Sequence[UploadInstruction]) -> None:
        """Carry out instructions."""
        for instruction in instructions:
            match instruction:
                case LoadUploads():
                    self._load(instruction)
                case SendUpload(frame):
                    self._send_frame(frame)
                case Acknowledge(numbers):
                    self._settle(
                        partial(self._store.acknowledge, numbers), partial(self.uploading.settled, numbers)
                    )
                case Refuse(number, reason):
                    self._settle(partial(self._store.refuse, number, reason))

    def _pause_meter(self) -> None:
        if not self.uploading.in_flight:
            self._meter.end()

    def _load(self, request: LoadUploads) -> None:
        kept = self.uploading.kept

        def load() -> list[Frame]:
            # What is too old now must not be what is sent next.
            self._store.expire(time.time(), kept)
            return self._store.unacknowledged(request.limit, request.max_bytes, request.without)

        def loaded(frames: list[Frame]) -> None:
            self.troubles.working("the outbox cannot be read")
            self.perform(self.uploading.loaded(request, frames, time.monotonic()))

        def failed(error: Exception) -> None:
            self.troubles.failing("the outbox cannot be read", error)
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
            now = time.monotonic()
            self._meter.begin(now)
            self.times.sent(frame.identity.number, now)
            self._send(Upload.of(frame))
        except WireError as error:
            number, reason = frame.identity.number, str(error)
            self.times.forget(number)
            _log.warning("frame %d cannot be uploaded: %s", number, reason, extra=about(frame=number))
            self.perform(self.uploading.refused(number, reason, True, time.monotonic()))

    def _expire(self) -> None:
        kept = self.uploading.kept

        def failed(error: Exception) -> None:
            self.troubles.failing("old frames cannot be dropped from the outbox", error)

        def done(gone: int) -> None:
            self.troubles.working("old frames cannot be dropped from the outbox")
            if gone:
                _log.info("%d frames were dropped that had waited longer than their ttl_s", gone)

        self._jobs.run(lambda: self._store.expire(time.time(), kept), done, failed)

    def _settle(self, job: Call, then: Call | None = None) -> None:
        def written(_: None) -> None:
            self.troubles.working("the outbox cannot be written")
            if then is not None:
                then()

        def failed(error: Exception) -> None:
            self.troubles.failing("the outbox cannot be written", error)
            self.uploading.settle_failed(time.monotonic())

        self._jobs.run(job, written, failed)
