"""Ultralytics' own checkpoints (.pt) as weights, read without running anything that they hold."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import LearningError
from common.learning.weights import DetectorWeights
from common.learning.yolo_environment import prepare_yolo

__all__ = ["read_checkpoint_file"]

_FAMILY = re.compile(r"(yolo(?:v)?\d+)(.*)", re.IGNORECASE)
"""Family and rest of an architecture's name, between which its scale stands."""


def read_checkpoint_file(path: Path, imgsz: int) -> DetectorWeights:
    """The detector of a local .pt file that Ultralytics saved, its averaged weights where it has them.

    It is unpickled with torch's ``weights_only`` and Ultralytics' allow-list; nothing is downloaded.

    Args:
        path: The file.
        imgsz: Side of the training images, pixels, when the file does not say.

    Raises:
        LearningError: No such file, or it is no detector that can be loaded so.
    """
    prepare_yolo()
    from ultralytics.nn.tasks import DetectionModel, torch_safe_load

    if not path.is_file():
        raise LearningError(
            f"there are no weights at {path}; nothing is downloaded, so give the path of a local file"
        )
    try:
        with warnings.catch_warnings():
            # Of a TorchScript archive, which is refused below.
            warnings.simplefilter("ignore")
            found, _ = torch_safe_load(str(path), safe_only=True)
    except Exception as error:  # Ultralytics raises anything for a file that is no checkpoint of its own
        raise _refusal(path, "it is damaged, or holds more than a model") from error
    held = (found.get("ema") or found.get("model")) if isinstance(found, dict) else None
    if not isinstance(held, DetectionModel):
        raise _refusal(path, f"it holds {type(held or found).__name__}, not a DetectionModel")
    model: Any = held
    try:
        name = _architecture(model.yaml)
        classes = tuple(str(model.names[i]) for i in range(len(model.names)))
    except (AttributeError, KeyError, TypeError) as error:
        raise _refusal(path, "it does not say its architecture or its classes") from error
    state: Mapping[str, Tensor] = model.state_dict()
    bad = next((k for k, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())), None)
    if bad is not None:
        raise LearningError(f"the weights {bad!r} in {path} hold NaN or infinity; they are not used")
    arguments = found.get("train_args")
    size = arguments.get("imgsz") if isinstance(arguments, dict) else None
    return DetectorWeights(
        name,
        classes,
        size if isinstance(size, int) and size > 0 else imgsz,
        {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in state.items()},
    )


def _refusal(path: Path, reason: str) -> LearningError:
    return LearningError(
        f"{path} is no Ultralytics detector that can be loaded safely: {reason}; give a .pt file that "
        "Ultralytics saved after training a detector"
    )


def _architecture(about: Mapping[str, Any]) -> str:
    """Catalogue name of a model's yaml, with its scale: "yolov8.yaml" of scale "n" is "yolov8n.yaml"."""
    name = Path(str(about["yaml_file"]).replace("\\", "/")).name
    scale = str(about.get("scale") or "")
    family = _FAMILY.fullmatch(name)
    if scale and family and not family[2].startswith(scale):
        return f"{family[1]}{scale}{family[2]}"
    return name
