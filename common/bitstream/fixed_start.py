"""Where the fit of every network begins, known to both sides.

The first layer's weights and the biases of the sine layers stay within a few hundredths of their start, so
their integers are sent as differences from it: 2 to 5 bits fewer each. Every number belongs to its neuron
alone, so a wider network begins with the same neurons.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["fixed_start"]

FIRST_BOUND = 0.5
"""First layer's weights and biases: U(-1/2, 1/2), one over its two inputs (Sitzmann et al. 2020)."""
BIAS_BOUND = 0.1
"""Other biases: three radians either way after w0 = 30: phases spread over the circle at any width."""

Reals = npt.NDArray[np.float64]


@lru_cache(maxsize=64)
def fixed_start(width: int, depth: int) -> tuple[Reals | None, ...]:
    """Start of each tensor of a network, weight and bias layer by layer, read-only.

    Returns:
        2 * (depth + 1) entries: (width, 2) first weights, (width,) biases of the sine layers; None for the
        tensors whose fit moves them further than their start is wide, and which begin at random.
    """
    entries: list[Reals | None] = []
    for layer in range(depth):
        bound = BIAS_BOUND if layer else FIRST_BOUND
        entries.append(None if layer else _uniform("weights", 2 * width).reshape(width, 2) * bound)
        entries.append(_uniform(f"bias {layer}", width) * bound)
    return (*entries, None, None)


def _uniform(name: str, count: int) -> Reals:
    """``count`` numbers in [-1, 1) in steps of 2^-15: the bytes of SHAKE-128 of ``name``."""
    raw = np.frombuffer(hashlib.shake_128(name.encode("ascii")).digest(2 * count), "<i2")
    return raw.astype(np.float64) / 32768
