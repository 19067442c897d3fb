"""Fitting the context networks and their distributions, and turning them into integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from common.pyramid.contexts import FEATURES, PASSES
from common.pyramid.model import ESCAPE, LOW_CLASSES, LOW_CONTEXTS, STATES
from common.pyramid.wavelet import COLOURS, ORIENTATIONS
from pyramid_training.samples import Samples

__all__ = ["ContextNetworks", "entropy_tensors", "fit_networks"]

HIDDEN, LAST = 24, 16
BATCH = 1024
"""Samples of each network a step."""
RATE = 3e-3
UNIT = 8
"""Features are 8 log2(1 + magnitude); hidden activations are kept in eighths, too."""
WEIGHT_UNIT = 64
TABLE_TOTAL = 65536
KEYS = [(o, c, p) for o in range(len(ORIENTATIONS)) for c in range(COLOURS) for p in range(len(PASSES))]


class ContextNetworks(nn.Module):
    """36 small networks, one an orientation, colour and pass, and the distributions they choose from.

    In training a network's output lies between two distributions, whose mixture gives the gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        count = len(KEYS)
        self.w1 = nn.Parameter(torch.randn(count, FEATURES, HIDDEN) * 0.1)
        self.w2 = nn.Parameter(torch.randn(count, HIDDEN, LAST) * 0.25)
        self.b2 = nn.Parameter(torch.zeros(count, 1, LAST))
        self.w3 = nn.Parameter(torch.randn(count, LAST, 1) * 0.1)
        self.b3 = nn.Parameter(torch.full((count, 1, 1), 16.0))
        scale = torch.exp(torch.linspace(np.log(0.002), np.log(12), STATES))
        ratio = scale / (1 + scale)
        sizes = torch.arange(ESCAPE + 1)
        self.tables = nn.Parameter(sizes * torch.log(ratio)[:, None] + torch.log(1 - ratio)[:, None])

    def bits(self, inputs: Tensor, sizes: Tensor) -> Tensor:
        """Cost (36, N) in bits of magnitudes (36, N) int64 in contexts (36, N, FEATURES)."""
        hidden = torch.relu(torch.bmm(inputs / UNIT, self.w1))
        hidden = torch.relu(torch.baddbmm(self.b2, hidden, self.w2))
        state = torch.baddbmm(self.b3, hidden, self.w3)[..., 0].clamp(0, STATES - 1.001)
        below = state.floor().long()
        share = state - below
        tables = torch.softmax(self.tables, 1)
        chance = (1 - share) * tables[below, sizes] + share * tables[below + 1, sizes]
        return -torch.log2(chance.clamp_min(1e-9))


def fit_networks(
    networks: ContextNetworks, samples: Samples, steps: int, tell: Callable[[int, float], None], seed: int = 0
) -> None:
    """Fit to ``samples`` in place; ``tell`` hears the step and the mean bits an integer."""
    rng = np.random.default_rng(seed)
    data = [[np.concatenate(column) for column in zip(*samples.contexts[key], strict=True)] for key in KEYS]
    total = torch.tensor([float(weights.sum()) for *_, weights in data])
    total /= total.sum()
    tables = [networks.tables]
    others = [p for p in networks.parameters() if p is not networks.tables]
    groups = [{"params": others}, {"params": tables, "lr": 3 * RATE}]
    optimizer = torch.optim.Adam(groups, lr=RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = [rng.integers(0, len(weights), BATCH) for *_, weights in data]
        columns = [
            torch.from_numpy(np.stack([d[k][i] for d, i in zip(data, chosen, strict=True)])) for k in range(3)
        ]
        bits = networks.bits(columns[0].float(), columns[1].long()) * columns[2]
        optimizer.zero_grad()
        bits.mean().backward()
        optimizer.step()
        schedule.step()
        tell(step + 1, float((bits.detach().sum(1) / columns[2].sum(1) * total).sum()))


def entropy_tensors(networks: ContextNetworks, samples: Samples) -> dict[str, np.ndarray]:
    """The entropy model's tensors of a model file, all integers but ``centres``."""
    unit = WEIGHT_UNIT

    def whole(tensor: Tensor, factor: float, dtype: type) -> np.ndarray:
        return np.round(tensor.detach().numpy() * factor).astype(dtype)

    tables = torch.softmax(networks.tables, 1).detach().numpy()
    low = np.ones((LOW_CONTEXTS, LOW_CLASSES))
    for context, length in samples.low:
        low[context, length] += 4
    empty = samples.empty[..., 1] / samples.empty.sum(-1)
    cells = samples.cells
    centres = np.where(cells[..., 1] > 0, -cells[..., 0] / np.maximum(cells[..., 1], 1), 0)
    centres[:, 0] = 0
    return {
        # Inputs are eighths, hidden values come out as eighths after the shift by 64.
        "w1": whole(networks.w1, unit, np.int16),
        "w2": whole(networks.w2, unit, np.int16),
        "b2": whole(networks.b2[:, 0], unit * UNIT, np.int32),
        "w3": whole(networks.w3[..., 0], unit, np.int16),
        "b3": whole(networks.b3[:, 0, 0], unit * UNIT, np.int32),
        "symbols": _counts(tables),
        "low": _counts(low / low.sum(1, keepdims=True)),
        "empty": np.clip(np.round(empty * 256), 1, 255).astype(np.uint8),
        "centres": centres.astype(np.float32),
    }


def _counts(chances: np.ndarray) -> np.ndarray:
    """Rows of chances as integers >= 1 that add up to 65,536."""
    counts = np.maximum(1, np.round(chances * TABLE_TOTAL)).astype(np.int64)
    counts[np.arange(len(counts)), counts.argmax(1)] += TABLE_TOTAL - counts.sum(1)
    return counts.astype(np.int32)
