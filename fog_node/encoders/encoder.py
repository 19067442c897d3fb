"""Frames to packets of any profile, in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
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
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.image_encoder import ImageEncoder
from fog_node.encoders.ladder import Deadline
from fog_node.encoders.object_regions import object_regions
from fog_node.encoders.pyramid_encoder import PyramidEncoder
from fog_node.encoders.siren_encoder import SirenEncoder
from fog_node.encoders.stream_encoder import StreamEncoder
from fog_node.workers.encoder_work import EncodedFrame, EncodeFailure, Work

__all__ = ["EncodeFailure", "EncodedFrame", "FrameEncoder", "coded_labels"]


_Contents = SirenEncoder | PyramidEncoder | ImageEncoder


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
        self._contents: _Contents
        self._streams: StreamEncoder | None = None
        if settings.profile == "siren":
            self._contents = SirenEncoder(settings, self.device)
        elif settings.profile == "pyramid":
            shared = default_model() if model is None else install_model(model)
            self._contents = PyramidEncoder(settings, self.device, shared)
            self._streams = StreamEncoder(settings, self.device, self._contents)
        else:
            self._contents = ImageEncoder(settings, settings.profile)

    def encode(self, frames: Sequence[Frame]) -> list[EncodedFrame | EncodeFailure]:
        """Encode one batch; one result a frame, in order. A bad frame fails alone."""
        try:
            return self._encode(frames)
        except BaseException:
            # The batch is lost, and with it packets that later ones would refer to.
            if self._streams is not None:
                self._streams.forget()
            raise

    def _encode(self, frames: Sequence[Frame]) -> list[EncodedFrame | EncodeFailure]:
        begin = time.monotonic()
        deadline = Deadline(self._settings.time_budget_s * len(frames))
        results: list[EncodedFrame | EncodeFailure | None] = [None] * len(frames)
        work: list[tuple[int, Work]] = []
        for index, frame in enumerate(frames):
            try:
                work.append((index, self._prepare(frame)))
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error))
        if self._streams is not None:
            self._encode_streams(self._streams, work, deadline, results)
        work = [(index, item) for index, item in work if results[index] is None]
        if isinstance(self._contents, SirenEncoder):
            self._encode_contents(self._contents, work, deadline, results)
        else:
            self._encode_singly(self._contents, work, deadline, results)
        work = [(index, item) for index, item in work if results[index] is None]
        seconds = (time.monotonic() - begin) / max(1, len(frames))
        for index, item in work:
            try:
                results[index] = self._finish(item, seconds)
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error), seconds)
        return [result for result in results if result is not None]

    def _encode_streams(
        self,
        streams: StreamEncoder,
        work: Sequence[tuple[int, Work]],
        deadline: Deadline,
        results: list[EncodedFrame | EncodeFailure | None],
    ) -> None:
        """Encode the frames that may refer to others, in order; each alone has its result or its failure."""
        for number, (index, item) in enumerate(work):
            if not streams.takes(item):
                continue
            begin = time.monotonic()
            share = Deadline(deadline.left / (len(work) - number))
            try:
                encoded = streams.encode(item, share, lambda done: self._finish(done, 0.0))
                results[index] = replace(encoded, seconds=time.monotonic() - begin)
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error), time.monotonic() - begin)

    def _encode_contents(
        self,
        contents: _Contents,
        work: Sequence[tuple[int, Work]],
        deadline: Deadline,
        results: list[EncodedFrame | EncodeFailure | None],
    ) -> None:
        """Fill items together; when that fails, one by one, and the bad ones have their failure."""
        if not work:
            return
        try:
            contents.encode([item for _, item in work], deadline)
        except ResidualInrError as error:
            if len(work) == 1:
                results[work[0][0]] = EncodeFailure(str(error))
                return
            for _, item in work:
                item.background, item.objects = None, {}
            self._encode_singly(contents, work, deadline, results)

    def _encode_singly(
        self,
        contents: _Contents,
        work: Sequence[tuple[int, Work]],
        deadline: Deadline,
        results: list[EncodedFrame | EncodeFailure | None],
    ) -> None:
        """Fill items one by one, each within its share of what is left of the time."""
        for number, pair in enumerate(work):
            share = Deadline(deadline.left / (len(work) - number))
            self._encode_contents(contents, [pair], share, results)

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
        regions = object_regions(boxes, width, height, self._settings.whole_frame)
        return Work(frame, image, boxes, regions)

    def _finish(self, item: Work, seconds: float) -> EncodedFrame:
        """Write the packet, decode it and measure it."""
        packet = item.packet(self._settings.profile)
        data = encode_packet(packet)
        decoded = to_bytes(compose_packets([packet], device=self.device, keyframes=item.keyframes))
        pixels = decoded[0].permute(1, 2, 0).cpu().numpy()
        background, objects = frame_quality(pixels, item.image, item.regions)
        reached = all(db >= self._settings.object_psnr for db in objects) and (
            background is None or background >= self._settings.background_psnr
        )
        return EncodedFrame(data, background, objects, seconds, reached, item.keyframe)
