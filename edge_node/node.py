"""An edge node without its sockets: the sessions with its fogs, the store, the recorder and the trainer.

Every method runs in the daemon's I/O thread; the store is touched in a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.node.child import Child
from common.node.detector_history import IN_USE
from common.node.jobs import Call, Jobs
from common.node.mailbox import Mailbox
from common.node.process_figures import child_figures
from common.node.rate_meter import RateMeter
from common.node.upkeep import Upkeep
from common.node.waiting import QueueAge
from common.store.contract import EdgeStore
from common.store.records import RecordKind
from common.wire.messages import Message, Report
from edge_node.fog_session import RETRY_S, FogSession, SessionEvents
from edge_node.fogs import FogPart
from edge_node.labeller import labeller_of
from edge_node.learner import Learner
from edge_node.outbox_sender import OutboxSender
from edge_node.pacing import Pacing
from edge_node.receiving import Receiving
from edge_node.recorder import Recorder
from edge_node.settings import EdgeSettings
from edge_node.uploading import Uploading

__all__ = ["EdgeNode"]

LEAST_BYTES = 16_384
"""Bytes that must be under way together for their time to tell the link's rate."""


class EdgeNode:
    """Recording, uploading, receiving and training of one edge.

    Args:
        settings: Its settings.
        base: Folder that relative paths of sources start from.
        folder: Folder of its store.
        store: Its store.
        mailbox: Brings outcomes of threads and children to the I/O thread.
        parts: Its fogs, its own one first.
        send: Sends to a fog; raises WireError for a message that no fog would understand.

    Attributes:
        sessions: One for each fog, its own one first.
        sender: The uploads to its own fog.
        learner: Its training.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        base: Path,
        folder: Path,
        store: EdgeStore,
        mailbox: Mailbox[Call],
        parts: Sequence[FogPart],
        send: Callable[[FogPart, Message], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._jobs = Jobs("store", mailbox)
        self._upkeep = Upkeep(store, self._jobs, every_s=settings.storage.retention.check_s)
        self._up = RateMeter(least_bytes=LEAST_BYTES)
        self._outbox_age = QueueAge()
        self._pacing = Pacing(settings.traffic)
        self.sender = OutboxSender(
            store,
            self._jobs,
            Uploading(
                window_frames=settings.wire.upload_window_frames,
                window_bytes=settings.upload_bytes,
                retry_s=RETRY_S,
                pacing=self._pacing,
            ),
            self._up,
            expected=bool(settings.sources),
            send=partial(send, parts[0]),
        )
        self._labeller = labeller_of(settings, folder / "detector" / IN_USE)
        self._recorder = Recorder(
            settings,
            base=base,
            store=store,
            on_recorded=lambda: mailbox.post(self.sender.recorded),
            on_corrected=lambda: mailbox.post(self.sender.corrected),
            labeller=self._labeller,
        )
        self.learner = Learner(
            settings,
            folder=folder,
            store=store,
            jobs=self._jobs,
            mailbox=mailbox,
            on_detector=self._recorder.detector_deployed,
        )
        # With one fog the log followed last is most likely its log: then its position is known at once.
        log_id = store.log_id if len(parts) == 1 else None
        self.sessions = [self._session(part, partial(send, part), log_id) for part in parts]

    def _session(self, part: FogPart, send: Callable[[Message], None], log_id: int | None) -> FogSession:
        settings = self._settings
        return FogSession(
            part,
            store=self._store,
            jobs=self._jobs,
            receiving=Receiving(
                window_records=settings.wire.window_records,
                window_bytes=self._pacing.down_window(settings.wire.window_bytes),
                originals=settings.fetch.validation_originals,
                largest_blob=settings.fetch.large_bytes,
                retry_s=RETRY_S,
            ),
            meter=RateMeter(least_bytes=LEAST_BYTES),
            chunk_bytes=self._pacing.down_window(settings.wire.chunk_bytes),
            send=send,
            pacing=self._pacing,
            events=SessionEvents(
                grew=lambda weights: self.learner.inbox_grew(weights=weights),
                planned=self.learner.planned,
                original_kept=self._original_kept,
            ),
            sender=self.sender if part.own else None,
            log_id=log_id,
        )

    @property
    def own(self) -> FogSession:
        """The session with the fog that this device belongs to."""
        return self.sessions[0]

    @property
    def settled(self) -> bool:
        """Whether nothing sent waits for its answer and everything received is stored."""
        idle = all(session.receiving.idle for session in self.sessions)
        return not self.sender.uploading.in_flight and idle and not self._jobs.outstanding

    @property
    def children(self) -> list[Child]:
        """The running child processes."""
        children = [self.learner.child, None if self._labeller is None else self._labeller.child]
        return [child for child in children if child is not None]

    def start(self) -> None:
        """Begin to record, and to learn from what the store holds."""
        self.learner.start()
        self._recorder.start()

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.sender.tick(now)
        for session in self.sessions:
            session.tick(now)
        # Not while they only wait for a fog that is away.
        self.learner.busy(self.sender.uploading.in_flight > 0)
        self.learner.tick(now)
        self._upkeep.tick(now)

    def report(self, session: FogSession) -> Report:
        """The rates measured so far, for one fog: another than its own is told of its own link only."""
        link = Report(
            downlink_bytes_per_second=session.down.bytes_per_second(),
            latency_seconds=session.latency.seconds(),
            position=session.position,
        )
        if not session.part.own:
            return link
        metrics, outbox = self.learner.trained, self._store.outbox_state()
        return Report(
            decode_frames_per_second=_positive(metrics.get("decode_frames_per_second")),
            training_seconds=_positive(metrics.get("seconds")),
            training_frames_per_second=_positive(metrics.get("training_frames_per_second")),
            uplink_bytes_per_second=self._up.bytes_per_second(),
            downlink_bytes_per_second=link.downlink_bytes_per_second,
            latency_seconds=link.latency_seconds,
            frames_recorded=outbox.recorded,
            frames_expired=outbox.expired,
            frames_refused=outbox.refused,
            map50=_share(metrics.get("map50")),
            map50_95=_share(metrics.get("map50_95")),
            position=link.position,
        )

    def stop(self, timeout: float) -> None:
        """Record and upload nothing more; what is under way goes on until :attr:`settled`."""
        self._recorder.stop(timeout)
        self.sender.uploading.stop()

    def close(self) -> None:
        """End the threads after what they have in work."""
        self._recorder.stop(5.0)
        self._jobs.close()

    def status(self) -> dict[str, Any]:
        """The node's part of the status file; what belongs to a fog is its own fog's."""
        outbox = self._store.outbox_state()
        recorder = self._recorder.status
        return {
            "epoch": self._store.epoch,
            "log_id": self.own.log_id,
            "log_position": self.own.position,
            "inbox_position": self._store.inbox_position,
            "recording": {
                "state": recorder.state,
                "source": recorder.source,
                "corrected": recorder.corrected,
                "skipped": recorder.skipped,
                "problems": list(recorder.problems),
                "labelling": None if self._labeller is None else self._labeller.status(),
            },
            "outbox": {
                "oldest_s": self._outbox_age.head_s(outbox.recorded, outbox.waiting, time.monotonic()),
                "recorded": outbox.recorded,
                "waiting": outbox.waiting,
                "waiting_bytes": outbox.waiting_bytes,
                "acknowledged": outbox.acknowledged,
                "refused": outbox.refused,
                "expired": outbox.expired,
                "last_refusal": self.sender.last_refusal,
                "acknowledgement": self.sender.times.status(),
            },
            "store_problems": [
                *self.sender.troubles.present,
                *(sentence for session in self.sessions for sentence in session.troubles.present),
            ],
            **self._upkeep.status(),
            "inbox": {kind.value: self._store.count(kind) for kind in RecordKind},
            "waiting_for_keyframe": self._store.waiting_packets,
            "originals_fetched": self._store.original_count(),
            "traffic": self._pacing.status(),
            "uplink_bytes_per_s": self._up.bytes_per_second(),
            "downlink_bytes_per_s": self.own.down.bytes_per_second(),
            "latency_s": self.own.latency.seconds(),
            **self.learner.status(),
            "children": child_figures(self.children),
        }

    def _original_kept(self) -> None:
        """The bound on originals is one for all fogs."""
        for session in self.sessions:
            session.receiving.originals_held(self._store.original_count())


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e15 else None


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
