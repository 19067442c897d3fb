"""Weights of a detector as safetensors bytes: the only form in which they travel.

Nothing is unpickled: the header (bounded JSON) is compared, name by name and shape by shape, with the
detector that the receiver expects, before any tensor is read.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from common.errors import LearningError, reason

__all__ = [
    "CLASSIFIERS",
    "MAX_WEIGHTS_BYTES",
    "DetectorWeights",
    "check_shapes",
    "decode_weights",
    "encode_weights",
    "read_weights",
    "write_durably",
    "write_weights",
]

FORMAT = "residual-inr-detector"
VERSION = 1
MAX_WEIGHTS_BYTES = 1 << 30
"""Bound on a weights file, bytes; YOLOv8x in 32 bit has 0.27 GB."""
MAX_HEADER_BYTES = 1 << 20
"""Bound on the header, bytes; that of YOLOv8x has 60 kB."""
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 8
"""Of a tensor; a detector's have at most four."""
DTYPES = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
"""Types of tensors that are read, by safetensors' names; it knows some that torch does not."""
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.yaml")
"""A bare name from Ultralytics' own catalogue; never a path."""
CLASSIFIERS = ("resnet18",)
"""Classifiers of torchvision, whose weights travel in the same form."""
_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class DetectorWeights:
    """A detector's parameters and what they mean.

    Attributes:
        model: Name of the architecture in Ultralytics' catalogue, e.g. "yolov8n.yaml", or of a classifier.
        classes: Ordered class names.
        imgsz: Side of the images it was trained on, pixels.
        state: Name -> tensor, float32 (and int64 counters), host memory.
    """

    model: str
    classes: tuple[str, ...]
    imgsz: int
    state: Mapping[str, Tensor]


def encode_weights(weights: DetectorWeights, *, half: bool = False) -> bytes:
    """As safetensors bytes; ``half`` stores floats in 16 bit, clamped to its range: half the bytes.

    Raises:
        LearningError: A tensor holds NaN or infinity.
    """
    tensors = {}
    for name, tensor in weights.state.items():
        if tensor.is_floating_point():
            if not bool(torch.isfinite(tensor).all()):
                raise LearningError(
                    f"the weights {name!r} hold NaN or infinity; train again with a lower learning_rate"
                )
            tensor = tensor.clamp(-_HALF_MAX, _HALF_MAX).half() if half else tensor.float()
        tensors[name] = tensor.detach().cpu().contiguous()
    about = {
        "version": VERSION,
        "model": weights.model,
        "classes": list(weights.classes),
        "imgsz": weights.imgsz,
    }
    # One key only: safetensors writes several in a random order, and equal weights must have equal bytes.
    return save(tensors, {FORMAT: json.dumps(about)})


def decode_weights(
    data: bytes, expected: Mapping[str, Tensor] | None = None, *, max_bytes: int = MAX_WEIGHTS_BYTES
) -> DetectorWeights:
    """Parse weights from anyone.

    Args:
        data: Safetensors bytes.
        expected: State of the detector they must be for; it is compared before any tensor is read.
        max_bytes: Bound on ``data``.

    Raises:
        LearningError: Not such a file, too large, of another version or detector, or with NaN or infinity.
    """
    if len(data) > max_bytes:
        raise LearningError(f"the weights have {len(data):,} bytes, over the limit of {max_bytes:,}")
    header = _header(data)
    metadata = _metadata(header)
    _check_tensors(header)
    if expected is not None:
        check_shapes(_header_shapes(header), expected)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise LearningError(f"the weights are no valid safetensors file: {error}") from error
    state = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not bool(torch.isfinite(tensor).all()):
                raise LearningError(f"the weights {name!r} hold NaN or infinity; they are not used")
        state[name] = tensor
    return DetectorWeights(metadata["model"], metadata["classes"], metadata["imgsz"], state)


def check_shapes(shapes: Mapping[str, Sequence[int]], expected: Mapping[str, Tensor]) -> None:
    """Refuse a state that is not exactly that of a detector with the state ``expected``.

    Args:
        shapes: Name -> shape of each tensor that was received.
        expected: State of the receiver's own detector.

    Raises:
        LearningError: A name is missing or unknown, or a shape differs.
    """
    missing = sorted(set(expected) - set(shapes))
    unknown = sorted(set(shapes) - set(expected))
    if missing or unknown:
        which = f"lack {missing[0]!r}" if missing else f"hold the unknown {unknown[0][:80]!r}"
        raise LearningError(f"the weights are of another detector: they {which}; use one model on every node")
    for name, tensor in expected.items():
        if tuple(shapes[name]) != tuple(tensor.shape):
            raise LearningError(
                f"the weights are of another detector: {name!r} is {tuple(shapes[name])}, "
                f"not {tuple(tensor.shape)}; use one model and one class list on every node"
            )


def write_weights(path: str | Path, weights: DetectorWeights, *, half: bool = False) -> int:
    """Write a file durably (fsync, rename); returns its size in bytes.

    Raises:
        LearningError: The file cannot be written, or a tensor is not finite.
    """
    data = encode_weights(weights, half=half)
    write_durably(Path(path), data)
    return len(data)


def read_weights(path: str | Path, expected: Mapping[str, Tensor] | None = None) -> DetectorWeights:
    """Read a file written by :func:`write_weights`.

    Raises:
        LearningError: It cannot be read, or as :func:`decode_weights`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_WEIGHTS_BYTES:
            raise LearningError(
                f"{path} has {size:,} bytes, over the limit of {MAX_WEIGHTS_BYTES:,} for weights"
            )
        data = path.read_bytes()
    except OSError as error:
        raise LearningError(f"cannot read the weights {path}: {reason(error)}") from error
    return decode_weights(data, expected)


def write_durably(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; after a crash it holds the old or the new bytes.

    Raises:
        LearningError: The file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LearningError(f"cannot write {path}: {reason(error)}") from error


def _header(data: bytes) -> dict[str, Any]:
    """The bounded JSON header of safetensors bytes."""
    length = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise LearningError("the weights are no safetensors file, or are truncated")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LearningError("the weights are no safetensors file: their header is no JSON") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise LearningError("the weights are no safetensors file of a detector: their header is malformed")
    return header


def _check_tensors(header: Mapping[str, Any]) -> None:
    """Refuse what the library, or torch, would fail on in words of its own."""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise LearningError(
                f"the weights {name[:80]!r} are of the type {str(dtype)[:20]!r}, which no detector here has; "
                "send them in 32 or 16 bit"
            )
        shape = entry.get("shape")
        if (
            not isinstance(shape, list)
            or len(shape) > MAX_DIMENSIONS
            or not all(type(n) is int and 0 <= n <= MAX_WEIGHTS_BYTES for n in shape)
        ):
            raise LearningError(f"the weights {name[:80]!r} have a malformed shape; they are not used")


def _header_shapes(header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor that the checked header names."""
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def _metadata(header: Mapping[str, Any]) -> dict[str, Any]:
    """Checked ``model``, ``classes`` and ``imgsz``."""
    metadata = header.get("__metadata__")
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    try:
        about = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise LearningError(
            f"the safetensors file holds no detector of this system: its metadata lack {FORMAT}"
        )
    if about.get("version") != VERSION:
        raise LearningError(
            f"the weights are of format version {str(about.get('version'))[:20]!r}, "
            f"this program reads {VERSION}; upgrade it"
        )
    model, classes, imgsz = about.get("model"), about.get("classes"), about.get("imgsz")
    if not isinstance(model, str) or not (MODEL_NAME.fullmatch(model) or model in CLASSIFIERS):
        raise LearningError(f"the weights name the model {str(model)[:80]!r}, which is no plain .yaml name")
    if (
        not isinstance(classes, list)
        or not all(isinstance(name, str) for name in classes)
        or not 1 <= len(classes) <= 1000
        or len(set(classes)) < len(classes)
    ):
        raise LearningError("the weights' class list is no list of 1 to 1000 different names")
    if not isinstance(imgsz, int) or isinstance(imgsz, bool) or not 1 <= imgsz < 100_000:
        raise LearningError(f"the weights' image size {str(imgsz)[:20]!r} is no number of pixels")
    return {"model": model, "classes": tuple(classes), "imgsz": imgsz}
