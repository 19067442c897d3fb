"""How often a classifier is right on original images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from common.errors import LearningError
from common.learning.classifier import Classifier, normalized
from common.learning.settings import TrainingSettings
from common.learning.validation import ValidationSet, letterbox_images

__all__ = ["ClassifierEvaluation", "evaluate_classifier"]


@dataclass(frozen=True, slots=True)
class ClassifierEvaluation:
    """How well a classifier does on a validation set.

    Attributes:
        top1: Share (0..1) of the images whose class it finds likeliest.
        top5: Share of those whose class is among its five likeliest; 1 when there are no more classes.
        images: How many there are.
    """

    top1: float
    top5: float
    images: int


def evaluate_classifier(
    classifier: Classifier, validation: ValidationSet, settings: TrainingSettings, device: torch.device
) -> ClassifierEvaluation:
    """Evaluate on every image that has a class, letterboxed.

    Damaged images are left out (``validation.left_out``). An image's class is that of its first box.

    Args:
        classifier: It is put on ``device`` and into evaluation mode.
        validation: Images and labels.
        settings: Image size and batch.
        device: Where to run.

    Raises:
        LearningError: There is no validation image with a class.
    """
    classifier.to(device).eval()
    first = fifth = images = 0
    with torch.no_grad():
        for indices, pixels in validation.batches(settings.batch):
            used = [place for place, index in enumerate(indices) if len(validation.labels[index][0])]
            if not used:
                continue
            batch = torch.from_numpy(letterbox_images([pixels[place] for place in used], settings.imgsz))
            scores = classifier(normalized(batch.permute(0, 3, 1, 2).to(device)))
            classes = torch.tensor([int(validation.labels[indices[place]][0][0]) for place in used])
            likeliest = scores.topk(min(5, scores.shape[1]), 1).indices.cpu()
            right = likeliest == classes[:, None]
            first += int(right[:, 0].sum())
            fifth += int(right.any(1).sum())
            images += len(used)
    if images == 0:
        raise LearningError("there is no validation image with a class; give others to --val")
    return ClassifierEvaluation(first / images, fifth / images, images)
