"""Packets drawn at random, for tests."""

import numpy as np

from common.bitstream import Layer, Network, ObjectPatch, Packet, QuantizedTensor, label_box
from common.frame import Box, FrameIdentity

DEVICE = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def random_network(rng, width=8, depth=2, first=16, weights=8, biases=16, w0=30.0):
    def tensor(shape, bits):
        top = 2 ** (bits - 1) - 1
        values = rng.integers(-top, top + 1, shape).astype(f"i{bits // 8}")
        return QuantizedTensor(values, float(np.float32(0.3 / top / np.sqrt(max(shape)))))

    layers = []
    for layer in range(depth + 1):
        out, fan_in = (width if layer < depth else 3), (width if layer else 2)
        bits = weights if layer else first
        layers.append(Layer(tensor((out, fan_in), bits), tensor((out,), biases)))
    return Network(tuple(layers), w0)


def random_packet(
    seed=0, *, boxes=2, width=64, height=48, identity=True, labelled=True, sizes=((6, 2), (8, 2))
):
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < boxes:
        x0, y0 = rng.uniform(-4, width - 8), rng.uniform(-4, height - 8)
        box = Box(
            x0, y0, x0 + rng.uniform(6, width / 2), y0 + rng.uniform(6, height / 2), f"class {len(found) % 3}"
        )
        found += [kept for kept in [label_box(box, width, height)] if kept is not None]
    objects = tuple(
        ObjectPatch(
            i, float(np.float32(rng.uniform(0.1, 1))), random_network(rng, *sizes[i % len(sizes)], 16, 16)
        )
        for i in range(boxes)
    )
    return Packet(
        profile="siren",
        width=width,
        height=height,
        labelled=labelled,
        validation=bool(rng.integers(2)),
        boxes=tuple(found),
        source_digest=rng.bytes(32),
        background=random_network(rng, 10, 3),
        objects=objects,
        identity=FrameIdentity(DEVICE, int(rng.integers(2**63)), int(rng.integers(2**31)))
        if identity
        else None,
    )
