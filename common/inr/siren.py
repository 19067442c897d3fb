"""Stacks of SIRENs of one architecture, evaluated as one batched product a layer.

A SIREN maps (x, y) in [-1, 1]^2 through sine layers ``sin(w0 (W x + b))`` and a linear layer to
RGB (Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation Functions").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Architecture", "SirenStack"]

INPUTS, OUTPUTS = 2, 3


@dataclass(frozen=True, slots=True, order=True)
class Architecture:
    """The size class of a SIREN: ``depth`` sine layers of ``width`` neurons, then linear to RGB."""

    width: int
    depth: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(out, in) of each of the depth + 1 linear maps."""
        inner = [(self.width, self.width)] * (self.depth - 1)
        return [(self.width, INPUTS), *inner, (OUTPUTS, self.width)]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(out * (fan_in + 1) for out, fan_in in self.shapes)

    def __str__(self) -> str:
        return f"{self.width}x{self.depth}"


@dataclass(slots=True)
class SirenStack:
    """N SIRENs of one architecture: one tensor a layer, never a list of networks.

    Attributes:
        architecture: Size class of every network of the stack.
        weights: depth + 1 tensors (N, out, in), float32.
        biases: depth + 1 tensors (N, out, 1), float32.
        w0: Frequency factor of the sine layers.
    """

    architecture: Architecture
    weights: list[Tensor]
    biases: list[Tensor]
    w0: float = 30.0

    @classmethod
    def initialise(
        cls, architecture: Architecture, count: int, generator: torch.Generator, w0: float = 30.0
    ) -> SirenStack:
        """``count`` networks with SIREN initialisation (Sitzmann et al. 2020, section 3.2).

        First layer U(-1/in, 1/in), others U(-sqrt(6/in)/w0, +sqrt(6/in)/w0); biases U(-1/sqrt(in),
        1/sqrt(in)). Drawn on ``generator``'s device.
        """
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for index, (out, fan_in) in enumerate(architecture.shapes):
            bound = 1 / fan_in if index == 0 else math.sqrt(6 / fan_in) / w0
            for shape, limit, target in (
                ((count, out, fan_in), bound, weights),
                ((count, out, 1), 1 / math.sqrt(fan_in), biases),
            ):
                draw = torch.rand(shape, generator=generator, device=generator.device)
                target.append((2 * draw - 1) * limit)
        return cls(architecture, weights, biases, w0)

    @property
    def count(self) -> int:
        """Number of networks, N."""
        return int(self.weights[0].shape[0])

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.weights[0].device

    @property
    def tensors(self) -> list[Tensor]:
        """Weights, then biases, layer by layer."""
        return [t for pair in zip(self.weights, self.biases, strict=True) for t in pair]

    def to(self, device: torch.device) -> SirenStack:
        """The same networks on ``device``."""
        moved = [t.to(device) for t in self.tensors]
        return SirenStack(self.architecture, moved[0::2], moved[1::2], self.w0)

    def select(self, rows: Tensor) -> SirenStack:
        """The networks ``rows`` (any number, int64), gathered into a new stack."""
        return SirenStack(
            self.architecture,
            [w.index_select(0, rows) for w in self.weights],
            [b.index_select(0, rows) for b in self.biases],
            self.w0,
        )

    def forward(self, coordinates: Tensor) -> Tensor:
        """Network outputs at coordinates; differentiable in the weights.

        Args:
            coordinates: (2, P) shared by all networks, or (N, 2, P); float32, x then y, in [-1, 1].

        Returns:
            (N, 3, P) float32, unclamped.
        """
        x = coordinates.expand(self.count, -1, -1) if coordinates.dim() == 2 else coordinates
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.sin(torch.baddbmm(self.w0 * bias, self.w0 * weight, x))
        return torch.baddbmm(self.biases[-1], self.weights[-1], x)
