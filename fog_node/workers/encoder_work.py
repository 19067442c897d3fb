"""A frame on its way to a packet."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.bitstream import Background, ObjectPatch, Packet
from common.errors import EncodeError
from common.frame import Box, Frame
from common.images import Rgb
from common.quality import Region
from common.store.records import Keyframe

__all__ = ["EncodeFailure", "EncodedFrame", "Work"]


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
        gain_db: How far above its target the background aims: others will refer to it.
        keyframe: Hash and size of the packet that the background refers to; None without a reference.
        keyframe_packet: That packet.
    """

    frame: Frame
    image: Rgb
    boxes: list[Box]
    regions: list[Region]
    background: Background | None = None
    objects: dict[int, ObjectPatch] = field(default_factory=dict)
    gain_db: float = 0.0
    keyframe: Keyframe | None = None
    keyframe_packet: Packet | None = None

    @property
    def keyframes(self) -> dict[bytes, Packet]:
        """What the decoder of this frame's packet needs: its keyframe by content hash."""
        if self.keyframe is None or self.keyframe_packet is None:
            return {}
        return {self.keyframe.digest: self.keyframe_packet}

    @property
    def outside(self) -> npt.NDArray[np.bool_]:
        """(H, W) the pixels outside every box."""
        outside = np.ones(self.image.shape[:2], np.bool_)
        for x0, y0, x1, y1 in self.regions:
            outside[y0:y1, x0:x1] = False
        return outside

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


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A packet and what it reaches, measured on the quantized networks.

    Attributes:
        packet: Bytes of the packet.
        background_psnr_db: Outside every box, dB; None when boxes cover the frame.
        object_psnr_db: Inside each box that lies in the frame, dB.
        seconds: Wall-clock time of its batch divided by the frames in it.
        reached_target: Whether the background and every box are on target.
        keyframe: The packet that this one refers to; None when it is self-contained.
    """

    packet: bytes
    background_psnr_db: float | None
    object_psnr_db: list[float]
    seconds: float
    reached_target: bool
    keyframe: Keyframe | None = None


@dataclass(frozen=True, slots=True)
class EncodeFailure:
    """Why a frame cannot be encoded, in one sentence."""

    reason: str
    seconds: float = 0.0
