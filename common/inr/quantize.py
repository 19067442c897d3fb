"""Uniform symmetric quantization of a stack: one step a tensor and network.

The first layer's weights and all biases set phases, in radians after the factor w0 = 30: 8 bits there cost
about 0.8 dB on real frames, 16 bits 0.03 dB for 4 % more bytes. Rapid-INR, too, keeps outer layers precise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.bitstream.packet import Layer, Network, QuantizedTensor
from common.inr.groups import GroupKey, NetworkGroup
from common.inr.siren import SirenStack

__all__ = ["BitWidths", "quantize", "unpack"]

CLIPPING = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
"""Shares of the largest magnitude tried as the quantizer's range; the least squared error is kept."""


@dataclass(frozen=True, slots=True)
class BitWidths:
    """Bits an integer, 8 or 16: of the first layer's weights, of the other weights, of the biases.

    With ``last`` above ``weights``, the last layer has so many, and the others' integers share its type.
    """

    first: int = 16
    weights: int = 8
    biases: int = 16
    last: int = 0


def quantize(stack: SirenStack, bits: BitWidths) -> NetworkGroup:
    """The networks of ``stack`` as integers; ``.dequantize()`` gives what a receiver evaluates."""
    values, scales = [], []
    tensors = stack.tensors
    for index, tensor in enumerate(tensors):
        width = bits.biases if index % 2 else bits.weights if index else bits.first
        if index == len(tensors) - 2:
            width = max(width, bits.last)
        integers, step = _quantize(tensor.detach(), width)
        if index >= 2 and not index % 2 and bits.last > bits.weights:
            integers = integers.to(torch.int16)
        values.append(integers)
        scales.append(step)
    dtypes = tuple(str(v.dtype).removeprefix("torch.") for v in values)
    key = GroupKey(stack.architecture, stack.w0, dtypes)
    return NetworkGroup(key, values, torch.stack(scales, 1))


def unpack(group: NetworkGroup) -> list[Network]:
    """The networks of a group one by one, as a packet holds them."""
    values = [v.squeeze(2).cpu().numpy() if i % 2 else v.cpu().numpy() for i, v in enumerate(group.values)]
    scales = group.scales.cpu().numpy().astype(np.float64)
    networks = []
    for row in range(len(group)):
        tensors = [QuantizedTensor(v[row], float(s)) for v, s in zip(values, scales[row], strict=True)]
        layers = tuple(Layer(w, b) for w, b in zip(tensors[0::2], tensors[1::2], strict=True))
        networks.append(Network(layers, group.key.w0))
    return networks


def _quantize(tensor: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integers of (N, a, b) ``tensor`` and the step (N,) of each network."""
    top = 2 ** (bits - 1) - 1
    peak = tensor.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    best_error = torch.full_like(peak, torch.inf)
    best_step = peak / top
    for share in CLIPPING if bits == 8 else (1.0,):
        step = peak * (share / top)
        error = ((tensor / step).round().clamp(-top, top) * step - tensor).square().sum((1, 2), keepdim=True)
        better = error < best_error
        best_error, best_step = torch.where(better, error, best_error), torch.where(better, step, best_step)
    integers = (tensor / best_step).round().clamp(-top, top)
    return integers.to(torch.int8 if bits == 8 else torch.int16), best_step[:, 0, 0]
