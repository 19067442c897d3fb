"""The shared part of all pyramids: what was learned beforehand, as integers, and a filter for the pixels.

A model is a safetensors file below 256 kB, known by the first bytes of its content hash. The entropy model is
evaluated in integers: float32 holds every intermediate sum exactly (below 2^24), so each machine decodes the
same symbols whatever its matrix library does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import constriction
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from common.errors import PacketFormatError, ResidualInrError
from common.pyramid.contexts import BAND_FEATURES, FEATURES, PASSES
from common.pyramid.wavelet import COLOURS, MAX_LEVELS, ORIENTATIONS

__all__ = [
    "ESCAPE",
    "MODEL_ID_BYTES",
    "STATES",
    "ModelError",
    "PyramidModel",
    "default_model",
    "find_model",
    "install_model",
    "load_model",
]

STATES = 64
"""Distributions that a context may select."""
ESCAPE = 15
"""Magnitudes from here on are coded as this symbol and an Exp-Golomb number."""
MODEL_ID_BYTES = 4
MAX_MODEL_BYTES = 256 * 1024
LOW_CONTEXTS = 12
LOW_CLASSES = 24
"""Bit lengths of the coarsest picture's prediction errors, 0 to 23."""
CENTRES = 4
FILTER_INPUTS, FILTER_OUTPUTS = 25, 12
"""Channels: contrast and its size of four pixels in three colours, and the step; a correction of each."""
_EXACT = 1 << 24
_HIDDEN_TOP = 1023
_FEATURE_TOP = 64
_SHIFT = 1 / 64
_NETWORKS = len(ORIENTATIONS) * COLOURS * len(PASSES)
_SHIPPED = Path(__file__).with_name("models")

if TYPE_CHECKING:
    from constriction.stream.model import Categorical

Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.float64]


class ModelError(ResidualInrError):
    """A shared model that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class PyramidModel:
    """A shared model.

    Attributes:
        id: First bytes of the file's SHA-256.
        layers: Weights and biases of the context networks, integers as float32: w1 (36, FEATURES, a),
            w2 (36, a, b), b2 (36, b), w3 (36, b), b3 (36,).
        bits: (STATES, ESCAPE + 1) cost of each magnitude symbol, bits.
        symbols: Distribution of the magnitude symbol in each state.
        empty: Distribution of "all zero" (0) or not (1) by residual or not, level, colour, orientation.
        low: Distribution of bit lengths in the coarsest picture by context.
        centres: (2, 4) by how much the mean magnitude of 0, 1, 2 and above lies below the integer, steps,
            for pictures and residuals.
        filter: Weights and biases of the filter's convolutions, float32, first to last.
    """

    id: bytes
    layers: dict[str, Floats]
    bits: Bits
    symbols: tuple[Categorical, ...]
    empty: dict[tuple[bool, int, int, int], Categorical]
    low: tuple[Categorical, ...]
    centres: Floats
    filter: tuple[tuple[Floats, Floats], ...]

    def states(
        self, orientation: int, colour: int, number: int, inputs: Floats, shared: Floats
    ) -> npt.NDArray[np.uint8]:
        """The distribution that each position selects.

        Args:
            orientation: Of the grid.
            colour: Of the grid.
            number: The pass.
            inputs: (N, FEATURES - BAND_FEATURES) integers as float32.
            shared: (BAND_FEATURES,) integers as float32.

        Returns:
            (N,) numbers from 0 to STATES - 1.
        """
        at = (orientation * COLOURS + colour) * len(PASSES) + number
        w = self.layers
        first = w["w1"][at]
        hidden = _step(inputs @ first[:-BAND_FEATURES] + shared @ first[-BAND_FEATURES:])
        hidden = _step(hidden @ w["w2"][at] + w["b2"][at])
        out = np.floor((hidden @ w["w3"][at] + w["b3"][at]) * (_SHIFT / 8) + 0.5)
        states: npt.NDArray[np.uint8] = np.clip(out, 0, STATES - 1).astype(np.uint8)
        return states


def _step(sums: Floats) -> Floats:
    """The activation, in place: a shift, and bounds below and above."""
    sums *= np.float32(_SHIFT)
    np.floor(sums, out=sums)
    np.maximum(sums, 0, out=sums)
    return np.minimum(sums, _HIDDEN_TOP, out=sums)


def load_model(data: bytes) -> PyramidModel:
    """A model from the bytes of its file.

    Raises:
        ModelError: It is no usable model.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"a pyramid model of {len(data)} bytes is above the limit of {MAX_MODEL_BYTES}")
    try:
        tensors = load(data)
        model = _assemble(hashlib.sha256(data).digest()[:MODEL_ID_BYTES], tensors)
    except (SafetensorError, KeyError, ValueError, IndexError) as error:
        raise ModelError(f"the file is no pyramid model: {error}") from error
    return model


def find_model(name: bytes) -> PyramidModel:
    """The installed model with this id.

    Raises:
        PacketFormatError: There is none.
    """
    model = _models().get(name)
    if model is None:
        raise PacketFormatError(
            f"the packet needs the pyramid model {name.hex()}, which is not installed here; "
            "update this node, or install the model that its sender uses"
        )
    return model


def default_model() -> PyramidModel:
    """The model that the encoder uses unless told otherwise.

    Raises:
        ModelError: The installation lacks it.
    """
    for model in _models().values():
        return model
    raise ModelError(f"no pyramid model lies in {_SHIPPED}; install the package again")


def install_model(path: Path) -> PyramidModel:
    """Make the model in ``path`` known to this process; returns it."""
    model = load_model(path.read_bytes())
    _models().setdefault(model.id, model)
    return model


@lru_cache(maxsize=1)
def _models() -> dict[bytes, PyramidModel]:
    found = [load_model(path.read_bytes()) for path in sorted(_SHIPPED.glob("*.safetensors"))]
    return {model.id: model for model in found}


def _assemble(name: bytes, tensors: dict[str, npt.NDArray[np.generic]]) -> PyramidModel:
    layers = {key: tensors[key].astype(np.float32) for key in ("w1", "w2", "b2", "w3", "b3")}
    _check(layers)
    table = tensors["symbols"].astype(np.float64)
    empty = tensors["empty"].astype(np.float64)
    low = tensors["low"].astype(np.float64)
    if table.shape != (STATES, ESCAPE + 1) or low.shape != (LOW_CONTEXTS, LOW_CLASSES):
        raise ValueError("its tables have the wrong shape")
    if min(table.min(), low.min(), empty.min()) < 1 or empty.max() > 255:
        raise ValueError("its tables hold counts out of bounds")
    flags = {
        (bool(r), level, c, o): _distribution(np.array([256 - empty[r, level, c, o], empty[r, level, c, o]]))
        for r in range(2)
        for level in range(MAX_LEVELS)
        for c in range(COLOURS)
        for o in range(len(ORIENTATIONS))
    }
    centres = tensors["centres"].astype(np.float32)
    if centres.shape != (2, CENTRES) or not np.isfinite(centres).all():
        raise ValueError("its centres have the wrong shape or are not finite")
    return PyramidModel(
        id=name,
        layers=layers,
        bits=-np.log2(table / table.sum(1, keepdims=True)),
        symbols=tuple(_distribution(row) for row in table),
        empty=flags,
        low=tuple(_distribution(row) for row in low),
        centres=centres,
        filter=_filter(tensors),
    )


def _filter(tensors: dict[str, npt.NDArray[np.generic]]) -> tuple[tuple[Floats, Floats], ...]:
    """The filter's convolutions, each fitting the one before; none when the model has no filter."""
    layers = []
    channels = FILTER_INPUTS
    for index in range(sum(key.startswith("filter.weight") for key in tensors)):
        weight = tensors[f"filter.weight{index}"].astype(np.float32)
        bias = tensors[f"filter.bias{index}"].astype(np.float32)
        if weight.ndim != 4 or weight.shape[1:] != (channels, 3, 3) or bias.shape != weight.shape[:1]:
            raise ValueError(f"convolution {index} of its filter has the wrong shape")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"convolution {index} of its filter is not finite")
        channels = len(weight)
        layers.append((weight, bias))
    if layers and channels != FILTER_OUTPUTS:
        raise ValueError(f"its filter gives {channels} channels, not {FILTER_OUTPUTS}")
    return tuple(layers)


def _distribution(counts: npt.NDArray[np.float64]) -> Categorical:
    # Integer counts divided by a power of two are exact: every machine builds the same distribution.
    return constriction.stream.model.Categorical(counts / 65536.0, perfect=False)


def _check(layers: dict[str, Floats]) -> None:
    """Refuse weights whose sums float32 could not hold exactly."""
    hidden, last = layers["w1"].shape[2], layers["w2"].shape[2]
    shapes = {
        "w1": (_NETWORKS, FEATURES, hidden),
        "w2": (_NETWORKS, hidden, last),
        "b2": (_NETWORKS, last),
        "w3": (_NETWORKS, last),
        "b3": (_NETWORKS,),
    }
    for key, shape in shapes.items():
        values = layers[key]
        if values.shape != shape or not np.array_equal(values, np.round(values)):
            raise ValueError(f"its tensor {key} is not of integers of shape {shape}")
    sums = (
        np.abs(layers["w1"]).sum(1).max() * _FEATURE_TOP,
        (np.abs(layers["w2"]).sum(1) * _HIDDEN_TOP + np.abs(layers["b2"])).max(),
        (np.abs(layers["w3"]).sum(1) * _HIDDEN_TOP + np.abs(layers["b3"])).max(),
    )
    if max(sums) >= _EXACT:
        raise ValueError("its weights are too large to be summed exactly")
