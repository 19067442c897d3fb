"""Frames to classic image files: the cheapest whole frame and crops of its boxes that reach the targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.bitstream import ImageCodec, ImageFile, ObjectPatch
from common.bitstream.image_files import FULL_COLOUR, QUALITIES, image_file, image_pixels
from common.bitstream.image_payload import encode_image
from common.images import Rgb
from common.inr.compose import owners
from common.inr.raster import WorkBudget
from common.quality import Region, frame_quality, psnr
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.ladder import Deadline
from fog_node.workers.encoder_work import Work

__all__ = ["ImageEncoder"]

QUICK_SPEED = 8
"""libaom's speed while a quality is searched: within some 0.2 dB of the final file, several times faster."""
BELOW = 1
"""Steps of quality below the first good one that must fail, too: PSNR is not quite monotonous in it."""
PATCH_BYTES = 8
"""What a patch takes in a packet besides its file, bytes: box, scale, kind, length."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """A file at one quality.

    Attributes:
        file: The file.
        bytes: What it takes in a packet.
        pixels: What it decodes to.
        background: PSNR outside the boxes, dB; None when there is no such pixel.
        objects: PSNR inside each box, dB.
    """

    file: ImageFile
    bytes: int
    pixels: Rgb
    background: float | None
    objects: list[float]


class _Files:
    """Files of one image, each encoded at most once.

    Args:
        image: (H, W, 3) uint8.
        regions: Boxes in it.
        codec: Format of the files.
        avif_speed: Of the files that are kept.
    """

    def __init__(self, image: Rgb, regions: Sequence[Region], codec: ImageCodec, avif_speed: int) -> None:
        self._image = np.ascontiguousarray(image)
        self._regions = regions
        self._codec = codec
        self._speed = avif_speed
        self._quick_speed = max(avif_speed, QUICK_SPEED) if codec == "avif" else avif_speed
        self._qualities = QUALITIES[codec]
        self._tried: dict[tuple[int, int, bool], _Tried] = {}

    @property
    def best(self) -> _Tried:
        """The file of the highest quality."""
        return self._at(len(self._qualities) - 1, self._speed, self._codec in FULL_COLOUR)

    def cheapest(
        self, good: Callable[[_Tried], bool], deadline: Deadline, *, most: float = math.inf
    ) -> _Tried | None:
        """The smallest file that is ``good``: with colour at half size if any is, else at full size.

        Args:
            good: Holds from some quality on, at least nearly so.
            deadline: When it has come, the first good file is taken.
            most: Larger files are not wanted, bytes.

        Returns:
            None when no file of at most ``most`` bytes is good.
        """
        found = self._cheapest(good, deadline, most, False)
        # Within a bound of bytes, colour at full size does not pay where half size does not reach it.
        if found is None and most == math.inf and self._codec in FULL_COLOUR:
            found = self._cheapest(good, deadline, most, True)
        return found

    def _cheapest(
        self, good: Callable[[_Tried], bool], deadline: Deadline, most: float, full: bool
    ) -> _Tried | None:
        """Bisection over quality, then its neighbours."""
        top = len(self._qualities) - 1
        low, high = 0, top
        while low < high and (deadline.left > 0 or high == top):
            middle = (low + high) // 2
            tried = self._at(middle, self._quick_speed, full)
            if good(tried) or tried.bytes > most:
                high = middle
            else:
                low = middle + 1
        if self._at(high, self._quick_speed, full).bytes > most:
            return None
        step = high
        while not good(tried := self._at(step, self._speed, full)) and tried.bytes <= most and step < top:
            step += 1
        misses = 0
        while step > 0 and misses < BELOW and deadline.left > 0:
            step -= 1
            misses += not good(self._at(step, self._speed, full))
        kept = (tried for (_, *key), tried in self._tried.items() if key == [self._speed, full])
        found = (tried for tried in kept if good(tried) and tried.bytes <= most)
        return min(found, key=lambda tried: tried.bytes, default=None)

    def _at(self, step: int, speed: int, full: bool) -> _Tried:
        if (step, speed, full) not in self._tried:
            quality = self._qualities[step]
            file = image_file(self._image, self._codec, quality, full_colour=full, avif_speed=speed)
            pixels = image_pixels(file, *self._image.shape[:2])
            measured = frame_quality(pixels, self._image, self._regions)
            self._tried[step, speed, full] = _Tried(file, len(encode_image(file)), pixels, *measured)
        return self._tried[step, speed, full]


class ImageEncoder:
    """Searches, for each frame, the files that reach the targets at the fewest bytes.

    The background file must meet its target outside the boxes. A box that it leaves below the object target
    gets a file of its crop, unless a better background serves the box for fewer bytes.

    Args:
        settings: Targets; ``profile`` names the codec.
        codec: Codec of all files.
    """

    def __init__(self, settings: EncoderSettings, codec: ImageCodec) -> None:
        self._settings = settings
        self._codec = codec

    def encode(self, items: Sequence[Work], deadline: Deadline) -> None:
        """Fill the background and the objects of every item."""
        for number, item in enumerate(items):
            self._encode(item, Deadline(deadline.left / (len(items) - number)))

    def _encode(self, item: Work, deadline: Deadline) -> None:
        settings = self._settings
        frames = _Files(item.image, item.regions, self._codec, settings.avif_speed)

        def outside(tried: _Tried) -> bool:
            return tried.background is None or tried.background >= settings.background_psnr

        base = frames.cheapest(outside, deadline) or frames.best
        crops = {
            index: self._crop(item, index, settings.object_psnr, deadline)
            for index, db in enumerate(base.objects)
            if db < settings.object_psnr
        }
        best, cost = base, self._cost(base, crops)
        for index in crops:
            # A background that serves this box, too, saves its crop, and perhaps others.
            def serves(tried: _Tried, index: int = index) -> bool:
                return outside(tried) and tried.objects[index] >= settings.object_psnr

            better = frames.cheapest(serves, deadline, most=cost)
            if better is not None and self._cost(better, crops) < cost:
                best, cost = better, self._cost(better, crops)
        item.background = best.file
        needed = [i for i in crops if best.objects[i] < settings.object_psnr]
        owner = owners([item.regions[i] for i in needed], *item.image.shape[:2])
        # A crop whose every pixel belongs to smaller ones would be sent for nothing.
        chosen = {i: crops[i] for place, i in enumerate(needed) if (owner == place).any()}
        budget = WorkBudget(item.image.shape[1], item.image.shape[0])
        if not all(budget.take(item.regions[i]) for i in chosen):
            # A decoder would refuse so many crops: a background that serves every box needs none.
            def serves_all(tried: _Tried) -> bool:
                return outside(tried) and min(tried.objects) >= settings.object_psnr

            item.background = (frames.cheapest(serves_all, deadline) or frames.best).file
            item.objects = {}
            return
        self._raise_overlapped(item, best.pixels, chosen, deadline)
        item.objects = {index: ObjectPatch(index, 1.0, file) for index, file in chosen.items()}

    def _cost(self, background: _Tried, crops: dict[int, ImageFile]) -> int:
        """Bytes of a background with the crops that it leaves necessary."""
        needed = (file for i, file in crops.items() if background.objects[i] < self._settings.object_psnr)
        return background.bytes + sum(len(encode_image(file)) + PATCH_BYTES for file in needed)

    def _crop(self, item: Work, index: int, target_db: float, deadline: Deadline) -> ImageFile:
        """The smallest file of a box's pixels that has ``target_db``, or the best there is."""
        x0, y0, x1, y1 = item.regions[index]
        crop = item.image[y0:y1, x0:x1]
        whole = [(0, 0, x1 - x0, y1 - y0)]
        files = _Files(crop, whole, self._codec, self._settings.avif_speed)
        found = files.cheapest(lambda tried: tried.objects[0] >= target_db, deadline)
        return (found or files.best).file

    def _raise_overlapped(
        self, item: Work, background: Rgb, chosen: dict[int, ImageFile], deadline: Deadline
    ) -> None:
        """Raise the crops of boxes that others cover in part, until every box is on target.

        A box is measured over all of its pixels, but only some are its crop's: those may be its worse ones.
        """
        target = self._settings.object_psnr
        aim = dict.fromkeys(chosen, target)
        while deadline.left > 0 and len(item.regions) > 1:
            pixels = _composed(background, item.regions, chosen)
            short = {
                index: db
                for index, (x0, y0, x1, y1) in enumerate(item.regions)
                if (db := psnr(pixels[y0:y1, x0:x1], item.image[y0:y1, x0:x1])) < target
            }
            # A box without a crop is spoilt by the crop that covers it: all of them are raised then.
            raised = [i for i in chosen if i in short or short.keys() - chosen.keys()]
            raised = [i for i in raised if aim[i] < target + 6]
            if not short or not raised:
                return
            for index in raised:
                aim[index] += max(0.1, target - min(short.values()))
                chosen[index] = self._crop(item, index, aim[index], deadline)


def _composed(
    background: Rgb, regions: Sequence[Region], crops: dict[int, ImageFile]
) -> npt.NDArray[np.uint8]:
    """The frame as a decoder composes it: each pixel from the smallest crop that covers it."""
    pixels = background.copy()
    indices = sorted(crops)
    owner = owners([regions[i] for i in indices], *pixels.shape[:2])
    for place, index in enumerate(indices):
        x0, y0, x1, y1 = regions[index]
        mine = owner[y0:y1, x0:x1] == place
        pixels[y0:y1, x0:x1][mine] = image_pixels(crops[index], y1 - y0, x1 - x0)[mine]
    return pixels
