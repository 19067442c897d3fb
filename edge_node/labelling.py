"""Which boxes a frame gets from what the deployed detector sees in it: a pure decision (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.frame import Box
from edge_node.labelling_settings import LabellingSettings

__all__ = ["HELD_OUT", "NO_DETECTOR", "Verdict", "judge"]

LABELLED = "labelled"
NEGATIVE = "negative"
NOTHING_SEEN = "nothing_seen"
DOUBTFUL = "doubtful"
TOO_MANY = "too_many"
HELD_OUT = "held_out"
NO_DETECTOR = "no_detector"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a frame's labels.

    Attributes:
        why: The case, one word, by which status counts frames.
        boxes: The frame's boxes; None leaves it unlabelled.
    """

    why: str
    boxes: tuple[Box, ...] | None = None


def judge(
    detections: Sequence[Sequence[float]], classes: Sequence[str], settings: LabellingSettings
) -> Verdict:
    """The boxes of a frame, or why it gets none.

    A frame is either labelled whole or not at all: what is in it and not in its boxes would be trained on as
    background.

    Args:
        detections: As in :class:`common.node.labelling_messages.Seen`.
        classes: Ordered class names of the deployment.
        settings: The rules.

    Raises:
        BoxError: A detection is no region.
        IndexError: A detection is of no class of the deployment.
        ValueError: A detection is no row of six numbers.
    """
    sure = [row for row in detections if row[4] >= settings.confidence]
    if any(settings.doubt <= row[4] < settings.confidence for row in detections):
        return Verdict(DOUBTFUL)
    if len(sure) > settings.max_boxes:
        return Verdict(TOO_MANY)
    if not sure:
        return Verdict(NEGATIVE, ()) if settings.negatives else Verdict(NOTHING_SEEN)
    return Verdict(LABELLED, tuple(_box(row, classes) for row in sure))


def _box(row: Sequence[float], classes: Sequence[str]) -> Box:
    x0, y0, x1, y1, _, index = row
    return Box(x0, y0, x1, y1, classes[int(index)])
