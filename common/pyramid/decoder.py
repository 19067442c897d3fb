"""A coded pyramid to pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from common.bitstream.packet import Pyramid
from common.errors import PacketFormatError
from common.pyramid.coder import decode_grids
from common.pyramid.model import PyramidModel, find_model
from common.pyramid.sparse import SparseGrids, sparse_grids
from common.pyramid.synthesis import pixels_of_sparse

__all__ = ["MAX_PIXELS", "decode_sparse", "pyramid_pixels"]

MAX_PIXELS = 1 << 24
"""Largest region that is decoded: about 1 GB while it is."""


def pyramid_pixels(
    pyramid: Pyramid,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    *,
    residual: bool,
) -> Tensor:
    """Decode a region.

    Args:
        pyramid: Its coded grids.
        height: Of the region, pixels.
        width: Of the region, pixels.
        device: Where the pixels are computed; the entropy decoder runs on the CPU.
        residual: Whether it corrects what lies below, as objects and updates do.

    Returns:
        (3, height, width) float32 in units of [0, 1] RGB; a picture stands on 0 for grey 0.5.

    Raises:
        PacketFormatError: The model is not installed, the region is too large, or the data is damaged.
    """
    model, grids = decode_sparse(pyramid, height, width, residual=residual)
    return pixels_of_sparse([grids.to(device)], model, [pyramid.step], residual)[0]


def decode_sparse(
    pyramid: Pyramid, height: int, width: int, *, residual: bool
) -> tuple[PyramidModel, SparseGrids]:
    """The entropy-coded part of :func:`pyramid_pixels`: the model, and the integers on the CPU.

    Raises:
        PacketFormatError: The model is not installed, the region is too large, or the data is damaged.
    """
    if height * width > MAX_PIXELS:
        raise PacketFormatError(
            f"a pyramid of {width}x{height} pixels is above the limit of {MAX_PIXELS} pixels"
        )
    model = find_model(pyramid.model)
    grids = decode_grids(pyramid.data, height, width, model, pyramid.step, residual)
    return model, sparse_grids(grids, height, width)
