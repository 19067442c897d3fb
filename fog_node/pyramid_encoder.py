"""Frames to pyramids: the background, then the residual of each box that it leaves below its target."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.bitstream import ObjectPatch
from common.images import Rgb
from common.inr.compose import to_bytes
from common.pyramid.model import PyramidModel
from common.quality import Region, psnr
from fog_node.encoder_settings import EncoderSettings
from fog_node.encoder_work import Work
from fog_node.ladder import Deadline
from fog_node.pyramid_fit import RegionFit

__all__ = ["PyramidEncoder", "psnr_of"]

FIRST_STEP = 90.0
"""Where the search begins for a device not seen before, grey levels; usual for 28 dB."""
OBJECT_STEP_RATIO = 0.6
"""Where it begins for an object, as a share of the background's step."""
OVERLAP_ROUNDS = 4
"""How often objects are fitted at most: one box may show too large an error where it overlaps another."""
OVERLAP_MARGIN_DB = 0.05
REMEMBERED_DEVICES = 1024
"""Devices whose last step is remembered; the least recently seen is forgotten."""


class PyramidEncoder:
    """Encodes frames one after the other; remembers the step that each device's last frame needed.

    Args:
        settings: Targets.
        device: Where pixels are computed.
        model: The shared model.

    Attributes:
        model: The shared model.
    """

    def __init__(self, settings: EncoderSettings, device: torch.device, model: PyramidModel) -> None:
        self._settings = settings
        self._device = device
        self.model = model
        self._steps: OrderedDict[str, float] = OrderedDict()

    def encode(self, items: Sequence[Work], deadline: Deadline) -> None:
        """Fill the background and the objects of every item: about a second each, whatever the deadline."""
        for item in items:
            device = item.frame.identity.device if item.frame.identity else ""
            self._encode_frame(item, device)

    def _encode_frame(self, item: Work, device: str) -> None:
        image = torch.from_numpy(item.image).permute(2, 0, 1).float() / 255
        fit = RegionFit(image - 0.5, self.model, residual=False, device=self._device)
        measured = _outside(item)
        measure = psnr_of(item.image, 0.5, measured)
        first = self._steps.get(device, FIRST_STEP)
        background = fit.to_target(measure, self._settings.background_psnr + item.gain_db, first)
        self._steps[device] = background.pyramid.step
        self._steps.move_to_end(device)
        if len(self._steps) > REMEMBERED_DEVICES:
            self._steps.popitem(last=False)
        item.background = background.pyramid
        self.encode_objects(item, background.pixels + 0.5, background.pyramid.step * OBJECT_STEP_RATIO)

    def encode_objects(self, item: Work, base: Tensor, first_step: float) -> None:
        """Fill the objects of ``item`` whose background is decoded to ``base`` (3, H, W), not clamped."""
        target = self._settings.object_psnr
        targets = [target] * len(item.regions)
        for _ in range(OVERLAP_ROUNDS):
            shown = base.cpu().clone()
            item.objects = self._objects(item, shown, targets, first_step)
            lacking = False
            for index, region in enumerate(item.regions):
                lack = target - _region_psnr(item.image, shown, region)
                sharing = [i for i in item.objects if i != index and _overlap(item.regions[i], region)]
                if lack > 0 and sharing:
                    lacking = True
                    for i in sharing:
                        targets[i] = max(targets[i], target + lack + OVERLAP_MARGIN_DB)
            if not lacking:
                return

    def _objects(
        self, item: Work, shown: Tensor, targets: Sequence[float], first_step: float
    ) -> dict[int, ObjectPatch]:
        """Objects by box; ``shown`` becomes what a decoder shows.

        Boxes that own their pixels come first (see :func:`common.inr.compose.owners`), so that what others
        show within a box is known when its own residual is fitted.
        """
        objects = {}
        taken = np.zeros(item.image.shape[:2], bool)
        for index in sorted(range(len(item.regions)), key=lambda i: (_area(item.regions[i]), -i)):
            x0, y0, x1, y1 = item.regions[index]
            mine = ~taken[y0:y1, x0:x1]
            if _region_psnr(item.image, shown, item.regions[index]) >= targets[index] or not mine.any():
                continue
            taken[y0:y1, x0:x1] = True
            region, below = item.image[y0:y1, x0:x1], shown[:, y0:y1, x0:x1]
            owned = torch.from_numpy(mine)
            residual = (torch.from_numpy(region).permute(2, 0, 1).float() / 255 - below) * owned
            whole = psnr_of(region, below)
            # Where others show too much error for the whole box, its own pixels reach the target.
            measure = whole if whole(residual) >= targets[index] else psnr_of(region, below, mine)
            fit = RegionFit(residual, self.model, residual=True, device=self._device)
            fitted = fit.to_target(_masked(measure, owned), targets[index], first_step)
            objects[index] = ObjectPatch(index, 1.0, fitted.pyramid)
            below += fitted.pixels.cpu() * owned
        return objects


def psnr_of(image: Rgb, base: Tensor | float, mask: np.ndarray | None = None) -> Callable[[Tensor], float]:
    """A measure of decoded pixels (3, H, W): the PSNR in dB of ``base`` + pixels, as 8-bit RGB.

    Args:
        image: What they should be, (H, W, 3) uint8.
        base: What they are added to, in units of [0, 1] RGB.
        mask: (H, W) bool, the pixels that count.
    """

    def measure(pixels: Tensor) -> float:
        shown = to_bytes(pixels.cpu() + base).permute(1, 2, 0).numpy()
        return psnr(shown, image, mask)

    return measure


def _masked(measure: Callable[[Tensor], float], owned: Tensor) -> Callable[[Tensor], float]:
    return lambda pixels: measure(pixels.cpu() * owned)


def _region_psnr(image: Rgb, shown: Tensor, region: Region) -> float:
    x0, y0, x1, y1 = region
    return psnr_of(image[y0:y1, x0:x1], 0.0)(shown[:, y0:y1, x0:x1])


def _area(region: Region) -> int:
    return (region[2] - region[0]) * (region[3] - region[1])


def _overlap(one: Region, other: Region) -> bool:
    return max(one[0], other[0]) < min(one[2], other[2]) and max(one[1], other[1]) < min(one[3], other[3])


def _outside(item: Work) -> np.ndarray | None:
    """(H, W) bool, the pixels outside every box; None when there are none outside."""
    outside = np.ones(item.image.shape[:2], bool)
    for x0, y0, x1, y1 in item.regions:
        outside[y0:y1, x0:x1] = False
    return outside if outside.any() else None
