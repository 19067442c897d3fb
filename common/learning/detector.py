"""Detectors: from a name, a .pt file or safetensors weights to an Ultralytics model, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from common.errors import LearningError
from common.inr.decode import resolve_device
from common.learning.settings import TrainingSettings
from common.learning.weights import MODEL_NAME, DetectorWeights, check_shapes, read_weights
from common.learning.yolo_environment import prepare_yolo

__all__ = ["Detector", "build_detector", "load_detector", "resolve_device", "snapshot", "start_weights"]

Detector: TypeAlias = Any
"""An ``ultralytics.nn.tasks.DetectionModel``."""


def build_detector(model: str, classes: tuple[str, ...], seed: int = 0) -> Detector:
    """A detector with random weights.

    Args:
        model: Name in Ultralytics' catalogue, e.g. "yolov8n.yaml".
        classes: Ordered class names.
        seed: Seed of the weights; torch's global generator is left as it was.

    Raises:
        LearningError: No such detector.
    """
    prepare_yolo()
    from ultralytics.nn.modules import Detect
    from ultralytics.nn.tasks import DetectionModel

    if not MODEL_NAME.fullmatch(model):
        raise LearningError(
            f"the model {model!r} is no name from Ultralytics' catalogue such as yolov8n.yaml"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            detector: Detector = DetectionModel(model, nc=len(classes), verbose=False)
    except Exception as error:  # Ultralytics raises anything for an unknown name or a model of another task
        raise LearningError(f"the model {model!r} is no detector that Ultralytics knows: {error}") from error
    if not isinstance(detector.model[-1], Detect):
        raise LearningError(f"the model {model!r} does not detect boxes; use one such as yolov8n.yaml")
    detector.names = dict(enumerate(classes))
    return detector


def snapshot(detector: Detector, model: str, classes: tuple[str, ...], imgsz: int) -> DetectorWeights:
    """The detector's present weights, copied to host memory."""
    state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in detector.state_dict().items()}
    return DetectorWeights(model, classes, imgsz, state)


def load_detector(weights: DetectorWeights) -> Detector:
    """A detector with these weights.

    Raises:
        LearningError: Names or shapes are not those of ``weights.model`` with these classes.
    """
    detector = build_detector(weights.model, weights.classes)
    check_shapes({name: tensor.shape for name, tensor in weights.state.items()}, detector.state_dict())
    detector.load_state_dict(dict(weights.state))
    return detector


def start_weights(settings: TrainingSettings) -> DetectorWeights:
    """The detector that ``settings.model`` names, fitted to the class list of the settings.

    Local .pt and .safetensors files with other classes keep every tensor that fits; the rest starts random.

    Raises:
        LearningError: No such file or model, or the file is no detector.
    """
    if settings.model.endswith(".safetensors"):
        found = read_weights(settings.model)
        name, state, same = found.model, found.state, found.classes == settings.classes
    elif settings.model.endswith(".pt"):
        name, state, same = _read_pt(Path(settings.model), settings.classes)
    else:
        detector = build_detector(settings.model, settings.classes, settings.seed)
        return snapshot(detector, settings.model, settings.classes, settings.imgsz)
    detector = build_detector(name, settings.classes, settings.seed)
    own = detector.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not same:
        # The class outputs of another class list mean something else.
        fitting = {k: v for k, v in fitting.items() if k not in _class_outputs(detector)}
    if len(fitting) < len(own) // 2:
        raise LearningError(
            f"only {len(fitting)} of the {len(own)} tensors in {settings.model} fit {name}; "
            "it is another detector"
        )
    detector.load_state_dict(fitting, strict=False)
    return snapshot(detector, name, settings.classes, settings.imgsz)


def _class_outputs(detector: Detector) -> set[str]:
    """Names of the tensors whose rows are classes: the last convolution of each class branch of the head."""
    head = len(detector.model) - 1
    last = {f"model.{head}.cv3.{i}.{len(branch) - 1}" for i, branch in enumerate(detector.model[-1].cv3)}
    return {f"{layer}.{part}" for layer in last for part in ("weight", "bias")}


def _read_pt(path: Path, classes: tuple[str, ...]) -> tuple[str, Mapping[str, Tensor], bool]:
    """Architecture name, state and whether the classes agree, of a local Ultralytics checkpoint."""
    prepare_yolo()
    from ultralytics.nn.tasks import load_checkpoint

    if not path.is_file():
        raise LearningError(
            f"there are no weights at {path}; nothing is downloaded, so give the path of a local file"
        )
    try:
        model, _ = load_checkpoint(str(path))
        name = Path(str(model.yaml["yaml_file"])).name
        names = tuple(model.names[i] for i in range(len(model.names)))
        state = {k: v.float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    except Exception as error:  # Ultralytics raises anything for a file that is no checkpoint of its own
        raise LearningError(
            f"{path} is no Ultralytics detector that can be loaded safely: {error}"
        ) from error
    return name, state, names == classes
