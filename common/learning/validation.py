"""Evaluation on original images, with Ultralytics' own validator and metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch

from common.errors import ImageError, LearningError
from common.frame import Frame
from common.images import Rgb, decode_image
from common.learning.detector import Detector
from common.learning.letterbox import FILL, letterbox_boxes, letterbox_content
from common.learning.settings import TrainingSettings
from common.learning.yolo_environment import prepare_yolo

__all__ = ["Evaluation", "ImageStatistics", "ValidationSet", "evaluate", "letterbox_images"]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class ImageStatistics:
    """What one image contributes to mAP; any multiset of images can be scored from these.

    Attributes:
        tp: (P, 10) bool, whether each detection is right at IoU 0.50, 0.55, ..., 0.95.
        conf: (P,) confidence of each detection.
        pred_cls: (P,) class of each detection.
        target_cls: (T,) class of each labelled box.
    """

    tp: Array
    conf: Array
    pred_cls: Array
    target_cls: Array


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How well one detector does on a validation set.

    Attributes:
        map50, map50_95: Mean average precision, 0..1.
        precision, recall: At the confidence of the best F1, 0..1.
        images: Statistics of each image, in the order of the set.
        places: Sequence and frame number of each image; empty when they have none.
    """

    map50: float
    map50_95: float
    precision: float
    recall: float
    images: tuple[ImageStatistics, ...]
    places: tuple[tuple[str, int], ...] = ()

    @property
    def boxes(self) -> int:
        """Labelled boxes in the set."""
        return sum(len(image.target_cls) for image in self.images)


class ValidationSet:
    """Labelled originals, kept as their encoded bytes.

    A frame that cannot be used is left out: at once if it has a box of an unknown class, and by the first
    :meth:`batches` if its image is damaged.

    Args:
        frames: Frames with their original images; unlabelled ones are passed over.
        settings: Class list and class map; at most ``validation_images`` frames are kept, the first ones.

    Attributes:
        frames: The frames in use.
        labels: Classes (T,) and boxes (T, 4) of each, as shares of the frame.
        left_out: One sentence for each frame that was left out.
    """

    def __init__(self, frames: Iterable[Frame], settings: TrainingSettings) -> None:
        self.frames: list[Frame] = []
        self.labels: list[tuple[Array, Array]] = []
        self.left_out: list[str] = []
        for frame in frames:
            if not frame.labelled:
                continue
            if len(self.frames) == settings.validation_images:
                break
            try:
                labels = _labels(frame, settings)
            except LearningError as error:
                self.left_out.append(str(error))
                continue
            self.frames.append(frame)
            self.labels.append(labels)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def boxes(self) -> int:
        """Labelled boxes in the set."""
        return sum(len(classes) for classes, _ in self.labels)

    def places(self) -> tuple[tuple[str, int], ...]:
        """The recording (device and epoch) and the frame number of each frame in use.

        Frames without an identity count as one recording, in their order.
        """
        identities = [frame.identity for frame in self.frames]
        return tuple(
            ("", place) if identity is None else (f"{identity.device}/{identity.epoch}", identity.number)
            for place, identity in enumerate(identities)
        )

    def batches(self, size: int) -> Iterator[tuple[range, list[Rgb]]]:
        """Indices of at most ``size`` frames and their pixels, until all were given."""
        begin = 0
        while begin < len(self.frames):
            images: list[Rgb] = []
            while len(images) < size and begin + len(images) < len(self.frames):
                at = begin + len(images)
                try:
                    images.append(_pixels(self.frames[at]))
                except ImageError as error:
                    name = self.frames.pop(at).name
                    self.labels.pop(at)
                    self.left_out.append(f"the validation image {name!r} cannot be used: {error}")
            if images:
                yield range(begin, begin + len(images)), images
            begin += len(images)


def evaluate(
    detectors: Sequence[Detector],
    validation: ValidationSet,
    settings: TrainingSettings,
    device: torch.device,
) -> list[Evaluation]:
    """Evaluate several detectors in one pass over the images, each decoded once.

    Damaged images are left out (``validation.left_out``).

    Args:
        detectors: Ultralytics models; they are put on ``device`` and into evaluation mode.
        validation: Images and labels.
        settings: Image size, batch and classes.
        device: Where to run.

    Raises:
        LearningError: There is no validation image.
    """
    if len(validation) == 0:
        raise LearningError("there is no labelled validation image to evaluate on")
    with tempfile.TemporaryDirectory(prefix="residual-inr-val-") as folder:
        validators = [_validator(detector, settings, device, folder) for detector in detectors]
        with torch.no_grad():
            for indices, pixels in validation.batches(settings.batch):
                batch = _batch(validation, indices, pixels, settings.imgsz)
                for detector, validator in zip(detectors, validators, strict=True):
                    prepared = validator.preprocess(dict(batch))
                    predictions = validator.postprocess(detector(prepared["img"]))
                    validator.update_metrics(predictions, prepared)
        places = validation.places()
        return [replace(_summary(validator), places=places) for validator in validators]


def _labels(frame: Frame, settings: TrainingSettings) -> tuple[Array, Array]:
    """Classes (T,) and boxes (T, 4) x centre, y centre, width, height as shares, clipped to the frame."""
    classes, boxes = [], []
    for box in frame.boxes:
        index = settings.class_index(box.name)
        if index is None:
            raise LearningError(
                f"the validation frame {frame.name!r} has a box of the unknown class {box.name!r}; "
                "add it to 'classes' or map it in 'class_map'"
            )
        x0, x1 = max(0.0, box.x0 / frame.width), min(1.0, box.x1 / frame.width)
        y0, y1 = max(0.0, box.y0 / frame.height), min(1.0, box.y1 / frame.height)
        if x1 > x0 and y1 > y0:
            classes.append(index)
            boxes.append(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
    return np.array(classes, np.float32), np.array(boxes, np.float32).reshape(-1, 4)


def _pixels(frame: Frame) -> Rgb:
    """Decoded, and of the size that its boxes were recorded for."""
    rgb = decode_image(frame.image)
    if rgb.shape[:2] != (frame.height, frame.width):
        raise ImageError(
            f"it decodes to {rgb.shape[1]}x{rgb.shape[0]} pixels, but was recorded with "
            f"{frame.width}x{frame.height}"
        )
    return rgb


def _batch(validation: ValidationSet, indices: range, pixels: Sequence[Rgb], imgsz: int) -> dict[str, Any]:
    """A validation batch as Ultralytics' validator takes it."""
    images = letterbox_images(pixels, imgsz)
    content = letterbox_content(torch.tensor([rgb.shape[:2] for rgb in pixels]), imgsz)
    shapes, pads = [], []
    for row, rgb in enumerate(pixels):
        top, left, height, width = content[row].tolist()
        shapes.append(rgb.shape[:2])
        pads.append(((height / rgb.shape[0], width / rgb.shape[1]), (left, top)))
    counts = torch.tensor([len(validation.labels[i][0]) for i in indices])
    owner = torch.repeat_interleave(counts)
    boxes = torch.from_numpy(np.concatenate([validation.labels[i][1] for i in indices]))
    classes = torch.from_numpy(np.concatenate([validation.labels[i][0] for i in indices]))
    return {
        "img": torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        "cls": classes[:, None],
        "bboxes": letterbox_boxes(boxes, content[owner], imgsz),
        "batch_idx": owner.float(),
        "im_file": [f"{i:06d}" for i in indices],
        "ori_shape": shapes,
        "ratio_pad": pads,
    }


def letterbox_images(pixels: Sequence[Rgb], imgsz: int) -> npt.NDArray[np.uint8]:
    """Images as Ultralytics loads those of validation: the area filter downwards, linear upwards.

    Args:
        pixels: (H, W, 3) uint8 RGB each.
        imgsz: Side of the square that they are put into, centred on grey, pixels.

    Returns:
        (N, imgsz, imgsz, 3) uint8 RGB.
    """
    images = np.full((len(pixels), imgsz, imgsz, 3), FILL, np.uint8)
    content = letterbox_content(torch.tensor([rgb.shape[:2] for rgb in pixels]), imgsz)
    for row, rgb in enumerate(pixels):
        top, left, height, width = content[row].tolist()
        shrink = height < rgb.shape[0] or width < rgb.shape[1]
        filter_ = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        images[row, top : top + height, left : left + width] = cv2.resize(
            rgb, (width, height), interpolation=filter_
        )
    return images


def _validator(detector: Detector, settings: TrainingSettings, device: torch.device, folder: str) -> Any:
    """Ultralytics' validator, ready to be fed batch by batch."""
    prepare_yolo()
    from ultralytics.models.yolo.detect import DetectionValidator

    arguments = {
        "imgsz": settings.imgsz,
        "batch": settings.batch,
        "plots": False,
        "verbose": False,
        "conf": 0.001,
    }
    validator: Any = DetectionValidator(save_dir=Path(folder), args=arguments)
    validator.device = device
    validator.data = {"val": ""}
    # It asks its data loader about labels otherwise; there is none, since batches are handed in.
    validator.training = True
    detector.to(device).float().eval()
    validator.init_metrics(detector)
    return validator


def _summary(validator: Any) -> Evaluation:
    stats: dict[str, list[Array]] = validator.metrics.stats
    columns = zip(stats["tp"], stats["conf"], stats["pred_cls"], stats["target_cls"], strict=True)
    images = tuple(
        ImageStatistics(np.asarray(tp, bool), np.asarray(conf), np.asarray(pred), np.asarray(target))
        for tp, conf, pred, target in columns
    )
    if sum(len(image.target_cls) for image in images) == 0:
        return Evaluation(0.0, 0.0, 0.0, 0.0, images)
    validator.get_stats()
    precision, recall, map50, map50_95 = (float(value) for value in validator.metrics.mean_results())
    return Evaluation(map50, map50_95, precision, recall, images)
