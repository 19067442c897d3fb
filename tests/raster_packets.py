"""Packets of every kind but networks, of pictures made by formula."""

import numpy as np
import torch

from common.bitstream import (
    ImageFile,
    Motion,
    ObjectPatch,
    Packet,
    Pyramid,
    Reference,
    Update,
    decode_packet,
    encode_packet,
)
from common.bitstream.image_files import image_file
from common.frame import Box, content_digest
from common.pyramid.coder import encode_grids
from common.pyramid.model import default_model
from common.pyramid.synthesis import GREYS
from common.pyramid.wavelet import analyse, from_colours
from fog_node.encoders.pyramid_fit import dead_zone_grids
from tests.learning_packets import random_network


def picture(height, width, seed=0):
    """(height, width, 3) uint8: slopes, waves and an edge, with no random number behind them."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = 40 * np.sin(x * (0.11 + 0.02 * seed)) * np.cos(y * 0.07)
    edge = 60 * (x + 2 * y > 0.8 * (height + width) + 3 * seed)
    planes = [90 + 0.1 * x + waves + edge, 110 + 0.2 * y - waves, 70 + edge + 25 * np.sin((x + y) * 0.05)]
    return np.clip(np.round(np.stack(planes, 2)), 0, 255).astype(np.uint8)


def pyramid_of(values, step, *, residual):
    """A pyramid of (height, width, 3) values in units of [0, 1] RGB, quickly: integers are just rounded."""
    planes = torch.from_numpy(np.asarray(values, np.float32)).permute(2, 0, 1) * GREYS
    low, details = analyse(from_colours(planes, inverse=True))
    step = float(np.float32(step))
    grids = dead_zone_grids(low.numpy(), [tuple(g.numpy() for g in level) for level in details], step)
    model = default_model()
    return Pyramid(model.id, step, encode_grids(grids, model, step, residual))


def labels(boxes, name="object"):
    return tuple(Box(*map(float, box), name) for box in boxes)


def pyramid_packet(seed=0, *, width=48, height=32, boxes=((4, 5, 20, 17),), name="object", **marks):
    """A background, and a residual in each box."""
    image = picture(height, width, seed) / 255
    background = pyramid_of(image - 0.5, 60, residual=False)
    objects = []
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        residual = 0.3 * (picture(y1 - y0, x1 - x0, seed + 3) / 255 - 0.5)
        objects.append(ObjectPatch(index, 1.0, pyramid_of(residual, 12, residual=True)))
    return _packet("pyramid", width, height, labels(boxes, name), background, objects, seed, **marks)


def image_packet(codec, seed=0, *, width=48, height=32, boxes=((4, 5, 20, 17),), **marks):
    """A file of the frame, and one of each box."""
    background = image_file(picture(height, width, seed), codec, 40)
    objects = [
        ObjectPatch(index, 1.0, image_file(picture(y1 - y0, x1 - x0, seed + 5), codec, 90))
        for index, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    return _packet(codec, width, height, labels(boxes), background, objects, seed, **marks)


def keyframe_of(packet):
    """A packet's hash, and the packet as a decoder reads it."""
    data = encode_packet(packet)
    return content_digest(data), decode_packet(data)


def reference_packet(
    keyframe, seed=0, *, width=48, height=32, boxes=((4, 5, 20, 17),), turned=False, kind="pyramid", **marks
):
    """A frame that shows a keyframe, corrected in one region, with an object of ``kind`` in each box."""
    rng = np.random.default_rng([seed, 3])
    moved = Motion(16, rng.integers(-8, 9, (-(-height // 16), -(-width // 16), 2)).astype(np.int16))
    region = (3, 2, 30, 25)
    update = pyramid_of(0.1 * (picture(23, 27, seed) / 255 - 0.5), 10, residual=True)
    homography = (1.01, 0.002, -1.5, 0.001, 0.99, 0.7, 1e-5, -1e-5) if turned else None
    homography = None if homography is None else tuple(float(np.float32(v)) for v in homography)
    background = Reference(keyframe, homography, (Update(region, update),), moved if turned else None)
    objects = []
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        content = random_network(rng, 6, 2, np.int16)
        if kind == "pyramid":
            content = pyramid_of(0.2 * (picture(y1 - y0, x1 - x0, seed) / 255 - 0.5), 9, residual=True)
        elif kind != "network":
            content = image_file(picture(y1 - y0, x1 - x0, seed), kind, 80)
        objects.append(ObjectPatch(index, 0.3 if kind == "network" else 1.0, content))
    return _packet("pyramid", width, height, labels(boxes), background, objects, seed, **marks)


def _packet(profile, width, height, boxes, background, objects, seed, *, labelled=True, validation=False):
    digest = np.random.default_rng([seed, width, height]).bytes(32)
    return Packet(profile, width, height, labelled, validation, boxes, digest, background, tuple(objects))


def damaged(packet):
    """The packet with a background file that is cut off."""
    file = packet.background
    data = ImageFile(file.codec, file.data[: len(file.data) // 2])
    return _packet(packet.profile, packet.width, packet.height, packet.boxes, data, (), 0)
