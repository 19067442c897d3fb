"""Packets of small random networks, for tests of learning."""

import numpy as np

from common.bitstream.packet import Layer, Network, ObjectNetwork, Packet, QuantizedTensor
from common.frame import Box

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
        ObjectNetwork(i, 0.3, random_network(rng, *OBJECTS[rng.integers(len(OBJECTS))], np.int16))
        for i in range(len(labels))
    )
    background = random_network(rng, *BACKGROUNDS[rng.integers(len(BACKGROUNDS))])
    digest = rng.bytes(32)
    return Packet("siren", width, height, labelled, validation, labels, digest, background, objects)
