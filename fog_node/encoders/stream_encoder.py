"""Frames of a camera to keyframes, and to packets that refer to them and hold only what has changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from common.bitstream import Packet, Pyramid, Reference, Update, decode_packet
from common.bitstream.pyramid_payload import encode_pyramid
from common.bitstream.reference_payload import encode_reference
from common.frame import content_digest
from common.inr.raster import raster_background
from common.store.records import Keyframe
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.ladder import Deadline
from fog_node.encoders.pyramid_encoder import OBJECT_STEP_RATIO, PyramidEncoder, psnr_of
from fog_node.encoders.pyramid_fit import RegionFit
from fog_node.encoders.registration import Homography
from fog_node.encoders.stream import Stream, keyframe_gain_db
from fog_node.encoders.view_search import View, find_view
from fog_node.workers.encoder_work import EncodedFrame, Work

__all__ = ["StreamEncoder"]

TILE = 16
"""Corrections cover whole tiles of so many pixels."""
QUIET_SHARE = 0.25
"""Tiles at the edge of a correction whose error is below this share of the target's are left out of it."""


@dataclass(slots=True)
class _Camera:
    """One device's keyframe.

    Attributes:
        keyframe: Its packet's hash and size.
        packet: The packet.
        picture: (3, H, W) float32, its background as it is decoded.
        step: Step of its grids, grey levels.
        correction_step: Step of the newest correction, where the next begins to search.
        stream: Its bytes and those of what refers to it.
        homography: The newest frame's.
    """

    stream: Stream = field(default_factory=Stream)
    keyframe: Keyframe | None = None
    packet: Packet | None = None
    picture: Tensor | None = None
    step: float = 0.0
    correction_step: float = 0.0
    homography: Homography | None = None


class StreamEncoder:
    """Sends each frame as a still or as a reference to its device's keyframe, whichever takes fewer bytes.

    A still is the keyframe of what follows. References name keyframes only, so every frame is decoded with
    one other packet; and only packets that this encoder has made, so the log holds them before.

    Args:
        settings: Targets and the bounds of streams.
        device: Where pixels are computed.
        stills: Encodes frames by themselves.
    """

    def __init__(self, settings: EncoderSettings, device: torch.device, stills: PyramidEncoder) -> None:
        self._settings = settings
        self._device = device
        self._stills = stills
        self._cameras: OrderedDict[str, _Camera] = OrderedDict()

    def takes(self, item: Work) -> bool:
        """Whether this frame may be part of a stream."""
        mode = self._settings.stream.mode
        return mode == "always" or (mode == "devices" and item.frame.identity is not None)

    def forget(self) -> None:
        """Begin every device's stream anew: packets made so far may never reach the log."""
        self._cameras.clear()

    def encode(self, item: Work, deadline: Deadline, finish: Callable[[Work], EncodedFrame]) -> EncodedFrame:
        """Encode the next frame of its device.

        Args:
            item: The frame.
            deadline: When it has come, the best of what was tried is taken; one search for a view is always
                made.
            finish: Makes and measures the packet of an item whose contents are done.

        Raises:
            ResidualInrError: The frame cannot be encoded; the stream goes on without it.
        """
        camera = self._camera(item.frame.identity.device if item.frame.identity else "")
        reference = self._reference(camera, item, deadline)
        if reference is not None:
            cost = len(encode_reference(reference.content))
            if camera.stream.is_sure(cost):
                encoded = self._refer(camera, item, reference, cost, deadline, finish)
                if encoded is not None:
                    return encoded
                reference = None
        gain = self._gain_db(camera)
        still = replace(item, gain_db=gain, objects={})
        self._stills.encode([still], deadline)
        still_bytes = _still_bytes(still)
        if reference is not None and camera.stream.prefers_reference(cost, still_bytes, gain):
            encoded = self._refer(camera, item, reference, cost, deadline, finish)
            if encoded is not None:
                return encoded
        encoded = finish(still)
        self._begin(camera, encoded.packet, still_bytes)
        return encoded

    def _camera(self, device: str) -> _Camera:
        camera = self._cameras.setdefault(device, _Camera())
        self._cameras.move_to_end(device)
        if len(self._cameras) > self._settings.stream.devices:
            self._cameras.popitem(last=False)
        return camera

    def _gain_db(self, camera: _Camera) -> float:
        stream = self._settings.stream
        return keyframe_gain_db(camera.stream.life, stream.gain_db, stream.most_gain_db)

    def _begin(self, camera: _Camera, data: bytes, still_bytes: int) -> None:
        packet = decode_packet(data)
        camera.keyframe = Keyframe(content_digest(data), len(data))
        camera.packet = packet
        camera.picture = raster_background(packet, device=self._device).cpu()
        camera.step = packet.background.step if isinstance(packet.background, Pyramid) else 0.0
        camera.correction_step = camera.step
        camera.homography = None
        camera.stream.began(still_bytes)

    def _refer(
        self,
        camera: _Camera,
        item: Work,
        reference: _Referred,
        cost: int,
        deadline: Deadline,
        finish: Callable[[Work], EncodedFrame],
    ) -> EncodedFrame | None:
        """The frame as a reference; None when its boxes' objects do not fit a packet beside it."""
        item = replace(
            item,
            background=reference.content,
            objects={},
            keyframe=camera.keyframe,
            keyframe_packet=camera.packet,
        )
        first_step = camera.step * OBJECT_STEP_RATIO
        if not self._stills.encode_objects(item, reference.picture, first_step, deadline):
            return None
        encoded = finish(item)
        camera.homography = reference.content.homography
        camera.stream.referred(cost)
        return encoded

    def _reference(self, camera: _Camera, item: Work, deadline: Deadline) -> _Referred | None:
        """The item's background as a reference; None without a keyframe that may serve."""
        stream = self._settings.stream
        if camera.keyframe is None or camera.picture is None or camera.packet is None:
            return None
        if camera.stream.frames >= stream.keyframe_interval:
            return None
        if tuple(camera.picture.shape[1:]) != item.image.shape[:2]:
            return None
        if camera.packet.validation and not item.frame.validation:
            # Nothing is trained on the pixels of a frame that is held out.
            return None
        outside = item.outside
        target = self._settings.background_psnr
        view = find_view(
            item.image,
            camera.picture,
            outside,
            target,
            spacing=stream.motion_spacing,
            start=camera.homography,
        )
        content = Reference(camera.keyframe.digest, view.homography, (), view.motion)
        if view.psnr_db >= target:
            return _Referred(content, view.picture)
        update, picture = self._correction(item, view, outside, camera.correction_step, deadline)
        camera.correction_step = update.content.step
        return _Referred(replace(content, updates=(update,)), picture)

    def _correction(
        self, item: Work, view: View, outside: np.ndarray, step: float, deadline: Deadline
    ) -> tuple[Update, Tensor]:
        """What brings a view to the target, and the picture with it."""
        wanted = torch.from_numpy(item.image).permute(2, 0, 1).float() / 255
        residual = (wanted - view.picture) * torch.from_numpy(outside)
        x0, y0, x1, y1 = _changed(residual, self._settings.background_psnr)
        fit = RegionFit(residual[:, y0:y1, x0:x1], self._stills.model, residual=True, device=self._device)
        whole = psnr_of(item.image, view.picture, outside)

        def measure(pixels: Tensor) -> float:
            placed = torch.zeros_like(residual)
            placed[:, y0:y1, x0:x1] = pixels.cpu()
            return whole(placed)

        fitted = fit.to_target(measure, self._settings.background_psnr, step, deadline)
        picture = view.picture.clone()
        picture[:, y0:y1, x0:x1] += fitted.pixels.cpu()
        return Update((x0, y0, x1, y1), fitted.pyramid), picture


@dataclass(frozen=True, slots=True, eq=False)
class _Referred:
    """A reference and the background that it decodes to, (3, H, W) float32."""

    content: Reference
    picture: Tensor


def _still_bytes(item: Work) -> int:
    if not isinstance(item.background, Pyramid):
        return 0
    return len(encode_pyramid(item.background))


def _changed(residual: Tensor, target_db: float) -> tuple[int, int, int, int]:
    """The region outside which a view shows a frame well enough: x0, y0, x1, y1 in whole tiles."""
    height, width = residual.shape[1:]
    rows, columns = -(-height // TILE), -(-width // TILE)
    tiles = torch.zeros(rows * TILE, columns * TILE)
    tiles[:height, :width] = residual.square().mean(0)
    errors = tiles.reshape(rows, TILE, columns, TILE).mean((1, 3))
    loud = errors > QUIET_SHARE * 10 ** (-target_db / 10)
    if not loud.any():
        return 0, 0, width, height
    down, across = torch.nonzero(loud.any(1))[:, 0], torch.nonzero(loud.any(0))[:, 0]
    x1, y1 = min(width, (int(across[-1]) + 1) * TILE), min(height, (int(down[-1]) + 1) * TILE)
    return int(across[0]) * TILE, int(down[0]) * TILE, x1, y1
