"""Clocks beside an accelerator."""

from __future__ import annotations

import torch

__all__ = ["wait"]


def wait(device: torch.device) -> None:
    """Return when ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
