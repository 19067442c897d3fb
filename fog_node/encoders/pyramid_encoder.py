"""Frames to pyramids: the background, then the residual of each box that it leaves below its target."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.bitstream import ObjectPatch, Reference
from common.images import Rgb
from common.inr.compose import to_bytes
from common.inr.raster import WorkBudget
from common.pyramid.model import PyramidModel
from common.quality import Region, frame_quality, psnr
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.ladder import Deadline
from fog_node.encoders.pyramid_fit import RegionFit
from fog_node.workers.encoder_work import Work

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
        """Fill the background and the objects of every item.

        A frame takes about a second. When its share of the time is over, each search for a step ends with its
        first trial: contents are complete, at best on target.
        """
        for number, item in enumerate(items):
            device = item.frame.identity.device if item.frame.identity else ""
            self._encode_frame(item, device, Deadline(deadline.left / (len(items) - number)))

    def _encode_frame(self, item: Work, device: str, deadline: Deadline) -> None:
        image = torch.from_numpy(item.image).permute(2, 0, 1).float() / 255
        fit = RegionFit(image - 0.5, self.model, residual=False, device=self._device)
        target = self._settings.background_psnr + item.gain_db
        measure = psnr_of(item.image, 0.5, _outside(item))
        first = self._steps.get(device, FIRST_STEP)
        background = fit.to_target(measure, target, first, deadline)
        self._steps[device] = background.pyramid.step
        self._steps.move_to_end(device)
        if len(self._steps) > REMEMBERED_DEVICES:
            self._steps.popitem(last=False)
        item.background = background.pyramid
        object_step = background.pyramid.step * OBJECT_STEP_RATIO
        if not self.encode_objects(item, background.pixels + 0.5, object_step, deadline):
            # So many boxes overlap that patches do not serve them: a background as good as they need does.
            fit = RegionFit(image - 0.5, self.model, residual=False, device=self._device)
            whole = whole_measure(item.image, item.regions, target, self._settings.object_psnr)
            better = fit.to_target(whole, 0.0, object_step, deadline)
            if better.reached or not item.objects:
                item.background, item.objects = better.pyramid, {}

    def encode_objects(self, item: Work, base: Tensor, first_step: float, deadline: Deadline) -> bool:
        """Fill the objects of ``item``, whose background is set.

        Args:
            item: The frame.
            base: What its background is decoded to, (3, H, W), not clamped.
            first_step: Where each search begins, grey levels.
            deadline: When it has come, no box is fitted again for what others show in it.

        Returns:
            False when the boxes overlap so often that a decoder would refuse their patches, which are left
            out then, or that some stay below the target for what others show in them.
        """
        target = self._settings.object_psnr
        targets = [target] * len(item.regions)
        for number in range(OVERLAP_ROUNDS):
            if number and deadline.left <= 0:
                return True
            shown = base.cpu().clone()
            fits = number > 0 or self._fits(item, shown)
            objects = self._objects(item, shown, targets, first_step, deadline) if fits else None
            item.objects = objects or {}
            if objects is None:
                return False
            lacking = False
            for index, region in enumerate(item.regions):
                lack = target - _region_psnr(item.image, shown, region)
                sharing = [i for i in item.objects if i != index and _overlap(item.regions[i], region)]
                if lack > 0 and sharing:
                    lacking = True
                    for i in sharing:
                        targets[i] = max(targets[i], target + lack + OVERLAP_MARGIN_DB)
            if not lacking:
                return True
        return False

    def _fits(self, item: Work, shown: Tensor) -> bool:
        """Whether a packet may hold patches for all boxes that ``shown`` leaves below the target."""
        budget = _budget(item)
        taken = np.zeros(item.image.shape[:2], bool)
        for index in _by_owner(item.regions):
            x0, y0, x1, y1 = item.regions[index]
            if taken[y0:y1, x0:x1].all():
                continue
            if _region_psnr(item.image, shown, item.regions[index]) < self._settings.object_psnr:
                taken[y0:y1, x0:x1] = True
                if not budget.take(item.regions[index]):
                    return False
        return True

    def _objects(
        self,
        item: Work,
        shown: Tensor,
        targets: Sequence[float],
        first_step: float,
        deadline: Deadline,
    ) -> dict[int, ObjectPatch] | None:
        """Objects by box; ``shown`` becomes what a decoder shows. None when a packet may not hold them.

        Boxes that own their pixels come first (see :func:`common.inr.compose.owners`), so that what others
        show within a box is known when its own residual is fitted.
        """
        objects = {}
        budget = _budget(item)
        taken = np.zeros(item.image.shape[:2], bool)
        for index in _by_owner(item.regions):
            x0, y0, x1, y1 = item.regions[index]
            mine = ~taken[y0:y1, x0:x1]
            if _region_psnr(item.image, shown, item.regions[index]) >= targets[index] or not mine.any():
                continue
            if not budget.take(item.regions[index]):
                return None
            taken[y0:y1, x0:x1] = True
            region, below = item.image[y0:y1, x0:x1], shown[:, y0:y1, x0:x1]
            owned = torch.from_numpy(mine)
            residual = (torch.from_numpy(region).permute(2, 0, 1).float() / 255 - below) * owned
            whole = psnr_of(region, below)
            # Where others show too much error for the whole box, its own pixels reach the target.
            measure = whole if whole(residual) >= targets[index] else psnr_of(region, below, mine)
            fit = RegionFit(residual, self.model, residual=True, device=self._device)
            fitted = fit.to_target(_masked(measure, owned), targets[index], first_step, deadline)
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


def whole_measure(
    image: Rgb, regions: Sequence[Region], background_db: float, object_db: float
) -> Callable[[Tensor], float]:
    """A measure of a decoded background (3, H, W), centred: how far it is above the targets everywhere, dB.

    Args:
        image: What it should be, (H, W, 3) uint8.
        regions: Boxes in it.
        background_db: Target outside them.
        object_db: Target inside each.
    """

    def measure(pixels: Tensor) -> float:
        shown = to_bytes(pixels.cpu() + 0.5).permute(1, 2, 0).numpy()
        outside, objects = frame_quality(shown, image, regions)
        above = [db - object_db for db in objects]
        return min(above if outside is None else [outside - background_db, *above])

    return measure


def _budget(item: Work) -> WorkBudget:
    """What a packet may hold beside the item's background."""
    budget = WorkBudget(item.image.shape[1], item.image.shape[0])
    if isinstance(item.background, Reference):
        for update in item.background.updates:
            budget.take(update.region)
    return budget


def _by_owner(regions: Sequence[Region]) -> list[int]:
    """Places of boxes, those first that own pixels which they share with later ones."""
    return sorted(range(len(regions)), key=lambda i: (_area(regions[i]), -i))


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
