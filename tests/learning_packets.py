"""Packets of small random networks, for tests of learning."""

import numpy as np

from common.bitstream.packet import Layer, Network, ObjectPatch, Packet, QuantizedTensor
from common.frame import Box, Frame
from common.images import encode_png
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets

BACKGROUNDS = [(12, 2), (16, 3)]
OBJECTS = [(6, 2), (8, 2), (10, 2)]


def random_network(rng, width, depth, dtype=np.int8):
    """A quantized SIREN with weights of the usual size."""
    limit = np.iinfo(dtype).max

    def tensor(shape, bound):
        values = rng.integers(-limit, limit + 1, shape).astype(dtype)
        return QuantizedTensor(values, float(np.float32(bound / limit)))

    shapes = [(width, 2)] + [(width, width)] * (depth - 1) + [(3, width)]
    layers = []
    for index, (out, fan_in) in enumerate(shapes):
        bound = 0.3 if index == 0 else np.sqrt(6 / fan_in) / (30 if index < depth else 4)
        layers.append(Layer(tensor((out, fan_in), bound), tensor((out,), 0.1)))
    return Network(tuple(layers))


def random_packet(seed, *, width=48, height=32, boxes=None, name="object", labelled=True, validation=False):
    """A frame with a random background and, for each box, a random residual."""
    rng = np.random.default_rng(seed)
    if boxes is None:
        boxes = []
        for _ in range(rng.integers(0, 4)):
            x0, y0 = rng.integers(0, width - 10), rng.integers(0, height - 10)
            boxes.append((x0, y0, x0 + rng.integers(4, width - x0), y0 + rng.integers(4, height - y0)))
    labels = tuple(Box(*map(float, b), name) for b in boxes)
    objects = tuple(
        ObjectPatch(i, 0.3, random_network(rng, *OBJECTS[rng.integers(len(OBJECTS))], np.int16))
        for i in range(len(labels))
    )
    background = random_network(rng, *BACKGROUNDS[rng.integers(len(BACKGROUNDS))])
    digest = rng.bytes(32)
    return Packet("siren", width, height, labelled, validation, labels, digest, background, objects)


def constant_network(rng, width, depth, rgb, texture):
    """A SIREN whose output is ``rgb`` plus waves of height ``texture``."""
    network = random_network(rng, width, depth, np.int16)
    layers = list(network.layers)
    values = layers[-1].weight.values
    limit = np.iinfo(np.int16).max
    bias = np.round(np.asarray(rgb) * limit).astype(np.int16)
    layers[-1] = Layer(QuantizedTensor(values, texture / limit), QuantizedTensor(bias, 1 / limit))
    return Network(tuple(layers))


def scene_packet(seed, *, side=64, validation=False):
    """A grey scene with one or two red rectangles, easy for a detector to learn."""
    rng = np.random.default_rng([seed, 7])
    boxes, colours = [], []
    for half in rng.permutation(2)[: rng.integers(1, 3)]:
        w, h = rng.integers(20, 30, 2)
        x0, y0 = half * 32 + rng.integers(0, 32 - w + 1), rng.integers(2, side - h - 2)
        boxes.append(Box(float(x0), float(y0), float(x0 + w), float(y0 + h)))
        colours.append((0.45, -0.4, -0.4))
    background = constant_network(rng, 12, 2, (0.0, 0.0, 0.0), 0.03)
    objects = tuple(
        ObjectPatch(i, 1.0, constant_network(rng, 8 if i else 6, 2, colours[i], 0.02))
        for i in range(len(boxes))
    )
    return Packet("siren", side, side, True, validation, tuple(boxes), rng.bytes(32), background, objects)


def original_of(packet, name="frame", identity=None):
    """The frame that a packet stands for: its decoded pixels as a PNG, with its boxes."""
    pixels = to_bytes(compose_packets([packet]))[0].permute(1, 2, 0).numpy()
    image = encode_png(np.ascontiguousarray(pixels))
    return Frame(name, image, packet.width, packet.height, True, packet.boxes, identity, packet.validation)
