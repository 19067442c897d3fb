"""How far a detector agrees with the labels of frames in the resident store."""

from __future__ import annotations

import torch
from torch import Tensor

from common.learning.batches import decode_batch
from common.learning.detector import Detector
from common.learning.prefetch import stage_frames
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.yolo_environment import prepare_yolo

__all__ = ["recall"]

CONFIDENCE = 0.25
"""Least confidence of a detection that counts: Ultralytics' default for prediction."""
OVERLAP = 0.5
"""Least IoU of a detection and a label of its class."""


def recall(
    detector: Detector, store: ResidentStore, frames: Tensor, settings: TrainingSettings
) -> float | None:
    """Share of the labelled boxes of frames that a detector finds.

    Args:
        detector: An Ultralytics model; it is put on the store's device and into evaluation mode.
        store: Where the frames are.
        frames: (N,) int64 frame numbers.
        settings: Image size and batch.

    Returns:
        0..1; None when the frames have no boxes.
    """
    prepare_yolo()
    from ultralytics.utils.metrics import box_iou
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import xywh2xyxy

    detector.to(store.device).float().eval()
    found = boxes = 0
    for numbers in frames.split(settings.batch):
        stage_frames(store, numbers.tolist(), store.fetch(store.away(numbers.tolist())))
        here = numbers[store.resident(numbers)]
        if not len(here):
            continue
        try:
            batch = decode_batch(store, here, settings.imgsz)
        finally:
            store.unstage()
        with torch.no_grad():
            detections = non_max_suppression(detector(batch["img"].float() / 255), CONFIDENCE)
        labels = xywh2xyxy(batch["bboxes"]) * settings.imgsz
        for image, predicted in enumerate(detections):
            mine = batch["batch_idx"] == image
            close = box_iou(labels[mine], predicted[:, :4]) >= OVERLAP
            same = batch["cls"][mine] == predicted[:, 5]
            boxes += int(mine.sum())
            found += int((close & same).any(1).sum())
    return found / boxes if boxes else None
