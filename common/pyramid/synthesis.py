"""Grids to pixels: reconstruction of the coefficients, wavelet synthesis, and a small learned filter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.pyramid.grids import Grids, Integers, region_size
from common.pyramid.model import Floats, PyramidModel
from common.pyramid.sparse import SparseGrids, grid_views, scatter, sparse_grids
from common.pyramid.wavelet import COLOURS, from_colours, grid_sizes, synthesise, synthesise_window

__all__ = [
    "apply_filter",
    "filter_inputs",
    "pixels_of_grids",
    "pixels_of_sparse",
    "pixels_of_window",
    "reconstruct",
]

GREYS = 255.0
_CELL = 2
"""The filter looks at blocks of 2 x 2 pixels, which makes it four times as cheap."""
_AROUND = 5
_CONTRAST_TOP = 4.0
_STEP_CENTRE = 5.5


def reconstruct(values: Integers, step: float, centres: Floats) -> Floats:
    """Integers of a detail grid to coefficients, float32.

    Args:
        values: int32, any shape.
        step: Of the quantizer.
        centres: (4,) by how much the mean of magnitudes 0, 1, 2 and above lies below the integer, steps.
    """
    sizes = np.abs(values)
    inner = centres[np.minimum(sizes, len(centres) - 1)]
    return (np.sign(values) * np.where(sizes > 0, sizes - inner, 0) * np.float32(step)).astype(np.float32)


def pixels_of_grids(
    grids: Grids,
    model: PyramidModel,
    step: float,
    residual: bool,
    device: torch.device | str = "cpu",
    filtered: bool = True,
) -> Tensor:
    """The picture of quantized grids; see :func:`pixels_of_sparse`.

    Returns:
        (3, H, W) float32 in units of [0, 1] RGB; a picture stands on 0 for grey 0.5.
    """
    height, width = region_size(grids)
    sparse = sparse_grids(grids, height, width).to(device)
    return pixels_of_sparse([sparse], model, [step], residual, filtered)[0]


def pixels_of_sparse(
    grids: Sequence[SparseGrids],
    model: PyramidModel,
    steps: Sequence[float],
    residual: bool,
    filtered: bool = True,
) -> Tensor:
    """The pictures of quantized grids of one size; each is the same alone and among others.

    Args:
        grids: Of B regions of H x W pixels, on the device that computes.
        model: That they were made for.
        steps: Of their quantizers, grey levels.
        residual: Whether they are corrections; only pictures are filtered.
        filtered: False leaves the filter out: what an encoder wants to know, and enough for a picture that is
            shrunk (docs/decoding.md), but not what a packet shows.

    Returns:
        (B, 3, H, W) float32 in units of [0, 1] RGB; a picture stands on 0 for grey 0.5.
    """
    height, width = grids[0].height, grids[0].width
    values, places = scatter(grids)
    # float32, as the encoder's integers were made with.
    exact = torch.tensor(steps, device=values.device)
    _reconstruct_places(values, places, exact, model.centres[int(residual)], height, width)
    low, details = grid_views(values.view(len(grids), -1), height, width)
    pixels = from_colours(synthesise(low, details))
    if filtered and not residual and model.filter:
        layers = _filter_layers(model, values.device)
        pixels = torch.stack([apply_filter(x, step, layers) for x, step in zip(pixels, steps, strict=True)])
    return pixels / GREYS


def pixels_of_window(
    grids: SparseGrids,
    model: PyramidModel,
    step: float,
    residual: bool,
    window: tuple[int, int, int, int],
    filtered: bool = True,
) -> Tensor:
    """Part of the picture of :func:`pixels_of_sparse`, but for rounding; little but that part is computed.

    Args:
        grids: Of one region.
        model: As there.
        step: Of the quantizer, grey levels.
        residual: As there.
        window: x0, y0, x1, y1, half-open, inside the region.
        filtered: As there.

    Returns:
        (3, y1 - y0, x1 - x0) float32.
    """
    height, width = grids.height, grids.width
    values, places = scatter([grids])
    exact = torch.tensor([step], device=values.device)
    _reconstruct_places(values, places, exact, model.centres[int(residual)], height, width)
    low, details = grid_views(values.view(1, -1), height, width)
    filtered = filtered and not residual and bool(model.filter)
    x0, y0, x1, y1 = window
    # What the filter looks at, from an even place on: it sees cells of 2 x 2 pixels.
    reach = _CELL * (len(model.filter) + _AROUND // 2) if filtered else 0
    left, top = ((max(0, first - reach) // _CELL) * _CELL for first in (x0, y0))
    right, bottom = min(width, x1 + reach + _CELL), min(height, y1 + reach + _CELL)
    pixels = from_colours(synthesise_window(low, details, (left, top, right, bottom)))[0]
    if filtered:
        pixels = apply_filter(pixels, step, _filter_layers(model, values.device))
    return pixels[:, y0 - top : y1 - top, x0 - left : x1 - left] / GREYS


def _reconstruct_places(
    values: Tensor, places: Tensor, steps: Tensor, centres: Floats, height: int, width: int
) -> None:
    """As :func:`reconstruct`, in place, only where there are entries; the coarsest picture has no centres."""
    integers = values[places].double()
    sizes = integers.abs()
    image = places // (COLOURS * height * width)
    low_height, low_width = grid_sizes(height, width)[-1]
    detail = places - image * (COLOURS * height * width) >= COLOURS * low_height * low_width
    inner = torch.from_numpy(centres).to(values.device)[sizes.clamp_max(len(centres) - 1).long()] * detail
    values[places] = (integers.sign() * (sizes - inner) * steps[image]).float()


@lru_cache(maxsize=16)
def _filter_layers(model: PyramidModel, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Weights (out, in, 3, 3) and biases (out,) of the model's convolutions."""
    layers = [(torch.from_numpy(w).to(device), torch.from_numpy(b).to(device)) for w, b in model.filter]
    return [(w.contiguous(memory_format=_layout(device)), b) for w, b in layers]


def _layout(device: torch.device) -> torch.memory_format:
    # oneDNN takes half the time for float32 when the channels of a pixel lie together; cuDNN does not.
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def apply_filter(pixels: Tensor, step: float, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """``pixels`` (3, H, W), centred grey levels, with the error that the filter predicts taken off.

    One image at a time, so that its pixels do not depend on a batch.
    """
    height, width = pixels.shape[1:]
    x = filter_inputs(pixels[None], torch.tensor([step], device=pixels.device))
    x = x.contiguous(memory_format=_layout(pixels.device))
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for weight, bias in layers[:-1]:
            x = F.conv2d(x, weight, bias, padding=1).relu_()
        x = F.conv2d(x, *layers[-1], padding=1)
    return pixels + F.pixel_shuffle(x, _CELL)[0, :, :height, :width] * (step / _CONTRAST_TOP)


def filter_inputs(pixels: Tensor, steps: Tensor) -> Tensor:
    """What the filter's first convolution sees.

    Args:
        pixels: (B, 3, H, W) centred grey levels.
        steps: (B,) of the quantizer.

    Returns:
        (B, 25, H/2, W/2) rounded up: local contrast of the four pixels of a cell in three colours, its size,
        and the step.
    """
    height, width = pixels.shape[-2:]
    scale = steps[:, None, None, None]
    cells = F.pixel_unshuffle(F.pad(pixels, (0, width % 2, 0, height % 2), mode="replicate"), _CELL)
    padded = F.pad(cells, (_AROUND // 2,) * 4, mode="replicate")
    mean = _window_sum(_window_sum(padded, -2), -1) / _AROUND**2
    contrast = (cells - mean) * (_CONTRAST_TOP / scale)
    size = contrast.abs().clamp_max(_CONTRAST_TOP)
    level = (torch.log2(scale) - _STEP_CENTRE).expand(-1, 1, *cells.shape[-2:])
    return torch.cat([contrast.clamp(-_CONTRAST_TOP, _CONTRAST_TOP), size, level], 1)


def _window_sum(x: Tensor, dim: int) -> Tensor:
    """Sums of :data:`_AROUND` neighbours along ``dim``; several times as fast as pooling on a CPU."""
    count = x.shape[dim] - _AROUND + 1
    total = x.narrow(dim, 0, count) + x.narrow(dim, 1, count)
    for shift in range(2, _AROUND):
        total += x.narrow(dim, shift, count)
    return total
