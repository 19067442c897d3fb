"""The sine of the networks' layers, as fast as a library has it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["sine_"]


def sine_(x: Tensor) -> Tensor:
    """Replace ``x`` (any shape, contiguous, float32, no gradient) by its sine, in place; returns it.

    On a CPU by numpy, whose vectorised sine reduces its argument fully, errs by at most 1e-7 and takes 0.4
    times as long as torch's (docs/decoding.md). One thread.
    """
    if x.device.type != "cpu":
        return torch.sin_(x)
    values = x.numpy()
    # The sine of an infinity is no number here as in torch, and not worth a warning.
    with np.errstate(invalid="ignore"):
        np.sin(values, out=values)
    return x
