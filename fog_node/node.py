"""A fog node without its socket: the state machines, the store, the workers and what joins them.

Every method runs in the daemon's I/O thread. Writes and reads of the store run in a thread each, so a slow
disk holds up neither heartbeats nor other edges.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.cost_model import Strategy
from common.errors import ConfigError, StoreFullError, WireError
from common.node.child import Child
from common.node.jobs import Call, Jobs
from common.node.logs import about
from common.node.mailbox import Mailbox
from common.node.process_figures import child_figures
from common.node.upkeep import Upkeep
from common.node.waiting import Waiting
from common.store.contract import FogStore
from common.store.records import CommitOutcome, Record, RecordKind
from common.wire.allow_list import AllowList, Device
from common.wire.messages import Message, Pull, RecordMessage
from fog_node.corrections import CorrectionWriter
from fog_node.counters import FogCounters
from fog_node.downlinks import Downlinks
from fog_node.encoding import Finish
from fog_node.frame_encoding import FrameEncoding
from fog_node.instructions import Commit, Instruction, ReadBlob, ReadLog, Send, WriteCorrection
from fog_node.learner import Learner
from fog_node.log_count import LogCount
from fog_node.log_reader import LogReader
from fog_node.log_records import Figures, record_of
from fog_node.planning import Planner
from fog_node.scrub import Scrub
from fog_node.settings import FogSettings
from fog_node.state import FogState

__all__ = ["FogNode", "Sender"]

Sender = Callable[[bytes, str, Message], bool]
"""(routing id, key, message) -> whether the connection took it; WireError when it breaks its schema."""

_log = logging.getLogger(__name__)


class FogNode:
    """Sessions, encoding, training and planning of one fog.

    Args:
        settings: Its settings.
        key: Its public key.
        folder: Folder of its store.
        store: Its store.
        allow: Its allow list.
        mailbox: Brings outcomes of jobs and children to the I/O thread.
        send: Sends to an edge.
    """

    def __init__(
        self,
        settings: FogSettings,
        *,
        key: str,
        folder: Path,
        store: FogStore,
        allow: AllowList,
        mailbox: Mailbox[Call],
        send: Sender,
    ) -> None:
        self._settings = settings
        self._key = key
        self._store = store
        self._allow = allow
        self._send = send
        self._writes = Jobs("store-writer", mailbox)
        self._reads = Jobs("store-reader", mailbox)
        self._upkeep = Upkeep(
            store,
            self._writes,
            every_s=settings.storage.retention.check_s,
            # Labels of packets that stay may have moved to the log's end.
            on_dropped=lambda: self._reads.run(lambda: store.last_position, self._grew, lambda _: None),
        )
        self._scrub = Scrub(
            store, self._reads, settings.storage.scrub, lambda: self._grew(store.last_position)
        )
        self.last_position = store.last_position
        self._log_id = store.log_id
        self._figures = Figures()
        self._store_problem = ""
        self._full = False
        self._bad_list = ""
        self.counters = FogCounters(Waiting(store.pending_count, time.monotonic()))
        self.state = FogState(
            settings,
            fog_key=key,
            log_id=self._log_id,
            last_position=self.last_position,
            rights=self._rights(),
        )
        self.encoding = FrameEncoding(
            settings,
            store,
            self._reads,
            self._writes,
            mailbox,
            on_finished=self._finished,
        )
        training = settings.training
        self._planner = Planner(
            settings.planner,
            training,
            epochs=training.detector.epochs,
            batch_frames=settings.encoder.batch_frames,
        )
        self._began = time.monotonic()
        self._downlinks = Downlinks(settings.planner.packet_overhead_bytes)
        self._planner.tallies = self._figures.tallies
        self._reader = LogReader(self.state, store, self._reads, self._downlinks, self.perform)
        self._learner = Learner(
            training,
            settings.children,
            folder=folder,
            store=store,
            key=key,
            jobs=self._writes,
            mailbox=mailbox,
            on_published=self._published,
        )
        self._corrections = CorrectionWriter(
            self.state.corrections, self._figures, store, self._writes, done=self._corrected
        )
        self._log_count = LogCount(
            self._figures, store, self._reads, until=self.last_position, on_counted=self._train
        )

    @property
    def settled(self) -> bool:
        """Whether every upload taken is answered and every encoded frame is written."""
        return self.state.idle and not self.encoding.writing and not self._writes.outstanding

    @property
    def encoders(self) -> list[Child]:
        """The running encoder workers."""
        return self.encoding.children

    @property
    def trainers(self) -> list[Child]:
        """The running trainer, if any."""
        return [] if self._learner.child is None else [self._learner.child]

    def received(self, routing_id: bytes, key: str, message: Message) -> None:
        """A message has come from an authenticated edge."""
        if key not in self.state.rights:
            # It was let in by a list that is newer than the last look at it.
            self.check_rights()
        before = self.state.sessions.get(key)
        in_flight = (0, 0) if before is None else before.in_flight
        now = time.monotonic()
        self.perform(self.state.received(routing_id, key, message, now))
        session = self.state.sessions.get(key)
        if session is None:
            return
        if session is not before:
            self._downlinks.gone(key)
        elif isinstance(message, Pull):
            records, size = session.in_flight
            self._downlinks.confirmed(key, in_flight[0] - records, in_flight[1] - size, records, now)
        if session is not before:
            _log.info("edge %s is connected", key, extra=about(device=key))
        if session.report is not None:
            self._planner.reports[key] = session.report

    def tick(self, now: float) -> None:
        """Time has passed."""
        self.encoding.tick(now)
        before = set(self.state.sessions)
        self.perform(self.state.tick(now))
        for key in before - set(self.state.sessions):
            _log.info("edge %s is silent and counts as gone", key, extra=about(device=key))
            self._downlinks.gone(key)
        self._learner.busy(not self.state.idle)
        self._learner.tick(now)
        self._upkeep.tick(now)
        self._scrub.tick(now)

    def check_rights(self) -> None:
        """Look at the allow list again; sessions of removed keys end."""
        try:
            self._allow.reload()
        except ConfigError as error:
            if str(error) != self._bad_list:
                _log.error("the allow list stays as it was: %s", error)
            self._bad_list = str(error)
            return
        self._bad_list = ""
        rights = self._rights()
        if rights != self.state.rights:
            for key in set(self.state.rights) - set(rights):
                _log.info("key %s was taken off the allow list", key, extra=about(device=key))
                self._planner.reports.pop(key, None)
                self._downlinks.forget(key)
            self.perform(self.state.rights_changed(rights))

    def plan(self) -> None:
        """Ask the planner again, tell the edges, and let the trainer know whether it is its turn."""
        sessions = self.state.sessions
        self._planner.subscribers = {key: session.devices for key, session in sessions.items()}
        self._planner.learners = frozenset(k for k, s in sessions.items() if RecordKind.WEIGHTS in s.kinds)
        self._planner.downlinks = {key: self._downlinks.rate(key) for key in sessions}
        self._planner.downlink_limits = {key: self.state.downlink.limit(key) for key in sessions}
        self._planner.names = {key: device.name for key, device in self.state.rights.items()}
        self._planner.connected_s = time.monotonic() - self._began
        workers = max(1, self._settings.workers.workers)
        if self._figures.packets:
            self._planner.encode_s_per_frame = self._figures.seconds / self._figures.packets / workers
            self._planner.trained_share = self._figures.trainable / self._figures.packets
            self._planner.validation_share = self._figures.validation / self._figures.packets
        if self._log_count.ended and self._planner.update():
            _log.info("plan: %s", self._planner.sentence())
        message = self._planner.message()
        if message is not None:
            self.perform(self.state.plan_changed(message))
        self._train()

    def stop(self) -> None:
        """Take nothing new; what is under way goes on until :attr:`settled`."""
        self.state.stop()
        self.encoding.stop()

    def farewell(self) -> None:
        """Tell every edge, and the trainer to save its work and end."""
        self.perform(self.state.farewell())
        self._learner.stop()

    def close(self) -> None:
        """End the store's threads after what they have in work."""
        self._writes.close()
        self._reads.close()
        self.last_position = max(self.last_position, self._store.last_position)

    def status(self) -> dict[str, Any]:
        """The node's part of the status file."""
        pending = self._store.pending_count
        return {
            "key": self._key,
            "log_id": self._log_id,
            "log_position": self.last_position,
            "frames_pending": pending,
            "pending_oldest_s": self.counters.waiting.oldest_s(time.monotonic(), pending),
            "frames_in_encoders": self.encoding.held,
            "encoded": self._figures.status(),
            "devices": {
                key: {"frames": t.frames, "jpeg_bytes": t.jpeg_bytes, "packet_bytes": t.packet_bytes}
                for key, t in self._figures.tallies.items()
            },
            "peers": {
                key: self._peer(key) | session.status() for key, session in self.state.sessions.items()
            },
            "workers": self.encoding.status(),
            "training": self._learner.status(),
            "plan": self._planner.status(),
            "store_full": self._full,
            "store_problem": self._store_problem,
            "rights_problem": self._bad_list,
            "counters": self.counters.status(),
            "children": child_figures([*self.encoders, *self.trainers]),
            **self._upkeep.status(),
            "scrub": self._scrub.status(),
        }

    def _peer(self, key: str) -> dict[str, Any]:
        device = self.state.rights.get(key)
        name = "" if device is None else device.name
        rate = self._downlinks.rate(key)
        return {"name": name, "downlink_bytes_per_s": rate, **self.state.downlink.status(key)}

    def perform(self, instructions: Sequence[Instruction]) -> None:
        """Carry out instructions of the session state machine."""
        # A connection that did not take one message gets none of those behind it: it must not see a hole.
        gone: set[bytes] = set()
        for instruction in instructions:
            match instruction:
                case Send(routing_id, message, key):
                    if routing_id not in gone and not self._deliver(routing_id, key, message):
                        gone.add(routing_id)
                        self.state.unreachable(routing_id, key)
                case Commit():
                    self._commit(instruction)
                case ReadLog():
                    self._reader.read_log(instruction)
                case ReadBlob():
                    self._reader.read_blob(instruction)
                case WriteCorrection():
                    self._corrections.write(instruction)

    def _deliver(self, routing_id: bytes, key: str, message: Message) -> bool:
        """Send a message; a gap in the place of a record that cannot travel."""
        try:
            return self._send(routing_id, key, message)
        except WireError as error:
            _log.error("a %s for %s cannot be sent: %s", type(message).__name__, key, error)
            if not isinstance(message, RecordMessage):
                return True
            gap = Record.gap(self._log_id, message.position, message.position, str(error)[:2000])
            return self._send(routing_id, key, RecordMessage.of(gap))

    def _commit(self, commit: Commit) -> None:
        def committed(outcomes: list[CommitOutcome]) -> None:
            if self._full:
                _log.info("the store has room again; uploads are accepted")
            self._full, self._store_problem = False, ""
            self.counters.committed(commit.frames, outcomes)
            self.perform(self.state.committed(outcomes))
            self.encoding.frames_committed()

        def failed(error: Exception) -> None:
            full = isinstance(error, StoreFullError)
            if not (full and self._full):
                _log.error("uploads are refused for now: %s", error)
            self._full, self._store_problem = full, str(error)
            if full:
                self._upkeep.hurry()
            self.perform(self.state.commit_failed(str(error), full=full, now=time.monotonic()))

        self._writes.run(lambda: self._store.commit_frames(commit.frames), committed, failed)

    def _finished(self, items: Sequence[Finish], last_position: int) -> None:
        """Records of encoded frames are in the log."""
        for item in items:
            kind, meta, payload = record_of(item)
            self._figures.add(item.identity.device, kind, meta, len(payload))
            self.counters.finished(item.identity, kind, meta, len(payload))
        self._grew(last_position)
        self._train()

    def _grew(self, last_position: int) -> None:
        self.last_position = max(self.last_position, last_position)
        self.perform(self.state.log_grew(self.last_position))

    def _train(self) -> None:
        """Tell the learner how many frames there are and whether it is the fog's turn."""
        self._planner.fog_training_s = self._learner.seconds
        if self._log_count.ended:
            planned = self._planner.strategy is Strategy.FOG
            self._learner.update(self._figures.trainable, self.last_position, planned=planned)

    def _corrected(self, answers: Sequence[Instruction], position: int) -> None:
        self.perform(answers)
        self._grew(position)
        self._train()

    def _published(self, position: int, size: int) -> None:
        self._planner.detector_bytes = size
        self._grew(position)

    def _rights(self) -> dict[str, Device]:
        return {device.key: device for device in self._allow.devices}
