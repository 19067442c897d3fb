"""A coded pyramid to pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from common.bitstream.packet import Pyramid
from common.errors import PacketFormatError

__all__ = ["pyramid_pixels"]


def pyramid_pixels(pyramid: Pyramid, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Residual of a region, (3, height, width) float32 in units of [0, 1] RGB.

    Raises:
        PacketFormatError: The model is not installed, or the data is damaged.
    """
    raise PacketFormatError(
        f"a pyramid of {height}x{width} needs the model {pyramid.model.hex()}, which is not installed on "
        f"this node ({device}); update it"
    )
