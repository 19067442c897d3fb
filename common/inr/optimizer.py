"""Adam in the eigenbasis of each layer's inputs, for stacks of networks.

Neurons of a layer see strongly correlated inputs: smooth pictures make a few directions far steeper than
the others. In the eigenbasis of the inputs' second moments the steps along them are scaled one by one (one
side of SOAP, Vyas et al. 2024, with the inputs' moments instead of the gradients').
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from common.inr.siren import SirenStack

__all__ = ["WhitenedAdam"]

BETAS = (0.9, 0.99)
"""A short second moment follows the cosine schedule within a few hundred steps."""
EPSILON = 1e-12
SAMPLE = 1024
"""Pixels that the second moments are taken of."""


class WhitenedAdam:
    """Moves the tensors of one stack; networks stay independent of each other.

    Args:
        stack: Its tensors are changed in place.
    """

    def __init__(self, stack: SirenStack) -> None:
        self._stack = stack
        self._bases: list[Tensor] | None = None
        self._first: list[Tensor] = []
        self._second: list[Tensor] = []
        self._steps = 0

    def rebase(self, coordinates: Tensor) -> None:
        """Take new eigenbases from the inputs of every layer at ``coordinates`` (N, 2, P); no gradient."""
        with torch.no_grad():
            inputs = _layer_inputs(self._stack, coordinates[..., :SAMPLE])
            # A network that has diverged must not take the others of its stack with it.
            bases = [torch.linalg.eigh((x @ x.mT).nan_to_num_(0, 0, 0))[1] for x in inputs]
            for index, basis in enumerate(bases if self._first and self._bases else ()):
                turn = self._bases[index].mT @ basis if self._bases else basis
                self._first[index] = self._first[index] @ turn
                self._second[index] = self._second[index] @ turn.square()
            self._bases = bases

    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """One step against ``gradients`` (of ``stack.tensors``, in order); :meth:`rebase` comes first."""
        if self._bases is None:
            raise ValueError("a step needs bases: call rebase first")
        self._steps += 1
        correction = [1 - beta**self._steps for beta in BETAS]
        with torch.no_grad():
            for index, basis in enumerate(self._bases):
                turned = torch.cat(list(gradients[2 * index : 2 * index + 2]), 2) @ basis
                if len(self._first) == index:
                    self._first.append(torch.zeros_like(turned))
                    self._second.append(torch.zeros_like(turned))
                first, second = self._first[index], self._second[index]
                first.lerp_(turned, 1 - BETAS[0])
                second.mul_(BETAS[1]).addcmul_(turned, turned, value=1 - BETAS[1])
                scale = (second / correction[1]).sqrt_().add_(EPSILON)
                move = (first / scale) @ basis.mT
                rate = -learning_rate / correction[0]
                self._stack.weights[index].add_(move[..., :-1], alpha=rate)
                self._stack.biases[index].add_(move[..., -1:], alpha=rate)


def _layer_inputs(stack: SirenStack, coordinates: Tensor) -> list[Tensor]:
    """Inputs of every layer, (N, fan_in + 1, P) each: a row of ones stands for the bias."""
    x = coordinates
    one = torch.ones_like(x[:, :1])
    inputs = []
    for weight, bias in zip(stack.weights[:-1], stack.biases[:-1], strict=True):
        inputs.append(torch.cat([x, one], 1))
        x = torch.sin(torch.baddbmm(stack.w0 * bias, stack.w0 * weight, x))
    inputs.append(torch.cat([x, one], 1))
    return inputs
