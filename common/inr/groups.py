"""Quantized networks grouped by size: what a receiver keeps in device memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.bitstream.packet import Network
from common.inr.siren import Architecture, SirenStack

__all__ = ["GroupKey", "NetworkGroup", "group_key"]


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """What networks must share to be decoded as one batch."""

    architecture: Architecture
    w0: float
    dtypes: tuple[str, ...]


def group_key(network: Network) -> GroupKey:
    """The group that ``network`` belongs to: its size, w0 and integer types."""
    dtypes = tuple(str(t.values.dtype) for layer in network.layers for t in (layer.weight, layer.bias))
    return GroupKey(Architecture(network.width, network.depth), network.w0, dtypes)


@dataclass(slots=True)
class NetworkGroup:
    """G quantized networks of one :class:`GroupKey` on one device.

    Attributes:
        key: What they share.
        values: 2 * (depth + 1) integer tensors, weight and bias layer by layer: (G, out, in), (G, out, 1).
        scales: (G, 2 * (depth + 1)) float32, the step of each.
    """

    key: GroupKey
    values: list[Tensor]
    scales: Tensor

    @classmethod
    def pack(cls, networks: Sequence[Network], device: torch.device | str = "cpu") -> NetworkGroup:
        """Stack networks of one key; raises ValueError when they differ."""
        keys = {group_key(network) for network in networks}
        if len(keys) != 1:
            raise ValueError(f"a group holds networks of one size, not of {len(keys)}")
        rows = [[t for layer in network.layers for t in (layer.weight, layer.bias)] for network in networks]
        values = []
        for index, column in enumerate(zip(*rows, strict=True)):
            stacked = torch.from_numpy(np.stack([t.values for t in column]))
            values.append((stacked[:, :, None] if index % 2 else stacked).to(device))
        scales = torch.tensor([[t.scale for t in row] for row in rows], dtype=torch.float32, device=device)
        return cls(keys.pop(), values, scales)

    def __len__(self) -> int:
        return int(self.scales.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of integers and scales."""
        return sum(t.nbytes for t in (*self.values, self.scales))

    def extend(self, other: NetworkGroup) -> None:
        """Append the networks of ``other``, of the same key, after these."""
        if other.key != self.key:
            raise ValueError(f"cannot put {other.key} networks into a group of {self.key}")
        self.values = [torch.cat(pair) for pair in zip(self.values, other.values, strict=True)]
        self.scales = torch.cat([self.scales, other.scales])

    def dequantize(self, rows: Tensor | None = None) -> SirenStack:
        """Float networks ``rows`` (int64; all by default) as a stack, in that order."""
        values = self.values if rows is None else [v.index_select(0, rows) for v in self.values]
        scales = self.scales if rows is None else self.scales.index_select(0, rows)
        tensors = [v.float() * scales[:, i, None, None] for i, v in enumerate(values)]
        return SirenStack(self.key.architecture, tensors[0::2], tensors[1::2], self.key.w0)
