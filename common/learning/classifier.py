"""Classifiers of whole images: torchvision's ResNet-18, from random weights or from a file of this system."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from common.errors import LearningError
from common.learning.settings import TrainingSettings
from common.learning.weights import CLASSIFIERS, DetectorWeights, check_shapes, read_weights

__all__ = ["Classifier", "build_classifier", "load_classifier", "normalized", "start_classifier"]

Classifier: TypeAlias = Any
"""A ``torchvision.models.ResNet``."""

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's channels, 0..1: what torchvision's models are normalized by."""


def build_classifier(model: str, classes: tuple[str, ...], seed: int = 0) -> Classifier:
    """A classifier with random weights.

    Args:
        model: One of :data:`common.learning.weights.CLASSIFIERS`.
        classes: Ordered class names, at least two.
        seed: Seed of the weights; torch's global generator is left as it was.

    Raises:
        LearningError: No such classifier, or fewer than two classes.
    """
    from torchvision.models import get_model

    if model not in CLASSIFIERS:
        raise LearningError(f"the model {model!r} is no classifier; use {', '.join(CLASSIFIERS)}")
    if len(classes) < 2:
        raise LearningError(f"there is nothing to tell apart: the only class is {classes[0]!r}; add others")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_model(model, weights=None, num_classes=len(classes))


def load_classifier(weights: DetectorWeights) -> Classifier:
    """A classifier with these weights.

    Raises:
        LearningError: Names or shapes are not those of ``weights.model`` with these classes.
    """
    classifier = build_classifier(weights.model, weights.classes)
    check_shapes({name: tensor.shape for name, tensor in weights.state.items()}, classifier.state_dict())
    classifier.load_state_dict(dict(weights.state))
    return classifier


def start_classifier(settings: TrainingSettings) -> DetectorWeights:
    """The classifier that ``settings.model`` names: one of the known, or a file of another training.

    Of a file with other classes everything is kept but the last layer.

    Raises:
        LearningError: No such model, or the file holds no classifier.
    """
    if not settings.model.endswith(".safetensors"):
        classifier = build_classifier(settings.model, settings.classes, settings.seed)
        return _weights(settings.model, classifier, settings)
    found = read_weights(Path(settings.model))
    if found.model not in CLASSIFIERS:
        raise LearningError(
            f"{settings.model} holds the detector {found.model}, no classifier; use another file"
        )
    classifier = build_classifier(found.model, settings.classes, settings.seed)
    kept = {
        k: v for k, v in found.state.items() if found.classes == settings.classes or k.split(".")[0] != "fc"
    }
    own = classifier.state_dict()
    check_shapes({k: v.shape for k, v in kept.items()}, {k: v for k, v in own.items() if k in kept})
    classifier.load_state_dict(kept, strict=False)
    return _weights(found.model, classifier, settings)


def _weights(model: str, classifier: Classifier, settings: TrainingSettings) -> DetectorWeights:
    state = {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}
    return DetectorWeights(model, settings.classes, settings.imgsz, state)


def normalized(images: Tensor) -> Tensor:
    """What a classifier takes: (B, 3, H, W) uint8 RGB as float32, normalized by ImageNet's channels."""
    shape = (1, 3, 1, 1)
    mean, deviation = (images.new_tensor(v, dtype=torch.float32).view(shape) for v in (_MEAN, _DEVIATION))
    return (images.float() / 255 - mean) / deviation
