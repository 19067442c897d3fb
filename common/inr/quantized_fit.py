"""Fitting networks as they will be sent: rounded, and with the bits of their integers in the loss.

Weights are rounded in every forward pass and the gradient goes through the rounding (straight-through); the
steps of the quantizer are learned with them, one a tensor and network. The loss of a network is

    ln(squared error) + rate_weight * ln(bits),

so ``rate_weight`` is the exchange rate between relative distortion and relative rate, whatever the size of
the network and the quality asked for: one doubling of the bits must pay with 3.01 * rate_weight dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.bitstream.fixed_start import fixed_start
from common.bitstream.network_payload import coded_step
from common.bitstream.packet import Layer, Network, QuantizedTensor
from common.inr.fit import REFERENCE_WIDTH, Samples
from common.inr.optimizer import WhitenedAdam
from common.inr.siren import SirenStack

__all__ = ["QuantizedStack", "first_steps", "fit_quantized"]

STEP_RATE = 0.01
"""Learning rate of the logarithm of a step: a factor e takes 100 optimizer steps."""
FROZEN_SHARE = 0.25
"""Share of a fit that learns steps, at its end, with fixed ones: weights settle on their grid."""
REBASE = 50
"""Optimizer steps between new bases of the optimizer."""
FLOOR = 1e-6
"""Squared error, in units of the networks' outputs, that matters no more."""
PEAK = 32767
"""Largest magnitude of an integer."""
LAPLACE = 2 * math.e
"""A Laplace source of mean magnitude m in steps of d has about log2(2 e m / d) bits."""


@dataclass(slots=True)
class QuantizedStack:
    """N networks on their way to integers.

    Attributes:
        stack: Weights before rounding.
        log_steps: 2 * (depth + 1) tensors (N, 1, 1): natural logarithm of each tensor's step.
    """

    stack: SirenStack
    log_steps: list[Tensor]

    def coded(self) -> QuantizedStack:
        """The same with every step rounded to one that takes a byte."""
        logs = []
        for tensor in self.log_steps:
            steps = [math.log(coded_step(math.exp(value))) for value in tensor.flatten().tolist()]
            logs.append(torch.tensor(steps, dtype=torch.float32, device=tensor.device).view(-1, 1, 1))
        return QuantizedStack(self.stack, logs)

    def shifted(self, shifts: Tensor) -> QuantizedStack:
        """All steps of each network larger by a factor, whose natural logarithm is ``shifts`` (N,)."""
        return QuantizedStack(self.stack, [t + shifts.view(-1, 1, 1).to(t) for t in self.log_steps])

    def decoded(self) -> SirenStack:
        """The networks that a receiver evaluates; steps must be coded ones."""
        tensors = []
        for tensor, logs in zip(self.stack.tensors, self.log_steps, strict=True):
            scale = _scales(logs)
            tensors.append((tensor.detach() / scale).round_().clamp_(-PEAK, PEAK) * scale)
        return SirenStack(self.stack.architecture, tensors[0::2], tensors[1::2], self.stack.w0)

    def networks(self) -> list[Network]:
        """Each network as a packet holds it, with coded steps."""
        columns = []
        for index, (tensor, logs) in enumerate(zip(self.stack.tensors, self.log_steps, strict=True)):
            scale = _scales(logs)
            rounded = (tensor.detach() / scale).round_().clamp_(-PEAK, PEAK).nan_to_num_()
            integers = rounded.cpu().numpy().astype(np.int16)
            flat = integers[..., 0] if index % 2 else integers
            columns.append(list(zip(flat, scale.flatten().tolist(), strict=True)))
        networks = []
        for row in zip(*columns, strict=True):
            # Hidden weights take a byte where they fit one, as nearly all do; a group has one type.
            narrow = all(np.abs(v).max() <= 127 for v, _ in row[2::2])
            tensors = [
                QuantizedTensor(v.astype(np.int8) if narrow and i >= 2 and i % 2 == 0 else v, s)
                for i, (v, s) in enumerate(row)
            ]
            layers = tuple(Layer(w, b) for w, b in zip(tensors[0::2], tensors[1::2], strict=True))
            networks.append(Network(layers, self.stack.w0))
        return networks


def _scales(log_steps: Tensor) -> Tensor:
    """The coded steps of logarithms, of the same shape."""
    steps = [coded_step(value) for value in log_steps.exp().flatten().tolist()]
    return torch.tensor(steps, dtype=torch.float32, device=log_steps.device).view(log_steps.shape)


def first_steps(stack: SirenStack, samples: Samples, error: Tensor, share: float = 0.1) -> list[Tensor]:
    """Logarithms of steps, (N, 1, 1) a tensor, with which rounding adds ``share`` of ``error`` (N,).

    Every parameter is given the same part of it: a step is the larger, the less the output moves with its
    tensor (mean squared gradient, by random projections of the output).
    """
    leaves = [tensor.detach().clone().requires_grad_(True) for tensor in stack.tensors]
    probe = SirenStack(stack.architecture, leaves[0::2], leaves[1::2], stack.w0)
    generator = torch.Generator(device=stack.device).manual_seed(0)
    sensitivity = [torch.zeros(stack.count, device=stack.device) for _ in leaves]
    for turn in range(_PROBES):
        coordinates, _ = samples.batch(turn, _PROBE_PIXELS)
        output = probe.forward(coordinates)
        sign = torch.randn(output.shape, generator=generator, device=stack.device)
        gradients = torch.autograd.grad((output * sign).sum() / math.sqrt(3 * _PROBE_PIXELS), leaves)
        for total, gradient in zip(sensitivity, gradients, strict=True):
            total += gradient.square().mean((1, 2)) / _PROBES
    allowed = 12 * share * error.float().clamp_min(1e-12) / stack.architecture.parameters
    return [(0.5 * torch.log(allowed / s.clamp_min(1e-20))).view(-1, 1, 1) for s in sensitivity]


def fit_quantized(
    start: QuantizedStack,
    samples: Samples,
    *,
    steps: int,
    pixels: int,
    learning_rate: float,
    rate_weight: Tensor,
    target: Tensor | None = None,
    learn_steps: bool = True,
    unseen: Tensor | None = None,
    first_step: int = 0,
    tick: Callable[[int], int] | None = None,
) -> QuantizedStack:
    """One annealed round on rounded weights.

    Args:
        start: Networks to start from; not changed.
        samples: Targets of the N networks.
        steps: Optimizer steps planned.
        pixels: Pixels of each network a step.
        learning_rate: Peak rate at width 42.
        rate_weight: (N,) exchange rate between distortion and rate, see the module.
        target: (N,) squared error that is aimed at, in units of the networks' outputs; far below it, error
            counts no more.
        learn_steps: Whether the quantizer's steps are learned, until the last quarter, or stay as they are.
        unseen: (N,) squared error that ``samples`` do not show, such as detail that averaging has removed.
        first_step: Where in the shuffled order of pixels to begin.
        tick: As for :func:`common.inr.fit.fit_round`.

    Returns:
        The fitted networks, with coded steps.
    """
    source = start.stack
    flat = _Flat.of(source)
    stack = flat.stack(flat.weights)
    logs = torch.cat([t.detach().view(source.count, 1) for t in start.log_steps], 1).requires_grad_(True)
    peak = learning_rate * REFERENCE_WIDTH / source.architecture.width
    optimizer = WhitenedAdam(stack)
    stepper = torch.optim.Adam([logs], lr=STEP_RATE, betas=(0.9, 0.99), eps=1e-12)
    hidden = torch.zeros_like(rate_weight) if unseen is None else unseen
    # Below a tenth of its target an error is no longer worth a bit.
    floor = FLOOR if target is None else 0.1 * target
    step, warm_up, frozen = 0, min(10, max(1, steps // 10)), False
    while step < steps:
        coordinates, wanted = samples.batch(first_step + step, pixels)
        if step % REBASE == 0:
            optimizer.rebase(coordinates)
        share = 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, (step + 1) / warm_up)
        if not frozen and step >= (1 - FROZEN_SHARE) * steps * learn_steps:
            frozen = True
            logs = _scales(logs.detach()).log()
        leaf = flat.weights.detach().requires_grad_(True)
        rounded, bits = flat.rounded(leaf, logs)
        error = (flat.stack(rounded).forward(coordinates) - wanted).square().mean((1, 2)) + hidden
        loss = ((error + floor).log() + rate_weight * bits / bits.detach()).sum()
        gradients = torch.autograd.grad(loss, [leaf] if frozen else [leaf, logs])
        optimizer.step(flat.stack(gradients[0]).tensors, peak * share)
        if not frozen:
            logs.grad = gradients[1]
            stepper.step()
        step += 1
        if tick is not None and step % 10 == 0:
            steps = max(step, min(steps, tick(step)))
    steps_of_all = logs.detach().T.reshape(-1, source.count, 1, 1)
    return QuantizedStack(stack, list(steps_of_all)).coded()


_PROBES, _PROBE_PIXELS = 6, 1024


@dataclass(slots=True)
class _Flat:
    """All parameters of N networks side by side: a few operations instead of a few for each tensor.

    Attributes:
        source: Says sizes.
        weights: (N, P) parameters before rounding.
        origin: (P,) where each integer is counted from: the fixed start, or zero.
        member: (P, tensors) 1 where a parameter belongs to a tensor, else 0.
        sizes: Parameters of each tensor.
    """

    source: SirenStack
    weights: Tensor
    origin: Tensor
    member: Tensor
    sizes: list[int]

    @classmethod
    def of(cls, source: SirenStack) -> _Flat:
        size = source.architecture
        origins = []
        for tensor, start in zip(source.tensors, fixed_start(size.width, size.depth), strict=True):
            flat = torch.zeros_like(tensor[0]) if start is None else torch.from_numpy(start).to(tensor)
            origins.append(flat.reshape(-1))
        weights = torch.cat([tensor.detach().flatten(1) for tensor in source.tensors], 1)
        sizes = [len(origin) for origin in origins]
        counts = torch.tensor(sizes, device=source.device)
        member = torch.eye(len(sizes), device=source.device).repeat_interleave(counts, 0)
        return cls(source, weights, torch.cat(origins), member, sizes)

    def stack(self, flat: Tensor) -> SirenStack:
        """``flat`` (N, P) as a stack of views."""
        shapes = [tensor.shape for tensor in self.source.tensors]
        parts = [
            part.view(shape) for part, shape in zip(torch.split(flat, self.sizes, 1), shapes, strict=True)
        ]
        return SirenStack(self.source.architecture, parts[0::2], parts[1::2], self.source.w0)

    def rounded(self, leaf: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
        """``leaf`` (N, P) rounded by the steps of ``logs`` (N, tensors), and the bits (N,) that it takes."""
        tensor_steps = logs.exp()
        steps = tensor_steps @ self.member.T
        with torch.no_grad():
            ratio = leaf / steps
            off = ratio.round() - ratio
        moved = (leaf - self.origin).abs()
        counts = self.member.sum(0)
        means = moved @ self.member / counts
        bits = (counts * torch.log2(1 + LAPLACE * means / tensor_steps)).sum(1)
        return leaf + off * steps, bits
