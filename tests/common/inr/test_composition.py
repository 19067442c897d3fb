"""Composition: every pixel is its networks' value, whatever the batch, the chunk or the resolution."""

import dataclasses

import numpy as np
import pytest
import torch

from common.bitstream import Layer, Network, Packet, QuantizedTensor, label_box
from common.bitstream.fields import LARGEST_REAL
from common.frame import Box
from common.inr.compose import Canvas, owners, to_bytes
from common.inr.decode import DeviceError, compose_packets, resolve_device
from tests.packets import random_network, random_packet


def network_value(network, x, y):
    """RGB of one quantized network at (x, y), float64, straight from the packet."""
    value = np.array([x, y], np.float64)
    for index, layer in enumerate(network.layers):
        weight = layer.weight.values.astype(np.float64) * np.float32(layer.weight.scale)
        bias = layer.bias.values.astype(np.float64) * np.float32(layer.bias.scale)
        value = weight @ value + bias
        if index < network.depth:
            value = np.sin(network.w0 * value)
    return value


def pixel_value(packet, cx, cy):
    """RGB at the point (cx, cy) in coded pixels, unclamped: background + residual of the owner."""
    value = (
        network_value(packet.background, 2 * cx / packet.width - 1, 2 * cy / packet.height - 1) * 0.5 + 0.5
    )
    covering = []
    for item in packet.objects:
        x0, y0, x1, y1 = packet.boxes[item.box].region(packet.width, packet.height)
        if x0 <= cx < x1 and y0 <= cy < y1:
            covering.append(((x1 - x0) * (y1 - y0), -item.box, item, (x0, y0, x1, y1)))
    if covering:
        *_, item, (x0, y0, x1, y1) = min(covering, key=lambda c: c[:2])
        local = 2 * (cx - x0) / (x1 - x0) - 1, 2 * (cy - y0) / (y1 - y0) - 1
        value = value + network_value(item.content, *local) * np.float32(item.residual_scale)
    return value


@pytest.mark.parametrize("size", [None, (24, 32), (17, 40), (96, 128)])
@pytest.mark.parametrize("seed", [1, 5])
def test_pixels_are_their_networks_within_a_hundredth_of_a_grey_level(seed, size):
    packet = random_packet(seed, boxes=4)
    height, width = size or (packet.height, packet.width)
    pixels = compose_packets([packet], size)[0].permute(1, 2, 0).numpy()
    for v in range(0, height, 3):
        for u in range(0, width, 3):
            expected = pixel_value(
                packet, (u + 0.5) * packet.width / width, (v + 0.5) * packet.height / height
            )
            assert np.abs(pixels[v, u] - expected).max() * 255 < 0.01, (u, v)


def test_pixels_do_not_depend_on_batch_or_chunk():
    packets = [random_packet(seed, boxes=seed % 4, sizes=((6, 2), (8, 2), (5, 3))) for seed in range(7)]
    together = compose_packets(packets)
    for chunk in (1, 3, 16):
        assert torch.equal(compose_packets(packets, chunk=chunk), together)
    for index, packet in enumerate(packets):
        assert torch.equal(compose_packets([packet])[0], together[index])
    backwards = compose_packets(packets[::-1])
    assert torch.equal(backwards.flip(0), together)


def test_without_objects_only_the_background_is_decoded():
    packet = random_packet(1, boxes=2)
    bare = dataclasses.replace(packet, objects=())
    assert torch.equal(compose_packets([packet], objects=False), compose_packets([bare]))
    assert not torch.equal(compose_packets([packet]), compose_packets([bare]))


def overlapping(first, second):
    rng = np.random.default_rng(0)
    boxes = tuple(label_box(Box(*edges), 64, 48) for edges in (first, second))
    base = random_packet(2, boxes=2)
    return dataclasses.replace(base, boxes=boxes, background=random_network(rng, 4, 1))


def test_the_smallest_box_owns_a_shared_pixel():
    packet = overlapping((0, 0, 40, 40), (20, 20, 30, 30))
    small = dataclasses.replace(packet, objects=packet.objects[1:])
    assert torch.equal(
        compose_packets([packet])[..., 20:30, 20:30], compose_packets([small])[..., 20:30, 20:30]
    )


def test_the_later_of_equal_boxes_owns_a_shared_pixel():
    packet = overlapping((10, 10, 30, 30), (20, 10, 40, 30))
    later = dataclasses.replace(packet, objects=packet.objects[1:])
    assert torch.equal(
        compose_packets([packet])[..., 10:30, 20:30], compose_packets([later])[..., 10:30, 20:30]
    )


def test_owners_of_the_encoder_are_those_of_the_decoder():
    regions = [(0, 0, 40, 40), (20, 20, 30, 30), (10, 10, 30, 30), (20, 10, 40, 30), (20, 20, 30, 30)]
    owner = owners(regions, 48, 64)
    for y in range(0, 48, 2):
        for x in range(0, 64, 2):
            inside = [i for i, (x0, y0, x1, y1) in enumerate(regions) if x0 <= x < x1 and y0 <= y < y1]
            area = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in regions]
            assert owner[y, x] == (min(inside, key=lambda i: (area[i], -i)) if inside else -1)


def test_one_pixel_boxes_and_boxes_too_small_for_the_output():
    box = label_box(Box(10.2, 10.2, 10.6, 10.7), 64, 48)
    packet = dataclasses.replace(random_packet(3, boxes=1), boxes=(box,))
    full = compose_packets([packet])
    bare = compose_packets([packet], objects=False)
    assert ((full != bare).any(1)[0].nonzero() == torch.tensor([[10, 10]])).all()
    assert torch.equal(compose_packets([packet], (6, 8)), compose_packets([packet], (6, 8), objects=False))


def test_letterbox_keeps_the_fill_outside():
    from common.inr.compose import BackgroundPart, compose
    from common.inr.groups import NetworkGroup

    packet: Packet = random_packet(1, boxes=0)
    stack = NetworkGroup.pack([packet.background]).dequantize()
    canvas = Canvas(40, 40, torch.tensor([[5, 0, 30, 40]]), torch.tensor([[48, 64]]))
    pixels = compose(canvas, [BackgroundPart(stack, torch.tensor([0]))])
    assert torch.equal(pixels[0, :, 5:35], compose_packets([packet], (30, 40))[0])
    assert (to_bytes(pixels)[0, :, :5] == 114).all()
    assert (to_bytes(pixels)[0, :, 35:] == 114).all()


def test_bytes_are_clamped_and_rounded():
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0])
    assert to_bytes(values).tolist() == [0, 0, 0, 1, 255, 255]
    inf = float("inf")
    assert to_bytes(torch.tensor([float("nan"), -inf, inf])).tolist() == [0, 0, 255]
    assert values[0] == -1, "they are left as they were"


def test_the_largest_reals_of_a_packet_give_numbers():
    packet = random_packet(0, boxes=1)
    (patch,) = packet.objects

    def extreme(network):
        layers = tuple(
            Layer(
                QuantizedTensor(x.weight.values, LARGEST_REAL), QuantizedTensor(x.bias.values, LARGEST_REAL)
            )
            for x in network.layers
        )
        return Network(layers, LARGEST_REAL)

    patch = dataclasses.replace(patch, residual_scale=LARGEST_REAL, content=extreme(patch.content))
    packet = dataclasses.replace(packet, background=extreme(packet.background), objects=(patch,))
    assert compose_packets([packet]).isfinite().all()


def test_packets_of_several_sizes_need_one_output_size():
    packets = [random_packet(0), random_packet(0, width=32)]
    with pytest.raises(ValueError, match="one output size"):
        compose_packets(packets)
    assert compose_packets(packets, (48, 64)).shape == (2, 3, 48, 64)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_an_absent_device_is_named_in_one_sentence(name):
    with pytest.raises(DeviceError, match=name):
        resolve_device(name)
