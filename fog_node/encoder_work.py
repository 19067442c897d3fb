"""A frame on its way to a packet."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.bitstream import Background, ObjectPatch, Packet
from common.errors import EncodeError
from common.frame import Box, Frame
from common.images import Rgb
from common.quality import Region

__all__ = ["Work"]


@dataclass(slots=True)
class Work:
    """What is to be encoded, and what of it is done.

    Attributes:
        frame: As it was recorded.
        image: Its pixels at the coded size, (H, W, 3) uint8 RGB.
        boxes: Its labels as the packet will hold them.
        regions: Their pixels, box by box.
        background: Set by an encoder.
        objects: Patches by box, set by an encoder.
    """

    frame: Frame
    image: Rgb
    boxes: list[Box]
    regions: list[Region]
    background: Background | None = None
    objects: dict[int, ObjectPatch] = field(default_factory=dict)

    def packet(self, profile: str) -> Packet:
        """The packet of what is done so far.

        Raises:
            EncodeError: There is no background.
        """
        if self.background is None:
            raise EncodeError("the background could not be fitted")
        height, width = self.image.shape[:2]
        return Packet(
            profile,
            width,
            height,
            self.frame.labelled,
            self.frame.validation,
            tuple(self.boxes),
            self.frame.digest,
            self.background,
            tuple(self.objects[index] for index in sorted(self.objects)),
            self.frame.identity,
        )
