"""Unstructured pruning by magnitude, as in Rapid-INR (Chen et al. 2023): the smallest weights become zero.

Iterative pruning zeroes one share of the weights and refits the rest. Dynamic pruning does so a second time,
with a share that grows with the PSNR reached: a network that is better than needed can spare more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.inr.siren import SirenStack

__all__ = ["apply_masks", "dynamic_share", "magnitude_masks"]


def dynamic_share(psnr_db: Tensor) -> Tensor:
    """Share of the weights to zero at ``psnr_db`` (N,): 0.2 to 35 dB, 0.04 PSNR - 1.2 to 40, then 0.4."""
    return (0.04 * psnr_db - 1.2).clamp(0.2, 0.4)


def magnitude_masks(stack: SirenStack, share: Tensor) -> list[Tensor]:
    """For each weight tensor (N, out, in) a mask of the same shape, 0 for what is zeroed and 1 otherwise.

    Args:
        stack: N networks.
        share: (N,) part of the weights of each network to zero, in [0, 1); over all layers together (global
            L1), each weight measured against its layer's mean magnitude, because layers differ in scale.
    """
    relative = [w.abs() / w.abs().mean((1, 2), keepdim=True).clamp_min(1e-12) for w in stack.weights]
    flat = torch.cat([r.flatten(1) for r in relative], 1)
    count = (share.clamp(0, 1) * flat.shape[1]).long()
    order = flat.sort(1).values
    limit = order.gather(1, count.clamp(max=flat.shape[1] - 1)[:, None])[:, :, None]
    return [(r >= limit).to(r.dtype) for r in relative]


def apply_masks(stack: SirenStack, masks: list[Tensor]) -> SirenStack:
    """``stack`` with the masked weights at zero."""
    weights = [w * m for w, m in zip(stack.weights, masks, strict=True)]
    return SirenStack(stack.architecture, weights, list(stack.biases), stack.w0)
