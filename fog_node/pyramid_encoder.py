"""Frames to pyramids: the background, then the residual of each box that it leaves below its target."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.bitstream import ObjectPatch
from common.images import Rgb
from common.inr.compose import owners, to_bytes
from common.pyramid.model import PyramidModel
from common.quality import psnr
from fog_node.encoder_settings import EncoderSettings
from fog_node.encoder_work import Work
from fog_node.ladder import Deadline
from fog_node.pyramid_fit import RegionFit

__all__ = ["PyramidEncoder", "psnr_of"]

FIRST_STEP = 90.0
"""Where the search begins for a device not seen before, grey levels; usual for 28 dB."""
OBJECT_STEP_RATIO = 0.6
"""Where it begins for an object, as a share of the background's step."""
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
        target_db = self._settings.object_psnr
        height, width = item.image.shape[:2]
        shown = base.cpu()
        needed = []
        for index, (x0, y0, x1, y1) in enumerate(item.regions):
            region = item.image[y0:y1, x0:x1]
            if psnr_of(region, shown[:, y0:y1, x0:x1])(torch.zeros(3, y1 - y0, x1 - x0)) < target_db:
                needed.append(index)
        owner = owners([item.regions[index] for index in needed], height, width)
        for place, index in enumerate(needed):
            x0, y0, x1, y1 = item.regions[index]
            mine = owner[y0:y1, x0:x1] == place
            if not mine.any():
                continue
            below = shown[:, y0:y1, x0:x1]
            region = item.image[y0:y1, x0:x1]
            residual = torch.from_numpy(region).permute(2, 0, 1).float() / 255 - below
            residual *= torch.from_numpy(mine)
            fit = RegionFit(residual, self.model, residual=True, device=self._device)
            fitted = fit.to_target(psnr_of(region, below, mine), target_db, first_step)
            item.objects[index] = ObjectPatch(index, 1.0, fitted.pyramid)


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


def _outside(item: Work) -> np.ndarray | None:
    """(H, W) bool, the pixels outside every box; None when there are none outside."""
    outside = np.ones(item.image.shape[:2], bool)
    for x0, y0, x1, y1 in item.regions:
        outside[y0:y1, x0:x1] = False
    return outside if outside.any() else None
