"""What the shared model is trained on: integers in their contexts, and decoded pictures, of real frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from common.images import Rgb
from common.pyramid.coder import low_errors
from common.pyramid.contexts import PASSES, GridContext, band_features, magnitudes
from common.pyramid.grids import Grids, grid_order
from common.pyramid.model import ESCAPE, Floats, PyramidModel
from common.pyramid.synthesis import GREYS, reconstruct
from common.pyramid.wavelet import analyse, from_colours, synthesise

__all__ = ["Decoded", "Samples", "collect"]

STEPS = (14.0, 220.0)
"""Range of the background's step, grey levels: 24 to 36 dB on most frames."""
OBJECT_SIDES = (16, 160)
OBJECT_STEPS = (0.35, 0.8)
"""Step of an object, as a share of its background's."""
OBJECTS = 4
BUSY_SHARE, QUIET_SHARE = 0.3, 0.02
"""Share of the positions kept with, and without, anything around them."""
CALM_STEP = 40.0
"""Coarse enough that quantization noise of a low grid does not matter for what stands on it."""

Quantizer = Callable[[Floats, list[tuple[Floats, ...]], float, bool], Grids]
Key = tuple[int, int, int]
"""Orientation, colour, pass."""


@dataclass(slots=True)
class Decoded:
    """A picture before the filter: (3, H, W) float16 centred grey levels, its step, and what it should be."""

    pixels: npt.NDArray[np.float16]
    step: float
    image: Rgb


@dataclass(slots=True)
class Samples:
    """Training data.

    Attributes:
        contexts: By orientation, colour and pass: inputs (N, FEATURES) int8, magnitudes (N,) uint8 and
            weights (N,).
        empty: (2, 6, 3, 3, 2) how often a grid was empty or not.
        low: Pairs of context and bit length in coarsest pictures.
        cells: (2, 4, 2) sums of exact magnitudes and counts, by residual and integer.
        decoded: For the filter.
    """

    contexts: dict[Key, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    empty: np.ndarray = field(default_factory=lambda: np.ones((2, 6, 3, 3, 2)))
    low: list[tuple[int, int]] = field(default_factory=list)
    cells: np.ndarray = field(default_factory=lambda: np.zeros((2, 4, 2)))
    decoded: list[Decoded] = field(default_factory=list)


def collect(
    images: Sequence[Rgb], quantize: Quantizer, model: PyramidModel | None, seed: int = 0, rounds: int = 2
) -> Iterator[Samples]:
    """Yield the growing samples after every image; the last one is whole."""
    rng = np.random.default_rng(seed)
    samples = Samples()
    centres = np.zeros((2, 4), np.float32) if model is None else model.centres
    for image in images:
        target = torch.from_numpy(image).permute(2, 0, 1).float() - GREYS / 2
        for _ in range(rounds):
            step = float(np.exp(rng.uniform(*np.log(STEPS))))
            pixels = _learn(samples, target, quantize, step, False, centres, rng)
            samples.decoded.append(Decoded(pixels.half().numpy(), step, image))
            error = target - pixels.clamp(-GREYS / 2, GREYS / 2)
            for _ in range(OBJECTS):
                h, w = np.exp(rng.uniform(*np.log(OBJECT_SIDES), 2)).astype(int)
                y, x = (
                    rng.integers(0, max(1, error.shape[1] - h)),
                    rng.integers(0, max(1, error.shape[2] - w)),
                )
                own = step * float(rng.uniform(*OBJECT_STEPS))
                _learn(samples, error[:, y : y + h, x : x + w], quantize, own, True, centres, rng)
        yield samples


def _learn(
    samples: Samples,
    target: torch.Tensor,
    quantize: Quantizer,
    step: float,
    residual: bool,
    centres: Floats,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Quantize one region, keep samples of its integers, and give back its unfiltered picture."""
    low_t, details_t = analyse(from_colours(target, inverse=True))
    low, details = low_t.numpy(), [tuple(grid.numpy() for grid in level) for level in details_t]
    grids = quantize(low, details, step, residual)
    samples.low.extend(low_errors(grids.low))
    for exact, coded in zip(details, grids.details, strict=True):
        for plane, values in zip(exact, coded, strict=True):
            sizes = np.minimum(np.abs(values), 3)
            samples.cells[int(residual), :, 0] += np.bincount(
                sizes.ravel(), (np.abs(plane) / step - np.abs(values)).ravel(), 4
            )
            samples.cells[int(residual), :, 1] += np.bincount(sizes.ravel(), minlength=4)
    _keep_contexts(samples, grids, step, residual, rng)
    inner = centres[int(residual)]
    shown = []
    for level in grids.details:
        across, down, both = (torch.from_numpy(reconstruct(grid, step, inner)) for grid in level)
        shown.append((across, down, both))
    coarsest = torch.from_numpy(grids.low.astype(np.float32) * np.float32(step))
    return from_colours(synthesise(coarsest, shown))


def _keep_contexts(
    samples: Samples, grids: Grids, step: float, residual: bool, rng: np.random.Generator
) -> None:
    features = [[magnitudes(grid) for grid in level] for level in grids.details]
    for level, colour, orientation in grid_order(len(features)):
        plane = features[level][orientation][colour]
        if not plane.size:
            continue
        samples.empty[int(residual), level, colour, orientation, int(plane.any())] += 1
        if not plane.any():
            continue
        context = GridContext.of(features, level, colour, orientation)
        shared = band_features(level, residual, step).astype(np.int8)
        busy_share = min(1.0, BUSY_SHARE * (3 if residual else 1))
        for number, (row, column) in enumerate(PASSES):
            values = np.minimum(np.abs(grids.details[level][orientation][colour][row::2, column::2]), ESCAPE)
            busy, inputs = context.inputs(number)
            rows = np.zeros((values.size, inputs.shape[1]), np.int8)
            rows[busy.ravel()] = inputs[1:]
            share = np.where(busy.ravel() | (values.ravel() > 0), busy_share, QUIET_SHARE)
            kept = np.nonzero(rng.random(values.size) < share)[0]
            if len(kept):
                whole = np.concatenate([rows[kept], np.tile(shared, (len(kept), 1))], 1)
                entry = whole, values.ravel()[kept].astype(np.uint8), (1 / share[kept]).astype(np.float32)
                samples.contexts[orientation, colour, number].append(entry)
            context.learn(number, plane[row::2, column::2])
