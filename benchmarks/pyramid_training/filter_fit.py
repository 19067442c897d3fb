"""Fitting the filter that takes off what it can predict of a decoded picture's error."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.pyramid.synthesis import GREYS, filter_inputs
from pyramid_training.samples import Decoded

__all__ = ["PixelFilter", "filter_tensors", "fit_filter"]

CHANNELS = 32
LAYERS = 3
BATCH, SIDE = 8, 96
RATE = 4e-3
CONTRAST = 4.0
FLOOR = 4.0
"""Squared grey levels added where the relative error is formed: nearly perfect pictures count little."""


class PixelFilter(nn.Module):
    """Three convolutions on blocks of 2 x 2 pixels; see :mod:`common.pyramid.synthesis`."""

    def __init__(self) -> None:
        super().__init__()
        widths = [25, *[CHANNELS] * (LAYERS - 1), 12]
        layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
        nn.init.normal_(layers[-1].weight, 0, 0.01)
        self.layers = nn.ModuleList(layers)

    def forward(self, pixels: Tensor, steps: Tensor) -> Tensor:
        """Filtered (B, 3, H, W) grey levels of pictures with quantizer steps (B,); H and W are even."""
        x = filter_inputs(pixels, steps)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        change = F.pixel_shuffle(self.layers[-1](x), 2)
        return pixels + change * (steps[:, None, None, None] / CONTRAST)


def fit_filter(
    decoded: Sequence[Decoded], steps: int, tell: Callable[[int, float], None], seed: int = 0
) -> PixelFilter:
    """A filter fitted to ``decoded``; ``tell`` hears the step and the mean gain in dB."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = PixelFilter()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    usable = [d for d in decoded if min(d.pixels.shape[1:]) >= SIDE]
    for step in range(steps):
        shown, wanted, sizes = [], [], []
        for index in rng.integers(0, len(usable), BATCH):
            item = usable[index]
            y, x = (2 * rng.integers(0, (n - SIDE) // 2 + 1) for n in item.pixels.shape[1:])
            part = item.pixels[:, y : y + SIDE, x : x + SIDE].astype(np.float32)
            true = item.image[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1).astype(np.float32) - GREYS / 2
            if rng.random() < 0.5:
                part, true = part[..., ::-1], true[..., ::-1]
            shown.append(part.copy())
            wanted.append(true.copy())
            sizes.append(item.step)
        before, target = torch.from_numpy(np.stack(shown)), torch.from_numpy(np.stack(wanted))
        after = network(before, torch.tensor(sizes))
        error = (after - target).square().mean((1, 2, 3))
        was = (before - target).square().mean((1, 2, 3))
        optimizer.zero_grad()
        (error / (was + FLOOR)).mean().backward()
        optimizer.step()
        schedule.step()
        tell(step + 1, float((10 * torch.log10(was / error)).mean().detach()))
    return network


def filter_tensors(network: PixelFilter) -> dict[str, np.ndarray]:
    """The filter's tensors of a model file, float16."""
    found = {}
    for index, layer in enumerate(network.layers):
        found[f"filter.weight{index}"] = layer.weight.detach().numpy().astype(np.float16)
        found[f"filter.bias{index}"] = layer.bias.detach().numpy().astype(np.float16)
    return found
