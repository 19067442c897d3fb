"""Packets to decode: of networks with random weights, and of moving crops of a photograph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from common.bitstream import ObjectPatch, Packet, decode_packet, label_box
from common.frame import Box, Frame
from common.inr.quantize import BitWidths, quantize, unpack
from common.inr.siren import Architecture, SirenStack

__all__ = ["crop_frames", "encoded_packets", "made_packets"]


def made_packets(count: int, width: int = 640, height: int = 360) -> list[Packet]:
    """Packets of the default sizes with random weights: a 42x5 background and a 20x3 object of 60 pixels."""
    generator = torch.Generator().manual_seed(0)
    backgrounds = unpack(quantize(SirenStack.initialise(Architecture(42, 5), count, generator), BitWidths()))
    objects = unpack(
        quantize(SirenStack.initialise(Architecture(20, 3), count, generator), BitWidths(16, 16, 16))
    )
    rng = np.random.default_rng(0)
    packets = []
    for background, network in zip(backgrounds, objects, strict=True):
        x, y = rng.uniform(0, width - 80), rng.uniform(0, height - 80)
        box = label_box(Box(x, y, x + 60, y + 60), width, height)
        assert box is not None
        item = ObjectPatch(0, 0.5, network)
        packets.append(Packet("siren", width, height, True, False, (box,), bytes(32), background, (item,)))
    return packets


def encoded_packets(profile: str, count: int) -> list[Packet]:
    """Packets of :func:`crop_frames`."""
    from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
    from fog_node.encoders.encoder_settings import EncoderSettings

    encoder = FrameEncoder(EncoderSettings.model_validate({"profile": profile}), "auto")
    return [
        decode_packet(r.packet)
        for frame in crop_frames(count)
        for r in encoder.encode([frame])
        if isinstance(r, EncodedFrame)
    ]


def crop_frames(count: int, width: int = 640) -> list[Frame]:
    """Moving crops of a photograph, as JPEG of quality 90."""
    from simulations.loopback_scenario import load_loopback_scenario
    from simulations.moving_crops import make_clip

    (clip, *_) = load_loopback_scenario().clips
    return [replace(frame, identity=None) for frame in make_clip(clip, count, width, 90, 0.3)]
