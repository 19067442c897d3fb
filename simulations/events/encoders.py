"""The encoders of one fog: the product's own batching (fog_node.encoding), with stand-ins for the workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.frame import Frame, FrameIdentity
from common.store.records import PendingFrame
from fog_node.encoding import Assign, EncodingInstruction, EncodingState, FinishFrames, LoadPending
from fog_node.workers.encoder_messages import Encoded
from simulations.events.engine import Engine
from simulations.events.frames import FrameColumns
from simulations.events.scenario import FogSettings

__all__ = ["Encoders"]

NEVER_S = 1e18
"""Simulated workers do not hang, and the simulated store does not fail."""

MOST_ATTEMPTS = 10**9
"""Outages make no tombstones: the frame is not to blame."""

ROUNDING_S = 1e-6
"""Added to a wait whose end rounding has put before its time."""

FRAME = Frame(name="frame", image=b"", width=1, height=1)
"""What stands for every frame: the queue looks at identities only."""


@dataclass(frozen=True, slots=True)
class _Packet(Encoded):
    """The packet of a frame, by the frame's number."""

    frame: int = -1


class Encoders:
    """From committed frames to packets in order.

    Args:
        engine: The clock.
        settings: Of the fog.
        frames: Every frame.
        on_encoded: Called with the time and a frame whose record is to be written.
    """

    def __init__(
        self,
        engine: Engine,
        settings: FogSettings,
        frames: FrameColumns,
        on_encoded: Callable[[float, int], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._frames = frames
        self._on_encoded = on_encoded
        self._state = EncodingState(
            workers=settings.workers,
            batch_frames=settings.batch_frames,
            wait_s=settings.wait_s,
            attempts=MOST_ATTEMPTS,
            batch_timeout_s=NEVER_S,
            retry_s=NEVER_S,
        )
        self._room = (settings.workers + 1) * settings.batch_frames
        self._identities: dict[int, FrameIdentity] = {}
        # The store: committed frames that have not been loaded.
        self._stored: deque[int] = deque()
        # When each frame was loaded that waits in the state for a worker.
        self._waiting: dict[int, float] = {}
        self._at_work: dict[int, tuple[int, list[int]]] = {}
        self._ready: set[int] = set()
        self._tick_at = -1.0
        self.busy_s = 0.0

    @property
    def unfinished(self) -> int:
        """Frames committed whose record is not written."""
        return len(self._stored) + self._state.held

    def start(self) -> None:
        """Workers begin; those of an outage stop and begin again."""
        for worker in range(self._settings.workers):
            self._begin(0.0, worker)
            for outage in self._settings.outages:
                self._engine.at(outage.from_s, self._lose, worker)
                self._engine.at(outage.to_s, self._begin, worker)

    def committed(self, frames: Sequence[int], now: float) -> None:
        """Frames are on disk."""
        self._stored.extend(frames)
        # With no room the state would only note that there is more, as it knows already.
        if self._state.held < self._room:
            self._perform(self._state.frames_committed(now), now)

    def _begin(self, now: float, worker: int) -> None:
        self._ready.add(worker)
        self._perform(self._state.worker_ready(worker, now), now)

    def _lose(self, now: float, worker: int) -> None:
        self._ready.discard(worker)
        self._at_work.pop(worker, None)
        self._perform(self._state.worker_lost(worker, "an outage", now), now)

    def _perform(self, instructions: Sequence[EncodingInstruction], now: float) -> None:
        state = self._state
        for instruction in instructions:
            if type(instruction) is LoadPending:
                loaded = self._load(instruction.limit, now)
                self._perform(state.loaded(loaded, instruction.limit, now), now)
            elif type(instruction) is Assign:
                self._assign(instruction, now)
            elif type(instruction) is FinishFrames:
                for item in instruction.items:
                    if isinstance(item.result, _Packet):
                        self._on_encoded(now, item.result.frame)
                self._perform(state.finished(now), now)
        self._wait(now)

    def _load(self, limit: int, now: float) -> list[PendingFrame]:
        loaded = []
        stored, devices, identities = self._stored, self._frames.device, self._identities
        for _ in range(min(limit, len(stored))):
            frame = stored.popleft()
            device = devices[frame]
            identity = identities.get(device)
            if identity is None:
                identity = identities[device] = FrameIdentity(f"{device}", 0, 0)
            loaded.append(PendingFrame(frame, identity, FRAME))
            self._waiting[frame] = now
        return loaded

    def _assign(self, batch: Assign, now: float) -> None:
        frames = list(batch.arrivals)
        for frame in frames:
            self._waiting.pop(frame, None)
        self._at_work[batch.worker] = batch.batch, frames
        seconds = sum(self._frames.encode_s[frame] for frame in frames)
        self._engine.at(now + seconds, self._encoded, (batch.worker, batch.batch, seconds))

    def _encoded(self, now: float, answer: tuple[int, int, float]) -> None:
        worker, batch, seconds = answer
        if self._at_work.get(worker, (0, []))[0] != batch:
            return
        self.busy_s += seconds
        frames = self._at_work.pop(worker)[1]
        results = [_packet(frame) for frame in frames]
        self._perform(self._state.batch_encoded(worker, batch, results, now), now)

    def _wait(self, now: float) -> None:
        """A tick for when the oldest waiting frame has waited long enough, if a worker is free."""
        if not self._waiting or len(self._at_work) >= len(self._ready) or self._tick_at > now:
            return
        due = next(iter(self._waiting.values())) + self._settings.wait_s
        self._tick_at = due if due > now else now + ROUNDING_S
        self._engine.at(self._tick_at, self._tick)

    def _tick(self, now: float, _: Any) -> None:
        self._tick_at = -1.0
        self._perform(self._state.tick(now), now)


def _packet(frame: int) -> _Packet:
    return _Packet(
        packet=b"",
        background_psnr_db=None,
        object_psnr_db=(),
        seconds=0.0,
        reached_target=True,
        frame=frame,
    )
