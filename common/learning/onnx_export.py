"""A detector as an ONNX file, through Ultralytics' own exporter."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from pathlib import Path

from common.errors import LearningError
from common.learning.detector import load_detector
from common.learning.weights import DetectorWeights, write_durably
from common.learning.yolo_environment import prepare_yolo

__all__ = ["export_onnx"]

OPSET = 17
"""ONNX operator set: what runtimes of the last years read, OpenCV's among them."""


def export_onnx(weights: DetectorWeights, path: Path, imgsz: int | None = None) -> int:
    """Write a detector as ONNX; returns the side of its input, pixels.

    The input ``images`` is (1, 3, imgsz, imgsz) float32 RGB from 0 to 1, letterboxed. The output ``output0``
    is (1, 4 + classes, anchors) float32: x centre, y centre, width and height in pixels, then a score for
    each class, before non-maximum suppression. Class names and stride are in the file's metadata, as
    Ultralytics writes them.

    Args:
        weights: The detector.
        path: The file to write.
        imgsz: Side of the input; None: that of the training.

    Raises:
        LearningError: ``onnx`` is not installed, the size does not fit the detector, or the file cannot be
            written.
    """
    size = weights.imgsz if imgsz is None else imgsz
    detector = load_detector(weights)
    stride = int(detector.stride.max())
    if size < stride or size % stride:
        raise LearningError(f"{weights.model} takes images whose side is a multiple of {stride}, not {size}")
    if importlib.util.find_spec("onnx") is None:
        raise LearningError(
            "an ONNX file can only be written with the package onnx; install it with "
            "pip install 'residual-inr[onnx]'"
        )
    prepare_yolo()
    from ultralytics.engine.exporter import Exporter

    options = {
        "format": "onnx",
        "imgsz": size,
        "batch": 1,
        "opset": OPSET,
        "simplify": False,  # wants two packages more, and changes nothing about the results
        "device": "cpu",
        "verbose": False,
    }
    with tempfile.TemporaryDirectory(prefix="residual-inr-onnx-") as folder:
        detector.pt_path = str(Path(folder) / "detector.pt")  # its stem names the file that is written
        detector.task = "detect"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about tracing and about this very exporter
                written = Exporter(overrides=options)(model=detector.eval())
            data = Path(written).read_bytes()
        except Exception as error:  # torch and Ultralytics raise anything for what cannot be traced
            raise LearningError(f"{weights.model} cannot be written as ONNX: {error}") from error
    write_durably(path, data)
    return size
