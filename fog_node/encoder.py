"""Frames to packets: background networks, then the residuals of their boxes, in batches."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from common.bitstream import Network, ObjectNetwork, Packet, encode_packet, label_box
from common.bitstream.codec import MAX_SIDE
from common.errors import EncodeError, ImageError, ResidualInrError
from common.frame import Box, Frame
from common.images import Rgb, decode_image, image_header, scale_to_width, scaled_size
from common.inr.compose import owners, to_bytes
from common.inr.decode import compose_packets, resolve_device
from common.inr.groups import NetworkGroup
from common.inr.siren import Architecture
from common.quality import Region, frame_quality
from fog_node.encoder_settings import EncoderSettings
from fog_node.ladder import Climb, Deadline, Fitted, Goal, architectures, psnr_db
from fog_node.size_choice import background_rung, object_rung

__all__ = ["EncodeFailure", "EncodedFrame", "FrameEncoder", "coded_labels"]

MARGIN_DB = 0.03
"""Aim above the target: rounding to 8 bits costs up to this much, and the target is judged after it."""
BACKGROUND_SHARE = 0.7
"""Share of the time budget for backgrounds when a batch has boxes; the rest is for objects."""
WARM_DEVICES = 1024
"""Devices whose last background is remembered; the least recently seen is forgotten."""
WARM_WITHIN_DB = 6.0
"""A previous background is close enough to start from when it is at most this far below the target."""


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


@dataclass(slots=True)
class _Work:
    """A frame on its way to a packet."""

    frame: Frame
    image: Rgb
    boxes: list[Box]
    regions: list[Region]
    background: Fitted = field(default_factory=Fitted)
    objects: dict[int, tuple[float, Fitted]] = field(default_factory=dict)


def coded_labels(frame: Frame, scale: float, width: int, height: int) -> list[Box]:
    """The boxes of ``frame`` as its packet holds them: scaled, clipped, in steps of 1/16 coded pixel."""
    scaled = (box.scaled(scale, scale) for box in frame.boxes)
    return [kept for box in scaled if (kept := label_box(box, width, height)) is not None]


class FrameEncoder:
    """Encodes frames of any devices in batches; remembers each device's last background.

    Args:
        settings: Targets, sizes and budgets.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:N".
        threads: CPU threads; 0 leaves torch's default.

    Raises:
        EncodeError: The device is not there.
    """

    def __init__(self, settings: EncoderSettings, device: str = "auto", threads: int = 0) -> None:
        self._settings = settings
        self.device = resolve_device(device)
        if threads:
            torch.set_num_threads(threads)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._last: OrderedDict[str, tuple[int, int, Network]] = OrderedDict()

    def encode(self, frames: Sequence[Frame]) -> list[EncodedFrame | EncodeFailure]:
        """Encode one batch; one result a frame, in order. A bad frame fails alone."""
        begin = time.monotonic()
        deadline = Deadline(self._settings.time_budget_s * len(frames))
        results: list[EncodedFrame | EncodeFailure | None] = [None] * len(frames)
        work: list[tuple[int, _Work]] = []
        for index, frame in enumerate(frames):
            try:
                work.append((index, self._prepare(frame)))
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error))
        items = [item for _, item in work]
        if items:
            self._fit_backgrounds(items, deadline)
            self._fit_objects(items, deadline)
        seconds = (time.monotonic() - begin) / max(1, len(frames))
        for index, item in work:
            try:
                results[index] = self._finish(item, seconds)
            except ResidualInrError as error:
                results[index] = EncodeFailure(str(error), seconds)
        return [result for result in results if result is not None]

    def _prepare(self, frame: Frame) -> _Work:
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
        return _Work(frame, image, boxes, regions)

    def _fit_backgrounds(self, items: list[_Work], deadline: Deadline) -> None:
        settings = self._settings
        target = 10 ** (-(settings.background_psnr + MARGIN_DB) / 10)
        climb = Climb(settings.background, settings.w0, self._generator, self.device)
        sizes = architectures(settings.background)
        goals = []
        for item in items:
            rows = self._background_rows(item)
            start = self._warm_start(item, rows)
            if start is not None:
                rung = sizes.index(Architecture(start.width, start.depth))
            else:
                rung = background_rung(item.image, settings.background_psnr, sizes)
            goals.append(Goal(rows, target, 0.5, rung, start))
        share = BACKGROUND_SHARE if any(item.boxes for item in items) else 1.0
        fitted = climb.run(goals, Deadline(deadline.left * share))
        for item, result in zip(items, fitted, strict=True):
            item.background = result
            device = item.frame.identity.device if item.frame.identity else ""
            if result.network is not None:
                height, width = item.image.shape[:2]
                self._last[device] = (height, width, result.network)
                self._last.move_to_end(device)
                if len(self._last) > WARM_DEVICES:
                    self._last.popitem(last=False)

    def _background_rows(self, item: _Work) -> Tensor:
        """Samples of a whole frame; pixels inside boxes are fitted but not measured."""
        height, width = item.image.shape[:2]
        counts = np.ones((height, width), np.float32)
        for x0, y0, x1, y1 in item.regions:
            counts[y0:y1, x0:x1] = 0
        if not counts.any():
            counts[:] = 1
        xy = _grid(height, width)
        rgb = torch.from_numpy(item.image.reshape(-1, 3)).float() / 127.5 - 1
        rows = torch.cat([xy, rgb, torch.from_numpy(counts.reshape(-1, 1))], 1)
        return rows.to(self.device)

    def _warm_start(self, item: _Work, rows: Tensor) -> Network | None:
        """The device's previous background, when it is already close to this frame."""
        device = item.frame.identity.device if item.frame.identity else ""
        last = self._last.get(device)
        if not self._settings.warm_start or last is None or last[:2] != item.image.shape[:2]:
            return None
        network = last[2]
        stack = NetworkGroup.pack([network], self.device).dequantize()
        with torch.no_grad():
            some = rows[:: max(1, len(rows) // 4096)]
            output = stack.forward(some[:, :2].T.contiguous())[0].T
            error = float((output - some[:, 2:5]).square().mean()) / 4
        close = psnr_db(error) > self._settings.background_psnr - WARM_WITHIN_DB
        return network if close else None

    def _fit_objects(self, items: list[_Work], deadline: Deadline) -> None:
        """Fit the residual of every box that its background leaves below the target."""
        settings = self._settings
        target_db = settings.object_psnr + MARGIN_DB
        sizes = architectures(settings.object)
        target = 10 ** (-target_db / 10)
        goals: list[Goal] = []
        keys: list[tuple[int, int]] = []
        for number, item in enumerate(items):
            packet = self._packet(item)
            base = compose_packets([packet], device=self.device)[0].permute(1, 2, 0).cpu().numpy()
            error = item.image.astype(np.float32) / 255 - base
            before = [
                psnr_db(float(np.square(error[y0:y1, x0:x1]).mean())) for x0, y0, x1, y1 in item.regions
            ]
            needed = [index for index, db in enumerate(before) if db < target_db]
            owner = owners([item.regions[i] for i in needed], *item.image.shape[:2])
            for place, index in enumerate(needed):
                x0, y0, x1, y1 = item.regions[index]
                mine = (owner[y0:y1, x0:x1] == place).reshape(-1)
                if not mine.any():
                    continue
                residual = error[y0:y1, x0:x1].reshape(-1, 3)[mine]
                unit = float(np.float32(np.abs(residual).max()))
                rows = self._object_rows(y1 - y0, x1 - x0, mine, residual / unit)
                rung = object_rung(int(mine.sum()), target_db - before[index], sizes)
                goals.append(Goal(rows, target, unit, rung))
                keys.append((number, index))
        climb = Climb(settings.object, settings.w0, self._generator, self.device)
        for (number, index), goal, result in zip(keys, goals, climb.run(goals, deadline), strict=True):
            items[number].objects[index] = (goal.unit, result)

    def _object_rows(self, height: int, width: int, mine: np.ndarray, residual: np.ndarray) -> Tensor:
        xy = _grid(height, width)[torch.from_numpy(mine)]
        ones = torch.ones(len(xy), 1)
        return torch.cat([xy, torch.from_numpy(residual), ones], 1).to(self.device)

    def _finish(self, item: _Work, seconds: float) -> EncodedFrame:
        """Write the packet, decode it and measure it."""
        packet = self._packet(item)
        data = encode_packet(packet)
        decoded = to_bytes(compose_packets([packet], device=self.device))
        pixels = decoded[0].permute(1, 2, 0).cpu().numpy()
        background, objects = frame_quality(pixels, item.image, item.regions)
        reached = all(db >= self._settings.object_psnr for db in objects) and (
            background is None or background >= self._settings.background_psnr
        )
        return EncodedFrame(data, background, objects, seconds, reached)

    def _packet(self, item: _Work) -> Packet:
        if item.background.network is None:
            raise EncodeError("the background could not be fitted")
        height, width = item.image.shape[:2]
        frame = item.frame
        objects = tuple(
            ObjectNetwork(index, unit, fitted.network)
            for index, (unit, fitted) in sorted(item.objects.items())
            if fitted.network is not None
        )
        return Packet(
            self._settings.profile,
            width,
            height,
            frame.labelled,
            frame.validation,
            tuple(item.boxes),
            frame.digest,
            item.background.network,
            objects,
            frame.identity,
        )


def _grid(height: int, width: int) -> Tensor:
    """Network coordinates (height * width, 2) float32 of the pixel centres, row by row."""
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height - 1
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * 2 / width - 1
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1).float()
