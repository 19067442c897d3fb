"""Corrected labels in the stores in memory."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import StoreError
from common.frame import Box, Frame, FrameIdentity
from common.store.contract import TrainingView
from common.store.corrections import (
    LAST_REVISION,
    Correction,
    CorrectionOutcome,
    CorrectionResult,
    correction_meta,
    trainable_change,
)
from common.store.records import RecordKind

__all__ = ["MemoryEdgeCorrections", "MemoryFogCorrections"]


class MemoryFogCorrections:
    """The part of :class:`common.store.contract.FogStore` that takes corrections."""

    @abstractmethod
    def _open(self) -> threading.RLock: ...

    @abstractmethod
    def _frame(self, identity: FrameIdentity) -> Frame | None: ...

    @abstractmethod
    def _append(
        self, kind: RecordKind, identity: FrameIdentity, meta: Mapping[str, Any], payload: bytes
    ) -> int: ...

    @abstractmethod
    def training_view(self) -> TrainingView:
        """A view for the same process."""
        ...

    def correct(
        self, identity: FrameIdentity, revision: int, labelled: bool, boxes: Sequence[Box]
    ) -> CorrectionResult:
        """Append corrected labels of a committed frame."""
        with self._open():
            frame = self._frame(identity)
            if frame is None:
                return CorrectionResult(CorrectionOutcome.UNKNOWN_FRAME)
            before = self.training_view().correction(identity)
            correction = Correction(identity, revision, frame.width, frame.height, labelled, tuple(boxes))
            number, payload = correction.record_number, correction.payload()
            if before is not None and before.revision >= revision:
                other = before.revision == revision and before.payload() != payload
                return CorrectionResult(CorrectionOutcome.CONFLICT if other else CorrectionOutcome.KNOWN)
            was = frame.labelled if before is None else before.labelled
            meta = correction_meta(correction, was_labelled=was, validation=frame.validation)
            record = FrameIdentity(identity.device, identity.epoch, number)
            self._append(RecordKind.LABELS, record, meta, payload)
            return CorrectionResult(CorrectionOutcome.STORED, trainable_change(meta))


class MemoryEdgeCorrections:
    """The part of :class:`common.store.contract.EdgeStore` that keeps corrections until the fog has them."""

    def __init__(self) -> None:
        self._corrected: dict[int, Correction] = {}
        self._settled: set[int] = set()

    @abstractmethod
    def _open(self) -> threading.RLock: ...

    @abstractmethod
    def _recorded_frame(self, source_key: str) -> tuple[Frame, str] | None: ...

    @abstractmethod
    def _state(self, number: int) -> str: ...

    def correct(self, source_key: str, labelled: bool, boxes: Sequence[Box]) -> int | None:
        """Record new labels of a frame that was recorded before."""
        with self._open():
            found = self._recorded_frame(source_key)
            if found is None or found[1] in ("refused", "expired") or found[0].identity is None:
                return None
            frame, identity = found[0], found[0].identity
            before = self._corrected.get(identity.number)
            known = (frame.labelled, frame.boxes) if before is None else (before.labelled, before.boxes)
            if (labelled, tuple(boxes)) == known:
                return None
            revision = 1 if before is None else before.revision + 1
            if revision > LAST_REVISION:
                raise StoreError(
                    f"the labels of frame {identity.number} were corrected {LAST_REVISION} times; "
                    "record it anew"
                )
            self._corrected[identity.number] = Correction(
                identity, revision, frame.width, frame.height, labelled, tuple(boxes)
            )
            self._settled.discard(identity.number)
            return revision

    def waiting_corrections(self, limit: int, after: int = -1) -> list[Correction]:
        """Corrections that the fog may not have, of frames that it has."""
        with self._open():
            waiting = [
                correction
                for number, correction in sorted(self._corrected.items())
                if number > after and number not in self._settled and self._state(number) == "acknowledged"
            ]
        return waiting[:limit]

    def settle_correction(self, number: int, revision: int, reason: str | None = None) -> None:
        """The fog has this correction, or refuses it for good."""
        with self._open():
            held = self._corrected.get(number)
            if held is not None and held.revision == revision:
                self._settled.add(number)

    def _own_correction(self, identity: FrameIdentity) -> Correction | None:
        held = self._corrected.get(identity.number)
        return held if held is not None and held.identity == identity else None
