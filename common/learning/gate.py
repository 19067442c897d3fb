"""The deploy gate: a new detector replaces the one in use only when it is, with confidence, not worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common.errors import LearningError
from common.learning.settings import GateSettings
from common.learning.validation import Evaluation, ImageStatistics

__all__ = ["GateDecision", "decide", "mean_average_precision", "paired_bootstrap", "validation_blocks"]

Counts: TypeAlias = npt.NDArray[np.int64]
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether to deploy, and why.

    Attributes:
        deploy: Whether the new detector may replace the one in use.
        reason: One sentence.
        boxes: Validation boxes the decision rests on.
        difference: mAP50-95 of the new detector minus that of the one in use, 0..1.
        low, high: Bootstrap interval of the difference; None when it was not needed.
    """

    deploy: bool
    reason: str
    boxes: int
    difference: float
    low: float | None = None
    high: float | None = None


def decide(current: Evaluation | None, candidate: Evaluation, settings: GateSettings) -> GateDecision:
    """Compare two evaluations on the same validation set.

    Args:
        current: The detector in use; None when there is none yet, which counts as mAP 0.
        candidate: The new detector.
        settings: Number of boxes, margin and bootstrap.

    Raises:
        LearningError: The evaluations are of different validation sets.
    """
    boxes = candidate.boxes
    before = current.map50_95 if current else 0.0
    difference = candidate.map50_95 - before
    if boxes < settings.min_boxes:
        reason = (
            f"not deployed: validation has {boxes} boxes, the gate needs {settings.min_boxes}; "
            "record more or lower min_boxes"
        )
        return GateDecision(False, reason, boxes, difference)
    if candidate.map50_95 <= 0:
        return GateDecision(False, "not deployed: the new detector has mAP 0", boxes, difference)
    low, high = paired_bootstrap(current, candidate, settings)
    blocks = int(validation_blocks(candidate, settings).max()) + 1
    deploy = low > -settings.margin
    verdict = "deployed" if deploy else "not deployed"
    reason = (
        f"{verdict}: mAP50-95 {before:.3f} -> {candidate.map50_95:.3f}, the {settings.confidence:.0%} "
        f"interval of the difference [{low:+.3f}, {high:+.3f}] {'lies' if deploy else 'does not lie'} above "
        f"{-settings.margin:+.3f} "
        f"({boxes} boxes on {len(candidate.images)} images in {blocks} blocks)"
    )
    return GateDecision(deploy, reason, boxes, difference, low, high)


def paired_bootstrap(
    current: Evaluation | None, candidate: Evaluation, settings: GateSettings
) -> tuple[float, float]:
    """Percentile interval of the difference in mAP50-95 over resampled blocks, the same for both detectors.

    A block bootstrap (Kuensch 1989): neighbouring frames are near-duplicates, so images drawn one by one
    would make the interval too narrow.

    Returns:
        (low, high), -1..1.

    Raises:
        LearningError: The evaluations are of different validation sets.
    """
    if current is not None and not _same_targets(current, candidate):
        raise LearningError("two detectors can only be compared on the same validation images")
    blocks = validation_blocks(candidate, settings)
    count = int(blocks.max()) + 1
    generator = np.random.default_rng(settings.seed)
    new = _scorer(candidate.images)
    old = _scorer(current.images) if current is not None else None
    differences = []
    for _ in range(settings.resamples):
        counts = np.bincount(generator.integers(0, count, count), minlength=count)[blocks]
        differences.append(new(counts) - (old(counts) if old else 0.0))
    tail = (1 - settings.confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return float(low), float(high)


def validation_blocks(evaluation: Evaluation, settings: GateSettings) -> Counts:
    """The block of each image: frames of one recording that lie ``block_frames`` numbers together.

    Returns:
        (images,) int64, from 0 without gaps.
    """
    images = len(evaluation.images)
    if not evaluation.places:
        return np.arange(images)
    recordings: dict[str, int] = {}
    owner = np.array([recordings.setdefault(name, len(recordings)) for name, _ in evaluation.places])
    # Relative to the recording's first: frame numbers are unsigned 64 bit.
    first: dict[str, int] = {}
    for name, number in evaluation.places:
        first[name] = min(number, first.get(name, number))
    numbers = [number - first[name] for name, number in evaluation.places]
    length = settings.block_frames
    while True:
        keys = np.stack([owner, np.array([number // length for number in numbers])])
        blocks = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)
        if length == 1 or int(blocks.max()) + 1 >= min(settings.min_blocks, images):
            return blocks.astype(np.int64)
        length = -(-length // 2)


def mean_average_precision(images: Sequence[ImageStatistics], counts: Counts | None = None) -> float:
    """mAP50-95 of a multiset of images, as Ultralytics computes it.

    Args:
        images: Statistics of each image.
        counts: (images,) how often each image is drawn; once by default.
    """
    return _scorer(images)(np.ones(len(images), np.int64) if counts is None else counts)


def _scorer(images: Sequence[ImageStatistics]) -> Callable[[Counts], float]:
    """A function from the draws of each image to mAP50-95; sorting and splitting is done once."""
    tp = np.concatenate([image.tp for image in images])
    conf = np.concatenate([image.conf for image in images])
    predicted = np.concatenate([image.pred_cls for image in images])
    owner = np.repeat(np.arange(len(images)), [len(image.conf) for image in images])
    order = np.argsort(-conf)
    tp, predicted, owner = tp[order], predicted[order], owner[order]
    targets = np.concatenate([image.target_cls for image in images])
    target_owner = np.repeat(np.arange(len(images)), [len(image.target_cls) for image in images])
    classes = []
    for label in np.unique(targets):
        mine = predicted == label
        hits = [column.nonzero()[0] for column in tp[mine].T]
        classes.append((owner[mine], hits, target_owner[targets == label]))

    def score(counts: Counts) -> float:
        values = []
        for image, hits, target_image in classes:
            total = int(counts[target_image].sum())
            if total:
                drawn = counts[image]
                ends = drawn.cumsum()
                values.append(float(np.mean([_average_precision(ends, drawn, rows, total) for rows in hits])))
        return float(np.mean(values)) if values else 0.0

    return score


def _average_precision(ends: Counts, drawn: Counts, hits: Counts, total: int) -> float:
    """Ultralytics' 101-point average precision (``compute_ap``), from the true positives alone.

    False positives only enter through the rank of the true ones, because between two true positives the
    envelope of precision is that of the later one. This makes a thousand resamples a matter of seconds.

    Args:
        ends: (P,) detections drawn up to and including each row, by falling confidence.
        drawn: (P,) how often each row is drawn.
        hits: Rows that are true positives.
        total: Labelled boxes drawn.
    """
    times = drawn[hits]
    count = int(times.sum())
    found = np.arange(1, count + 1)
    # A true positive that is drawn several times takes as many ranks in a row.
    rank = np.repeat(ends[hits] - times.cumsum(), times) + found
    envelope = np.maximum.accumulate((found / rank)[::-1])[::-1]
    reached = np.searchsorted(found / (total + 1e-16), _RECALLS, side="right")
    return float(np.trapezoid(np.append(envelope, 0.0)[reached], _RECALLS))


def _same_targets(a: Evaluation, b: Evaluation) -> bool:
    return len(a.images) == len(b.images) and all(
        np.array_equal(x.target_cls, y.target_cls) for x, y in zip(a.images, b.images, strict=True)
    )
