"""The papers' ways to spend networks on a frame, at fixed sizes and steps: BS, BE, DE, RE, QRE.

BS one network of baseline size for the whole frame (Rapid-INR); BE the background network alone; DE with a
network of each object's colours; RE with networks of the residuals instead; QRE the same with a quantized
background, whose error the residuals correct. Sizes of object networks are the reference's, by area.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.bitstream import Network, ObjectPatch, Packet, decode_packet, encode_packet
from common.bitstream.network_payload import encode_network
from common.frame import Box
from common.images import Rgb
from common.inr.compose import owners, to_bytes
from common.inr.decode import compose_packets
from common.inr.siren import Architecture
from common.quality import frame_quality
from fog_node.encoders.encoder_settings import EncoderSettings, LadderSettings, NetworkSize
from fog_node.encoders.goals import Goal
from fog_node.encoders.ladder import Climb, Deadline

__all__ = ["WAYS", "PaperSizes", "mean_quality", "measure_frame", "object_size", "raw_bytes"]

WAYS = ("BS", "BE", "DE", "RE", "QRE")
"""In the papers' order."""
OBJECT_SIZES = (
    (1001, Architecture(10, 3)),
    (3001, Architecture(15, 3)),
    (10_001, Architecture(17, 5)),
    (math.inf, Architecture(24, 5)),
)
"""The reference's object networks: the first whose limit is above the box's area in pixels."""
BASELINE, BACKGROUND = Architecture(58, 5), Architecture(42, 5)
"""Parameters as 45 to 24, the papers' bytes; 42x5 has as many as the reference's 28x10."""
NEVER, UNHURRIED_S = 1e-30, 1e9
"""Squared error that no network reaches, and seconds that no fit needs: every fit takes all of its steps."""

Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PaperSizes:
    """Sizes and steps of every fit.

    Attributes:
        baseline: The one network of BS.
        background: The background network of all others.
        steps: Optimizer steps of a network.
        pruning: "none", "iterative" or "dynamic", as in the encoder's settings.
    """

    baseline: Architecture = BASELINE
    background: Architecture = BACKGROUND
    steps: int = 2000
    pruning: str = "none"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "baseline": str(self.baseline),
            "background": str(self.background),
            "steps": self.steps,
            "pruning": self.pruning,
        }


def object_size(area: int) -> Architecture:
    """The reference's network for a box of ``area`` pixels."""
    return next(size for limit, size in OBJECT_SIZES if area < limit)


def raw_bytes(packet: Packet) -> int:
    """Bytes of a packet's file if integers were written as they are, with a binary32 step a tensor."""
    networks = [packet.background, *(patch.content for patch in packet.objects)]
    size = len(encode_packet(packet))
    for network in networks:
        if isinstance(network, Network):
            tensors = [t for layer in network.layers for t in (layer.weight, layer.bias)]
            size += sum(t.values.nbytes + 4 for t in tensors) - len(encode_network(network))
    return size


def measure_frame(
    image: Rgb,
    boxes: Sequence[Box],
    sizes: PaperSizes,
    settings: EncoderSettings,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """Every way on one frame: bytes of the packet, the same with raw integers, and the quality.

    Args:
        image: (H, W, 3) uint8 at the coded size.
        boxes: In pixels of ``image``, as a packet holds them.
        sizes: What is fitted.
        settings: Whose ladders give learning rates and pixels a step.
        device: Where to fit.

    Returns:
        By way: ``bytes``, ``raw_bytes``, ``parameters``, ``zeros`` (weights that are zero),
        ``background_psnr_db``, and ``object_psnr_db`` of each box.
    """
    frame = _Frame(image, boxes, sizes, settings, device)
    precise = frame.network(settings.background, sizes.background, frame.whole(), 16)
    rough = frame.network(settings.background, sizes.background, frame.whole(), 8)
    single = frame.network(settings.background, sizes.baseline, frame.whole(), 16)
    base = frame.packet(precise)
    direct = frame.direct_objects()
    return {
        "BS": frame.measured(frame.packet(single)),
        "BE": frame.measured(base),
        "DE": frame.measured(replace(base, objects=direct), direct=True),
        "RE": frame.measured(replace(base, objects=frame.residual_objects(base))),
        "QRE": frame.measured(
            replace(frame.packet(rough), objects=frame.residual_objects(frame.packet(rough)))
        ),
    }


class _Frame:
    """Fits and measures networks of one frame."""

    def __init__(
        self,
        image: Rgb,
        boxes: Sequence[Box],
        sizes: PaperSizes,
        settings: EncoderSettings,
        device: torch.device,
    ) -> None:
        self._image = image
        self._boxes = tuple(boxes)
        self._sizes = sizes
        self._settings = settings
        self._device = device
        height, width = image.shape[:2]
        self._regions = [r for box in boxes if (r := box.region(width, height)) is not None]
        self._owner = owners(self._regions, height, width)

    def whole(self) -> Values:
        """The frame as a background network's output, (H, W, 3) in [-1, 1]."""
        return self._image.astype(np.float32) / 127.5 - 1

    def network(
        self, ladder: LadderSettings, size: Architecture, values: Values, bits: int, unit: float = 0.5
    ) -> Network:
        """A network fitted to ``values`` (H, W, 3); NaN marks pixels that are not its own."""
        changed = {
            "sizes": (NetworkSize(width=size.width, depth=size.depth),),
            "quantization": "uniform",
            "weight_bits": bits,
            "outer_bits": 16,
            "pruning": self._sizes.pruning,
            "steps": self._sizes.steps,
            "rounds": 1,
        }
        one = LadderSettings.model_validate(ladder.model_dump() | changed)
        generator = torch.Generator().manual_seed(self._settings.seed)
        climb = Climb(one, self._settings.w0, generator, self._device)
        goal = Goal(_rows(values).to(self._device), NEVER, unit, 0)
        (fitted,) = climb.run([goal], Deadline(UNHURRIED_S))
        if fitted.network is None:
            raise ValueError("a fit gave no network")
        return fitted.network

    def packet(self, background: Network) -> Packet:
        """A packet of a background alone."""
        height, width = self._image.shape[:2]
        return Packet("siren", width, height, True, False, self._boxes, bytes(32), background)

    def direct_objects(self) -> tuple[ObjectPatch, ...]:
        """Networks of the objects' colours."""
        return tuple(
            ObjectPatch(index, 0.5, self._object(index, values)) for index, values in self._own(self.whole())
        )

    def residual_objects(self, base: Packet) -> tuple[ObjectPatch, ...]:
        """Networks of what the background of ``base`` lacks in the boxes."""
        decoded = compose_packets([base], device=self._device)[0].permute(1, 2, 0).cpu().numpy()
        patches = []
        for index, residual in self._own(self._image.astype(np.float32) / 255 - decoded):
            unit = float(np.float32(np.nanmax(np.abs(residual))))
            patches.append(ObjectPatch(index, unit, self._object(index, residual / unit, unit)))
        return tuple(patches)

    def _own(self, values: Values) -> list[tuple[int, Values]]:
        """Index and values of each box that owns pixels; NaN where another one does."""
        found = []
        for index, (x0, y0, x1, y1) in enumerate(self._regions):
            mine = self._owner[y0:y1, x0:x1] == index
            if mine.any():
                own = np.where(mine[..., None], values[y0:y1, x0:x1], np.float32(np.nan))
                found.append((index, own.astype(np.float32)))
        return found

    def _object(self, index: int, values: Values, unit: float = 0.5) -> Network:
        x0, y0, x1, y1 = self._regions[index]
        return self.network(self._settings.object, object_size((x1 - x0) * (y1 - y0)), values, 16, unit)

    def measured(self, packet: Packet, *, direct: bool = False) -> dict[str, Any]:
        """Bytes and quality of a packet after writing and reading it.

        Args:
            packet: To measure.
            direct: Its objects are colours, not residuals: no packet's decoder knows them, so each is decoded
                as the background of a frame of its own. The bytes are the same.
        """
        data = encode_packet(packet)
        read = decode_packet(data)
        pixels = self._pixels(read if not direct else replace(read, objects=()))
        for patch in read.objects if direct else ():
            x0, y0, x1, y1 = self._regions[patch.box]
            crop = replace(read, width=x1 - x0, height=y1 - y0, boxes=(), objects=())
            if isinstance(patch.content, Network):
                crop = replace(crop, background=patch.content)
            mine = self._owner[y0:y1, x0:x1] == patch.box
            pixels[y0:y1, x0:x1][mine] = self._pixels(crop)[mine]
        background, objects = frame_quality(pixels, self._image, self._regions)
        networks = [read.background, *(patch.content for patch in read.objects)]
        return {
            "bytes": len(data),
            "raw_bytes": raw_bytes(read),
            "background_psnr_db": background,
            "object_psnr_db": objects,
            "parameters": sum(n.parameters for n in networks if isinstance(n, Network)),
            "zeros": sum(_zeros(n) for n in networks if isinstance(n, Network)),
        }

    def _pixels(self, packet: Packet) -> Rgb:
        decoded = to_bytes(compose_packets([packet], device=self._device))[0]
        return np.ascontiguousarray(decoded.permute(1, 2, 0).cpu().numpy())


def _zeros(network: Network) -> int:
    return sum(int((layer.weight.values == 0).sum()) for layer in network.layers)


def _rows(values: Values) -> torch.Tensor:
    """Samples (count, 6) of the pixels of (H, W, 3) values that are numbers, as a goal takes them."""
    height, width = values.shape[:2]
    y = (np.arange(height) + 0.5) * 2 / height - 1
    x = (np.arange(width) + 0.5) * 2 / width - 1
    grid = np.stack(np.broadcast_arrays(x[None], y[:, None]), 2)
    rows = np.concatenate([grid, values, np.ones((height, width, 1))], 2).reshape(-1, 6).astype(np.float32)
    return torch.from_numpy(rows[np.isfinite(rows).all(1)])


def mean_quality(found: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over frames of what :func:`measure_frame` gave for one way; object PSNR over all boxes."""
    objects = [db for value in found for db in value["object_psnr_db"]]
    backgrounds = [v["background_psnr_db"] for v in found if v["background_psnr_db"] is not None]
    return {
        "bytes": float(np.mean([value["bytes"] for value in found])),
        "raw_bytes": float(np.mean([value["raw_bytes"] for value in found])),
        "background_psnr_db": float(np.mean(backgrounds)) if backgrounds else None,
        "object_psnr_db": float(np.mean(objects)) if objects else None,
    }
