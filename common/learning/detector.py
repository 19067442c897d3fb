"""Detectors: from a name, a .pt file or safetensors weights to an Ultralytics model, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from common.errors import LearningError
from common.inr.decode import resolve_device
from common.learning.pretrained import read_checkpoint_file
from common.learning.settings import TrainingSettings
from common.learning.weights import MODEL_NAME, DetectorWeights, check_shapes, read_weights
from common.learning.yolo_environment import prepare_yolo

__all__ = [
    "Detector",
    "build_detector",
    "load_detector",
    "read_detector_file",
    "resolve_device",
    "snapshot",
    "start_weights",
]

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
    from ultralytics.nn.modules.head import Detect, v10Detect
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
    # Heads that also give masks, points or turned boxes are subclasses; their losses want such labels.
    if type(detector.model[-1]) not in (Detect, v10Detect):
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


def start_weights(settings: TrainingSettings, tell: Callable[[str], None] | None = None) -> DetectorWeights:
    """The detector that ``settings.model`` names, fitted to the class list of the settings.

    Local .pt and .safetensors files with other classes keep every tensor that fits; the rest starts random.

    Args:
        settings: Model, classes, image size and seed.
        tell: Given a sentence when a part of the file's weights is not used.

    Raises:
        LearningError: No such file or model, the file is no detector, or it takes images of other sizes.
    """
    path = Path(settings.model)
    if settings.model.endswith(".yaml"):
        detector = build_detector(settings.model, settings.classes, settings.seed)
        _check_size(detector, settings)
        return snapshot(detector, settings.model, settings.classes, settings.imgsz)
    found = read_detector_file(path, settings.imgsz)
    detector = build_detector(found.model, settings.classes, settings.seed)
    _check_size(detector, settings)
    own = detector.state_dict()
    kept, shared = _fitting(found, own, settings.classes, _class_outputs(detector))
    if len(kept) < len(own) // 2:
        raise LearningError(
            f"only {len(kept)} of the {len(own)} tensors in {path} fit {found.model}; it is another detector"
        )
    detector.load_state_dict(kept, strict=False)
    if tell is not None and found.classes != settings.classes:
        tell(_what_is_kept(path, found, settings.classes, len(own) - len(kept), shared))
    return snapshot(detector, found.model, settings.classes, settings.imgsz)


def read_detector_file(path: Path, imgsz: int = 640) -> DetectorWeights:
    """The weights in a local .safetensors or .pt file, as they are.

    Args:
        path: The file.
        imgsz: Side of the training images, pixels, when a .pt file does not say.

    Raises:
        LearningError: No such file, or it is no detector.
    """
    if path.suffix == ".safetensors":
        return read_weights(path)
    if path.suffix == ".pt":
        return read_checkpoint_file(path, imgsz)
    raise LearningError(
        f"the model {str(path)!r} is neither a name from Ultralytics' catalogue such as yolov8n.yaml nor a "
        ".safetensors or .pt file of weights"
    )


def _check_size(detector: Detector, settings: TrainingSettings) -> None:
    stride = int(detector.stride.max())
    if settings.imgsz % stride:
        raise LearningError(
            f"the model {settings.model} takes images whose side is a multiple of {stride} pixels; "
            f"set imgsz to {-(-settings.imgsz // stride) * stride}"
        )


def _fitting(
    found: DetectorWeights, own: Mapping[str, Tensor], classes: tuple[str, ...], outputs: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors that the detector takes over, and the classes whose outputs are among them."""
    kept = {k: v for k, v in found.state.items() if k in own and own[k].shape == v.shape}
    if found.classes == classes:
        return kept, list(classes)
    # The class outputs of another class list mean something else, but for the classes that both know.
    shared = [name for name in classes if name in found.classes]
    fits = all(
        weight in found.state and found.state[weight].shape[1:] == own[weight].shape[1:] for weight in outputs
    )
    for name in (part for pair in outputs.items() for part in pair):
        kept.pop(name, None)
        if shared and fits:
            rows = own[name].clone()
            rows[[classes.index(s) for s in shared]] = found.state[name][
                [found.classes.index(s) for s in shared]
            ]
            kept[name] = rows
    return kept, shared if fits else []


def _what_is_kept(
    path: Path, found: DetectorWeights, classes: tuple[str, ...], random: int, shared: Sequence[str]
) -> str:
    text = (
        f"{path} knows the classes {_listed(found.classes)}, not {_listed(classes)}: "
        "its backbone and neck are kept"
    )
    if random:
        text += f", {random} tensors of its head start from random weights"
    return f"{text}, the outputs of {_listed(shared)} are kept" if shared else text


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def _class_outputs(detector: Detector) -> dict[str, str]:
    """Weight -> bias of the last convolution of each class branch of the head: their rows are classes."""
    head = len(detector.model) - 1
    layers = [
        f"model.{head}.{branches}.{i}.{len(branch) - 1}"
        for branches in ("cv3", "one2one_cv3")
        for i, branch in enumerate(getattr(detector.model[-1], branches, None) or ())
    ]
    return {f"{layer}.weight": f"{layer}.bias" for layer in layers}
