"""Networks to pixels by one fused kernel a width: what runs on a CUDA device where triton is installed.

The stacked path (:mod:`common.inr.sampled`) runs everywhere else and gives the same pixels, but for one grey
level on at most 0.1 % of values.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from common.inr.compose import BackgroundPart, ObjectPart
from common.inr.sampling import Sampling
from common.inr.siren import INPUTS, OUTPUTS, SirenStack

__all__ = [
    "WIDEST",
    "WIDEST_OBJECT",
    "PackedNetworks",
    "Products",
    "fused_samples",
    "is_fusible",
    "padded_width",
]

Products = Literal["tf32x3", "ieee"]
"""How the kernel multiplies: three tensor core products of split numbers, or plain fp32 (slower)."""
WIDEST, WIDEST_OBJECT = 96, 64
"""Neurons of the widest background and object that the kernel decodes without running out of registers."""
NARROWEST = 16
"""Least side of a tensor core's product."""
WARPS = 4
SHARED_BYTES_PER_WEIGHT = 16
"""Bound on the shared memory that the compiled kernel takes for each weight of its widest layer, bytes."""


def padded_width(width: int, split: bool = True) -> tuple[int, int]:
    """Neurons to which ``width`` is padded: a power of two >= 16, or with ``split`` the sum of two, and 0."""
    body = max(NARROWEST, 1 << (width - 1).bit_length())
    if not split:
        return body, 0
    half = body // 2
    tail = max(NARROWEST, 1 << max(0, width - half - 1).bit_length())
    return (half, tail) if half >= NARROWEST and tail < half else (body, 0)


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether triton is installed."""
    return importlib.util.find_spec("triton") is not None


def is_fusible(
    sampling: Sampling, backgrounds: Sequence[BackgroundPart], objects: Sequence[ObjectPart]
) -> bool:
    """Whether the kernel can decode these here.

    That takes triton and a CUDA device with the tensor cores and the shared memory that the widest network
    needs, networks of its widths, and a background for each piece.
    """
    device = sampling.maps.device
    if device.type != "cuda" or not has_triton():
        return False
    if sum(part.stack.count for part in backgrounds) < len(sampling):
        return False
    widths = [sum(padded_width(part.stack.architecture.width)) for part in backgrounds]
    own = [sum(padded_width(part.stack.architecture.width, split=False)) for part in objects]
    if max(widths, default=0) > WIDEST or max(own, default=0) > WIDEST_OBJECT:
        return False
    properties = torch.cuda.get_device_properties(device)
    shared = SHARED_BYTES_PER_WEIGHT * max([*widths, *own], default=0) ** 2
    return properties.major >= 8 and shared <= properties.shared_memory_per_block_optin


@dataclass(frozen=True, slots=True)
class PackedNetworks:
    """N networks of one padded width, as :func:`common.inr.fused_kernel.decode_tiles` reads them.

    Attributes:
        body, tail: Their padded width, in two parts.
        tables: depths (N,) int32; float32: first (N, 2, W), inner (N, L - 1, W, W), biases (N, L, W), last
            (N, 16, W), ends (N, 16). Sine layers are multiplied by w0 / pi.
    """

    body: int
    tail: int
    tables: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

    @property
    def layers(self) -> int:
        """Most sine layers of a network, at least 2, L."""
        return int(self.tables[3].shape[1])

    @classmethod
    def pack(cls, stacks: Sequence[SirenStack], device: torch.device, split: bool = True) -> PackedNetworks:
        """All networks of ``stacks``, at least one stack, in their order.

        Unsplit, a network gives the same bits whatever it is padded to, so that those of several widths can
        lie here; split, they must have one padded width.
        """
        from common.inr.fused_kernel import CHANNELS

        body, tail = max(padded_width(stack.architecture.width, split) for stack in stacks)
        width, channels = body + tail, int(CHANNELS.value)
        count = sum(stack.count for stack in stacks)
        # At least two: an empty tensor has no address.
        layers = max(2, *(stack.architecture.depth for stack in stacks))
        depths = torch.empty(count, dtype=torch.int32, device=device)
        first = torch.zeros(count, INPUTS, width, device=device)
        inner = torch.zeros(count, layers - 1, width, width, device=device)
        biases = torch.zeros(count, layers, width, device=device)
        last = torch.zeros(count, channels, width, device=device)
        ends = torch.zeros(count, channels, device=device)
        at = 0
        for stack in stacks:
            rows = slice(at, at + stack.count)
            at += stack.count
            size, half_turns = stack.architecture.width, stack.w0 / math.pi
            depths[rows] = stack.architecture.depth
            first[rows, :, :size] = half_turns * stack.weights[0].transpose(1, 2)
            for layer in range(1, stack.architecture.depth):
                inner[rows, layer - 1, :size, :size] = half_turns * stack.weights[layer]
            for layer in range(stack.architecture.depth):
                biases[rows, layer, :size] = half_turns * stack.biases[layer][:, :, 0]
            last[rows, :OUTPUTS, :size] = stack.weights[-1]
            ends[rows, :OUTPUTS] = stack.biases[-1][:, :, 0]
        return cls(body, tail, (depths, first, inner, biases, last, ends))


def fused_samples(
    sampling: Sampling,
    backgrounds: Sequence[BackgroundPart],
    objects: Sequence[ObjectPart] = (),
    *,
    as_bytes: bool = False,
    products: Products = "tf32x3",
) -> Tensor:
    """Decode pieces of frames; see :func:`common.inr.sampled.compose_samples`.

    Args:
        sampling: What is shown where.
        backgrounds: Networks; ``frames`` are *pieces*. A piece without one shows the fill.
        objects: What is added inside boxes; ``frames`` are *pieces*.
        as_bytes: Clamp and round to grey levels.
        products: How to multiply.

    Returns:
        (B, 3, height, width) RGB, float32 in [0, 1] but not clamped, or uint8.
    """
    device = sampling.maps.device
    shape = sampling.count, OUTPUTS, sampling.height, sampling.width
    if as_bytes:
        out = torch.full(shape, round(sampling.fill * 255), dtype=torch.uint8, device=device)
    else:
        out = torch.full(shape, sampling.fill, device=device)
    boxes = _Boxes.of(sampling, objects)
    by_width: dict[tuple[int, int], list[BackgroundPart]] = {}
    for part in backgrounds:
        if part.stack.count:
            by_width.setdefault(padded_width(part.stack.architecture.width), []).append(part)
    for parts in by_width.values():
        _launch(out, sampling, parts, boxes, products)
    return out


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The objects of all pieces.

    Attributes:
        first, count: (P,) int64, where the objects of a piece lie among all.
        regions: (M, 4) float64 x0, y0, x1, y1, coded pixels; in the order of :func:`_ranked`.
        scales: (M,) float32.
        rows: (M,) int32 network of each.
        networks: None when there is no object.
    """

    first: Tensor
    count: Tensor
    regions: Tensor
    scales: Tensor
    rows: Tensor
    networks: PackedNetworks | None

    @classmethod
    def of(cls, sampling: Sampling, parts: Sequence[ObjectPart]) -> _Boxes:
        device = sampling.maps.device
        parts = [part for part in parts if part.stack.count]
        if not parts:
            none = torch.zeros(len(sampling), dtype=torch.int64, device=device)
            empty = torch.zeros(1, device=device)
            return cls(none, none, empty, empty, empty, None)
        pieces = torch.cat([part.frames for part in parts])
        regions = torch.cat([part.regions for part in parts])
        order = _ranked(pieces, regions, torch.cat([part.boxes for part in parts]))
        count = torch.zeros(len(sampling), dtype=torch.int64, device=device)
        count.index_add_(0, pieces, torch.ones_like(pieces))
        return cls(
            count.cumsum(0) - count,
            count,
            regions[order].double(),
            torch.cat([part.scales for part in parts])[order].float(),
            order.int(),
            PackedNetworks.pack([part.stack for part in parts], device, split=False),
        )


def _ranked(pieces: Tensor, regions: Tensor, boxes: Tensor) -> Tensor:
    """Order (M,) of objects by piece; in a piece larger areas first, then the order of the boxes."""
    areas = (regions[:, 2:] - regions[:, :2]).prod(1)
    order = torch.argsort(boxes, stable=True)
    order = order[torch.argsort(areas[order], descending=True, stable=True)]
    return order[torch.argsort(pieces[order], stable=True)]


def _launch(
    out: Tensor, sampling: Sampling, parts: Sequence[BackgroundPart], boxes: _Boxes, products: Products
) -> None:
    from common.inr.fused_kernel import COLUMNS, REALS, ROWS, decode_tiles

    networks = PackedNetworks.pack([part.stack for part in parts], out.device)
    pieces = torch.cat([part.frames for part in parts])
    clips = sampling.clips[pieces]
    windows = sampling.windows(pieces, clips)
    sizes = windows[:, 2:] - windows[:, :2]
    row = torch.arange(len(pieces), device=out.device)
    columns = [sampling.images[pieces], windows[:, 1], windows[:, 0], sizes[:, 1], sizes[:, 0], row]
    integers = torch.stack([*columns, boxes.first[pieces], boxes.count[pieces]], 1).int()
    coded = sampling.coded[pieces].double().flip(1)
    reals = torch.zeros(len(pieces), int(REALS.value), dtype=torch.float64, device=out.device)
    reals[:, :15] = torch.cat([sampling.maps[pieces].flatten(1), clips, coded], 1)
    over = boxes.networks or networks
    tiles = math.ceil(sampling.height / ROWS.value) * math.ceil(sampling.width / COLUMNS.value)
    decode_tiles[(tiles, len(pieces))](
        out,
        sampling.height,
        sampling.width,
        integers,
        reals,
        *networks.tables,
        boxes.regions,
        boxes.scales,
        boxes.rows,
        *over.tables,
        layers=networks.layers,
        body=networks.body,
        tail=networks.tail,
        box_layers=over.layers,
        box_body=over.body if boxes.networks else 0,
        box_tail=over.tail,
        bytes_out=out.dtype == torch.uint8,
        products=products,
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
