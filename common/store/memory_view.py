"""The trainer's view of a store in memory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping

from common.errors import StoreCorruptError
from common.frame import Frame, FrameIdentity
from common.store.contract import Closable
from common.store.corrections import Correction, corrected_frame, correction_of
from common.store.records import Record, RecordKind

__all__ = ["MemoryTrainingView"]


class MemoryTrainingView(Closable):
    """:class:`common.store.contract.TrainingView` on a store of the same process.

    Args:
        records: Gives (position, record with its payload) in order.
        originals: Gives labelled validation frames, newest first.
        keyframes: Fetched keyframes by content hash.
        own: Gives corrections that the fog may not have yet.
    """

    def __init__(
        self,
        records: Callable[[], list[tuple[int, Record]]],
        originals: Callable[[], list[Frame]],
        keyframes: Mapping[bytes, bytes] | None = None,
        own: Callable[[FrameIdentity], Correction | None] = lambda identity: None,
    ) -> None:
        self._records = records
        self._originals = originals
        self._own = own
        self._keyframes = {} if keyframes is None else keyframes

    def close(self) -> None:
        """Nothing is held."""

    @property
    def last_position(self) -> int:
        """Position of the newest record."""
        return max((position for position, _ in self._records()), default=0)

    @property
    def damaged(self) -> tuple[str, ...]:
        """Memory is not checked."""
        return ()

    def packets_after(self, position: int, limit: int, max_bytes: int = 64 << 20) -> list[tuple[int, bytes]]:
        """Packets in order."""
        packets: list[tuple[int, bytes]] = []
        total = 0
        for place, record in self._records():
            if place <= position or record.kind is not RecordKind.PACKET or record.payload is None:
                continue
            if len(packets) >= limit or (packets and total + record.size > max_bytes):
                break
            packets.append((place, record.payload))
            total += record.size
        return packets

    def packet(self, digest: bytes) -> bytes | None:
        """The packet with this content hash."""
        for _, record in self._records():
            if record.kind is RecordKind.PACKET and record.digest == digest:
                return record.payload
        return self._keyframes.get(digest)

    def packet_of(self, identity: FrameIdentity) -> bytes | None:
        """The packet of this frame."""
        for _, record in self._records():
            if record.kind is RecordKind.PACKET and record.identity == identity:
                return record.payload
        return None

    def corrections_after(self, position: int, limit: int) -> list[tuple[int, Correction]]:
        """Corrected labels in order."""
        return [(place, correction) for place, correction in self._corrections() if place > position][:limit]

    def correction(self, identity: FrameIdentity) -> Correction | None:
        """The newest correction of this frame."""
        mine = [correction for _, correction in self._corrections() if correction.identity == identity]
        return max(mine, key=lambda correction: correction.revision, default=None)

    def _corrections(self) -> list[tuple[int, Correction]]:
        corrections = []
        for place, record in self._records():
            if record.kind is RecordKind.LABELS and record.payload is not None:
                with contextlib.suppress(StoreCorruptError):
                    corrections.append((place, correction_of(record, record.payload)))
        return corrections

    def validation_originals(self, limit: int) -> list[Frame]:
        """The newest labelled validation frames whose original is here."""
        frames: dict[bytes, Frame] = {}
        for frame in self._originals():
            if len(frames) >= limit:
                break
            if frame.identity is not None:
                frame = corrected_frame(frame, self._own(frame.identity) or self.correction(frame.identity))
            if frame.labelled:
                frames.setdefault(frame.digest, frame)
        return list(frames.values())

    def latest_weights(self) -> tuple[Record, bytes] | None:
        """The newest weights record with its bytes."""
        for _, record in reversed(self._records()):
            if record.kind is RecordKind.WEIGHTS and record.payload is not None:
                whole = record.payload
                return (dataclasses.replace(record, payload=None) if record.large else record), whole
        return None
