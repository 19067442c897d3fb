"""Fitting a stack of SIRENs to samples of pixels: one optimizer step moves all networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.bitstream.fixed_start import fixed_start
from common.inr.optimizer import WhitenedAdam
from common.inr.siren import Architecture, SirenStack
from common.inr.tiles import TILE, evaluate_tiles, tile_runs

__all__ = ["Samples", "fit_round", "fresh_stack", "join", "widen"]

REFERENCE_WIDTH = 42
"""Width for which learning rates are stated; others are scaled by REFERENCE_WIDTH / width."""
REBASE = 50
"""Steps between new bases of the optimizer."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What each of N networks must reproduce, in a shuffled order.

    Attributes:
        rows: (Q, 6) float32, all pixels: network coordinates x, y in [-1, 1], target RGB, and 1 or 0: whether
            the pixel counts when the result is measured (all are fitted).
        offset: (N,) int64, where each network's pixels begin in ``rows``.
        count: (N,) int64, how many pixels each network has, >= 1.
    """

    rows: Tensor
    offset: Tensor
    count: Tensor

    @classmethod
    def shuffled(cls, parts: Sequence[Tensor], generator: torch.Generator) -> Samples:
        """Samples from the (count, 6) rows of each network.

        The pixels are put in random order once, so that a batch is a run of neighbours in memory and an epoch
        sees every pixel once. Drawn on the CPU: the order does not depend on the device.
        """
        mixed = [p[torch.randperm(len(p), generator=generator).to(p.device)] for p in parts]
        count = torch.tensor([len(part) for part in mixed], device=mixed[0].device)
        return cls(torch.cat(mixed), count.cumsum(0) - count, count)

    def batch(self, step: int, pixels: int) -> tuple[Tensor, Tensor]:
        """Coordinates (N, 2, pixels) and targets (N, 3, pixels) of one step; runs wrap at the end."""
        run = step * pixels + torch.arange(pixels, device=self.rows.device)
        rows = self.rows[(self.offset[:, None] + run % self.count[:, None]).flatten()]
        columns = rows.view(len(self.count), pixels, 6).transpose(1, 2)
        return columns[:, :2].contiguous(), columns[:, 2:5]

    def squared_error(self, stack: SirenStack) -> Tensor:
        """Mean squared error (N,) float64 of each network over its pixels that count and three channels."""
        region, first = tile_runs(self.count)
        index = first[:, None] + torch.arange(TILE, device=first.device)
        count = self.count[region]
        valid = index < count[:, None]
        rows = self.rows[self.offset[region, None] + index.minimum(count[:, None] - 1)]
        error = evaluate_tiles(stack, region, rows[..., :2].transpose(1, 2).contiguous())
        error = (error - rows[..., 2:5].transpose(1, 2)).square().sum(1) * rows[..., 5] * valid
        weight = (rows[..., 5] * valid).sum(1, dtype=torch.float64)
        total = error.new_zeros(len(self.count), 2, dtype=torch.float64)
        total.index_add_(0, region, torch.stack([error.sum(1, dtype=torch.float64), 3 * weight], 1))
        return total[:, 0] / total[:, 1].clamp_min(1)

    def select(self, networks: Tensor) -> Samples:
        """The samples of some networks (int64 indices)."""
        return Samples(self.rows, self.offset[networks], self.count[networks])


def fit_round(
    stack: SirenStack,
    samples: Samples,
    *,
    steps: int,
    pixels: int,
    learning_rate: float,
    last_share: float = 0.0,
    masks: Sequence[Tensor] | None = None,
    first_step: int = 0,
    tick: Callable[[int], int] | None = None,
) -> SirenStack:
    """One annealed round of whitened Adam: linear warm-up, cosine decay, squared error.

    Annealing to zero makes the last weights of a round its best, so no step has to look at the loss: nothing
    is copied to the host and no state is saved inside a round.

    Args:
        stack: N networks to start from; not changed.
        samples: Targets of the N networks.
        steps: Optimizer steps planned.
        pixels: Pixels of each network a step.
        learning_rate: Peak rate at width 42; 1.5e-3 is safe, twice that diverges on some frames.
        last_share: Share of the peak rate that the decay ends on; above 0 when another round follows at once.
        masks: For each weight tensor, of its shape, 0 where it must stay zero and 1 elsewhere.
        first_step: Where in the shuffled order of pixels to begin.
        tick: Called with the number of steps done every 10 steps; returns how many steps the round shall have
            in all (fewer than planned when time runs short); the decay then reaches zero there.

    Returns:
        The fitted networks.
    """
    tensors = [t.detach().clone() for t in stack.tensors]
    fitted = SirenStack(stack.architecture, tensors[0::2], tensors[1::2], stack.w0)
    peak = learning_rate * REFERENCE_WIDTH / stack.architecture.width
    optimizer = WhitenedAdam(fitted)
    step, warm_up = 0, min(20, max(1, steps // 10))
    while step < steps:
        coordinates, targets = samples.batch(first_step + step, pixels)
        if step % REBASE == 0:
            optimizer.rebase(coordinates)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        share = (last_share + (1 - last_share) * cosine) * min(1.0, (step + 1) / warm_up)
        leaves = [t.detach().requires_grad_(True) for t in tensors]
        output = SirenStack(stack.architecture, leaves[0::2], leaves[1::2], stack.w0).forward(coordinates)
        loss = (output - targets).square().mean((1, 2)).sum()
        optimizer.step(torch.autograd.grad(loss, leaves), peak * share)
        for weight, mask in zip(fitted.weights, masks or (), strict=masks is not None):
            weight.mul_(mask)
        step += 1
        if tick is not None and step % 10 == 0:
            steps = max(step, min(steps, tick(step)))
    return fitted


def fresh_stack(architecture: Architecture, generator: torch.Generator, w0: float) -> SirenStack:
    """One network to be fitted: the tensors that have a fixed start begin there, the others at random."""
    stack = SirenStack.initialise(architecture, 1, generator, w0)
    for tensor, start in zip(stack.tensors, fixed_start(architecture.width, architecture.depth), strict=True):
        if start is not None:
            tensor.copy_(torch.from_numpy(start).view(tensor.shape))
    return stack


def widen(stack: SirenStack, architecture: Architecture, generator: torch.Generator) -> SirenStack:
    """The same functions in wider networks of the same depth, ready to be fitted further.

    New neurons get fresh incoming weights and outgoing weights of zero (Net2Net, Chen et al. 2016, section
    2.2, without copies: their sines would stay equal).

    Raises:
        ValueError: The depth differs or the width shrinks.
    """
    old = stack.architecture
    if architecture.depth != old.depth or architecture.width < old.width:
        raise ValueError(f"cannot widen {old} to {architecture}")
    fresh = join([fresh_stack(architecture, generator, stack.w0) for _ in range(stack.count)])
    weights, biases = [], []
    for index, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        new_weight = fresh.weights[index].to(weight.device)
        new_bias = fresh.biases[index].to(weight.device)
        out, fan_in = weight.shape[1:]
        new_weight[:, :out, fan_in:] = 0
        if index == old.depth:
            new_weight[:] = 0
        new_weight[:, :out, :fan_in] = weight
        new_bias[:, :out] = bias
        weights.append(new_weight)
        biases.append(new_bias)
    return SirenStack(architecture, weights, biases, stack.w0)


def join(stacks: Sequence[SirenStack]) -> SirenStack:
    """Stacks of one architecture as one, in order."""
    return SirenStack(
        stacks[0].architecture,
        [torch.cat(column) for column in zip(*(s.weights for s in stacks), strict=True)],
        [torch.cat(column) for column in zip(*(s.biases for s in stacks), strict=True)],
        stacks[0].w0,
    )
