"""Quality of written packets, measured by decoding them against the recorded frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from common.bitstream import Packet, decode_packet
from common.frame import Frame
from common.images import decode_image, scale_to_width
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.quality import frame_quality
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.object_regions import WholeFrame, object_regions

__all__ = ["QualityTally", "on_target", "packet_quality"]


def packet_quality(
    frame: Frame,
    packet: bytes,
    device: torch.device | str = "cpu",
    keyframes: Mapping[bytes, Packet] | None = None,
    whole_frame: WholeFrame = "object",
) -> tuple[float | None, list[float]]:
    """PSNR in dB over 8-bit RGB outside every box (None: no such pixel) and inside each box of the frame.

    Raises:
        KeyframeError: The packet refers to one that is not among ``keyframes``.
    """
    parsed = decode_packet(packet)
    image, scale = scale_to_width(decode_image(frame.image), parsed.width)
    height, width = image.shape[:2]
    boxes = [box.scaled(scale, scale) for box in frame.boxes]
    regions = object_regions(boxes, width, height, whole_frame)
    decoded = to_bytes(compose_packets([parsed], device=device, keyframes=keyframes))
    pixels = decoded[0].permute(1, 2, 0).cpu().numpy()
    return frame_quality(pixels, image, regions)


def on_target(settings: EncoderSettings, background: float | None, objects: list[float]) -> bool:
    """Whether the background (None: there is none) and every object reach the targets, all in dB."""
    reached = background is None or background >= settings.background_psnr
    return reached and all(db >= settings.object_psnr for db in objects)


class QualityTally:
    """Adds up the quality of packets.

    Args:
        settings: The targets.
        device: Where to decode.
        keyframes: Packets that others refer to, by content hash.
    """

    def __init__(
        self, settings: EncoderSettings, device: torch.device, keyframes: Mapping[bytes, Packet]
    ) -> None:
        self._settings = settings
        self._keyframes = keyframes
        self._device = device
        self._backgrounds: list[float] = []
        self._objects: list[float] = []
        self.reached = 0
        self.bytes = 0
        self.missed: list[str] = []

    def add(self, frame: Frame, packet: bytes) -> None:
        """Measure one frame's packet."""
        background, objects = packet_quality(
            frame, packet, self._device, self._keyframes, self._settings.whole_frame
        )
        self._backgrounds += [] if background is None else [background]
        self._objects += objects
        self.bytes += len(packet)
        if on_target(self._settings, background, objects):
            self.reached += 1
        else:
            inside = ", ".join(f"{db:.2f}" for db in objects) or "-"
            outside = "-" if background is None else f"{background:.2f}"
            self.missed.append(f"{frame.name}: background {outside} dB, objects {inside} dB")

    @property
    def objects(self) -> int:
        """Boxes measured."""
        return len(self._objects)

    @property
    def background_psnr_db(self) -> float | None:
        """Mean over the frames, dB."""
        return float(np.mean(self._backgrounds)) if self._backgrounds else None

    @property
    def object_psnr_db(self) -> float | None:
        """Mean over all boxes, dB; None without boxes."""
        return float(np.mean(self._objects)) if self._objects else None
