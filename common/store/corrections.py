"""Corrected labels of a frame: a record of its own, so that no identity ever changes its content.

The record's number holds the frame's number and the revision, so the newest correction of a frame is one look
into the index that every log has: ``number = frame * 65,536 + revision``.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import BoxError, StoreCorruptError, StoreError
from common.frame import Box, Frame, FrameIdentity
from common.store.records import Record, RecordKind
from common.store.rows import json_text

__all__ = [
    "LAST_FRAME",
    "LAST_REVISION",
    "Correction",
    "CorrectionOutcome",
    "CorrectionResult",
    "corrected_frame",
    "correction_meta",
    "correction_of",
    "frame_of_labels",
    "label_facts",
    "record_numbers",
    "trainable_change",
]

LAST_REVISION = 2**16 - 1
"""Greatest revision of one frame's labels; the first correction is revision 1."""
LAST_FRAME = 2**47 - 1
"""Greatest frame number whose labels can be corrected."""


class CorrectionOutcome(enum.StrEnum):
    """What became of a correction that was offered to the fog."""

    STORED = "stored"
    """In the log now."""
    KNOWN = "known"
    """It, or a later revision, stood in the log before: acknowledge it."""
    CONFLICT = "conflict"
    """The revision was used for other labels: refuse it for good."""
    UNKNOWN_FRAME = "unknown_frame"
    """The fog has no such frame (yet)."""


@dataclass(frozen=True, slots=True)
class Correction:
    """New labels of a recorded frame; of several, the one of the greatest revision holds.

    Attributes:
        identity: The frame.
        revision: 1 to ``LAST_REVISION``.
        width, height: Size of the recorded image, pixels.
        labelled: Whether the boxes are known; False takes the frame out of training.
        boxes: In pixels of the recorded image.
    """

    identity: FrameIdentity
    revision: int
    width: int
    height: int
    labelled: bool
    boxes: tuple[Box, ...]

    @property
    def record_number(self) -> int:
        """Number of its record.

        Raises:
            StoreError: The revision or the frame number is out of range.
        """
        if not (1 <= self.revision <= LAST_REVISION and 0 <= self.identity.number <= LAST_FRAME):
            raise StoreError(
                f"revision {self.revision} of the labels of frame {self.identity.number} is out of range: "
                f"revisions go from 1 to {LAST_REVISION}, frames to {LAST_FRAME}"
            )
        return self.identity.number * (LAST_REVISION + 1) + self.revision

    def payload(self) -> bytes:
        """Content of its record, JSON; equal corrections have equal bytes."""
        facts = {"width": self.width, "height": self.height, **label_facts(self.labelled, self.boxes)}
        return json_text(facts).encode()


@dataclass(frozen=True, slots=True)
class CorrectionResult:
    """What the fog's store did with a correction.

    Attributes:
        outcome: What became of it.
        trainable: By how many the frames to train on have changed: -1, 0 or 1.
    """

    outcome: CorrectionOutcome
    trainable: int = 0


def label_facts(labelled: bool, boxes: tuple[Box, ...]) -> dict[str, Any]:
    """Labels as JSON values."""
    return {
        "labelled": labelled,
        "boxes": [[float(b.x0), float(b.y0), float(b.x1), float(b.y1), b.name] for b in boxes],
    }


def record_numbers(frame: int) -> tuple[int, int]:
    """First and last number that corrections of frame ``frame`` may have; (1, 0) when it can have none."""
    if frame > LAST_FRAME:
        return 1, 0
    return frame * (LAST_REVISION + 1) + 1, frame * (LAST_REVISION + 1) + LAST_REVISION


def frame_of_labels(record: FrameIdentity) -> FrameIdentity:
    """The frame whose labels a record of this identity corrects."""
    return FrameIdentity(record.device, record.epoch, record.number // (LAST_REVISION + 1))


def correction_meta(correction: Correction, *, was_labelled: bool, validation: bool) -> dict[str, Any]:
    """Meta of its record: what a node must know that counts frames to train on."""
    return {
        "frame": correction.identity.number,
        "revision": correction.revision,
        "labelled": correction.labelled,
        "was_labelled": was_labelled,
        "validation": validation,
    }


def trainable_change(meta: Mapping[str, Any]) -> int:
    """By how many the frames to train on change with the correction of this meta: -1, 0 or 1."""
    if meta.get("validation"):
        return 0
    return bool(meta.get("labelled")) - bool(meta.get("was_labelled"))


def correction_of(record: Record, payload: bytes) -> Correction:
    """The correction in a record, which came over a network: every value is checked.

    Raises:
        StoreCorruptError: It is none.
    """
    frame, revision = divmod(record.number, LAST_REVISION + 1)
    try:
        facts = json.loads(payload)
        width, height, labelled, boxes = (facts[key] for key in ("width", "height", "labelled", "boxes"))
        sound = (
            record.kind is RecordKind.LABELS
            and all(type(size) is int and 0 < size < 2**16 for size in (width, height))
            and type(labelled) is bool
            and (labelled or not boxes)
            and all(isinstance(box[4], str) and math.isfinite(sum(box[:4])) for box in boxes)
        )
        if sound:
            identity = FrameIdentity(record.device, record.epoch, frame)
            parsed = tuple(
                Box(float(x0), float(y0), float(x1), float(y1), name) for x0, y0, x1, y1, name in boxes
            )
            return Correction(identity, revision, width, height, labelled, parsed)
    except (ValueError, KeyError, TypeError, IndexError, BoxError, RecursionError):
        pass
    raise StoreCorruptError(f"record {record.position} holds no labels of a frame; correct the frame again")


def corrected_frame(frame: Frame, correction: Correction | None) -> Frame:
    """The frame with the correction's labels; its validation mark stays."""
    if correction is None:
        return frame
    return dataclasses.replace(frame, labelled=correction.labelled, boxes=correction.boxes)
