"""Frames to packets of any profile, in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from common.bitstream import encode_packet, label_box
from common.bitstream.codec import MAX_SIDE
from common.errors import ImageError, ResidualInrError
from common.frame import Box, Frame
from common.images import decode_image, image_header, scale_to_width, scaled_size
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets, resolve_device
from common.pyramid.model import default_model, install_model
from common.quality import frame_quality
from fog_node.encoder_settings import EncoderSettings
from fog_node.encoder_work import Work
from fog_node.image_encoder import ImageEncoder
from fog_node.ladder import Deadline
from fog_node.pyramid_encoder import PyramidEncoder
from fog_node.siren_encoder import SirenEncoder

__all__ = ["EncodeFailure", "EncodedFrame", "FrameEncoder", "coded_labels"]


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A packet and what it reaches, measured on the quantized networks.

    Attributes:
        packet: Bytes of the packet.
        background_psnr_db: Outside every box, dB; None when boxes cover the frame.
        object_psnr_db: Inside each box that lies in the frame, dB.
        seconds: Wall-clock time of its batch divided by the frames in it.
        reached_target: Whether the background and every box are on target.
    """

    packet: bytes
    background_psnr_db: float | None
    object_psnr_db: list[float]
    seconds: float
    reached_target: bool


@dataclass(frozen=True, slots=True)
class EncodeFailure:
    """Why a frame cannot be encoded, in one sentence."""

    reason: str
    seconds: float = 0.0


def coded_labels(frame: Frame, scale: float, width: int, height: int) -> list[Box]:
    """The boxes of ``frame`` as its packet holds them: scaled, clipped, in steps of 1/16 coded pixel."""
    scaled = (box.scaled(scale, scale) for box in frame.boxes)
    return [kept for box in scaled if (kept := label_box(box, width, height)) is not None]


class FrameEncoder:
    """Encodes frames of any devices in batches.

    Args:
        settings: Targets, sizes and budgets.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:N".
        threads: CPU threads; 0 leaves torch's default.
        model: File of the shared model of profile ``pyramid``; by default the one that is shipped.

    Raises:
        EncodeError: The device is not there.
    """

    def __init__(
        self,
        settings: EncoderSettings,
        device: str = "auto",
        threads: int = 0,
        model: Path | None = None,
    ) -> None:
        self._settings = settings
        self.device = resolve_device(device)
        if threads:
            torch.set_num_threads(threads)
        self._contents: SirenEncoder | PyramidEncoder | ImageEncoder
        if settings.profile == "siren":
            self._contents = SirenEncoder(settings, self.device)
        elif settings.profile == "pyramid":
            shared = default_model() if model is None else install_model(model)
            self._contents = PyramidEncoder(settings, self.device, shared)
        else:
            self._contents = ImageEncoder(settings, settings.profile)

    def encode(self, frames: Sequence[Frame]) -> list[EncodedFrame | EncodeFailure]:
        """Encode one batch; one result a frame, in order. A bad frame fails alone."""
        begin = time.monotonic()
        deadline = Deadline(self._settings.time_budget_s * len(frames))
        results: list[EncodedFrame | EncodeFailure | None] = [None] * len(frames)
        work: list[tuple[int, Work]] = []
        for index, frame in enumerate(frames):
            try:
                work.append((index, self._prepare(frame)))
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error))
        items = [item for _, item in work]
        if items:
            self._contents.encode(items, deadline)
        seconds = (time.monotonic() - begin) / max(1, len(frames))
        for index, item in work:
            try:
                results[index] = self._finish(item, seconds)
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error), seconds)
        return [result for result in results if result is not None]

    def _prepare(self, frame: Frame) -> Work:
        header = image_header(frame.image)
        width, height, scale = scaled_size(header.width, header.height, self._settings.width)
        if height > MAX_SIDE:
            raise ImageError(
                f"a frame of {header.width}x{header.height} pixels would be {height} pixels high at a coded "
                f"width of {width}; at most {MAX_SIDE} fit a packet"
            )
        image, _ = scale_to_width(decode_image(frame.image), self._settings.width)
        boxes = coded_labels(frame, scale, width, height)
        regions = [region for box in boxes if (region := box.region(width, height)) is not None]
        return Work(frame, image, boxes, regions)

    def _finish(self, item: Work, seconds: float) -> EncodedFrame:
        """Write the packet, decode it and measure it."""
        packet = item.packet(self._settings.profile)
        data = encode_packet(packet)
        decoded = to_bytes(compose_packets([packet], device=self.device))
        pixels = decoded[0].permute(1, 2, 0).cpu().numpy()
        background, objects = frame_quality(pixels, item.image, item.regions)
        reached = all(db >= self._settings.object_psnr for db in objects) and (
            background is None or background >= self._settings.background_psnr
        )
        return EncodedFrame(data, background, objects, seconds, reached)
