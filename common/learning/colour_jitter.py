"""Random hue, saturation and brightness, on the pixels as they are decoded."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["jitter_colours"]


def jitter_colours(pixels: Tensor, gains: Tensor) -> Tensor:
    """Change hue, saturation and brightness, each image by its own gains; grey keeps being grey.

    What Ultralytics' ``RandomHSV`` does with tables of 8-bit values, without their rounding.

    Args:
        pixels: (B, 3, H, W) float32 RGB in [0, 1].
        gains: (B, 3): shift of hue as a share of the full circle, relative changes of saturation and value.

    Returns:
        (B, 3, H, W) float32 RGB in [0, 1].
    """
    hue_gain, saturation_gain, value_gain = gains.to(pixels).T[:, :, None, None]
    red, green, blue = pixels.unbind(1)
    value, low = pixels.amax(1), pixels.amin(1)
    spread = value - low
    divisor = spread.clamp_min(1e-12)
    # In sixths of the circle, from red; which colour leads decides which difference counts.
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue += 6 * hue_gain
    saturation = (spread / value.clamp_min(1e-12)).mul_(1 + saturation_gain).clamp_(max=1)
    value = (value * (1 + value_gain)).clamp_(max=1)
    chroma = saturation.mul_(value)
    out = torch.empty_like(pixels)
    for channel, offset in enumerate((5.0, 3.0, 1.0)):
        sector = (hue + offset).remainder_(6)
        weight = torch.minimum(sector, 4 - sector).clamp_(0, 1)
        torch.sub(value, weight.mul_(chroma), out=out[:, channel])
    return out
