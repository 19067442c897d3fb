"""Motion fields: what is written comes back, hostile bytes are refused, and pixels move where they say."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.bitstream import Motion, Reference, decode_packet, encode_packet
from common.bitstream.motion_payload import MAX_NODES, decode_motion, encode_motion, node_grid
from common.errors import PacketFormatError
from common.frame import content_digest
from common.inr.decode import compose_packets
from common.inr.raster import between_nodes, warp
from tests.packets import random_packet


def field(rows, columns, spread, seed=0):
    rng = np.random.default_rng(seed)
    return Motion(16, rng.integers(-spread, spread + 1, (rows, columns, 2)).astype(np.int16))


def still(rows, columns, spacing=16):
    return Motion(spacing, np.zeros((rows, columns, 2), np.int16))


@pytest.mark.parametrize("spread", [0, 1, 9, 4000])
def test_a_field_comes_back(spread):
    motion = field(*node_grid(100, 70, 16), spread)
    again = decode_motion(encode_motion(motion), 100, 70)
    assert again.spacing == motion.spacing
    assert np.array_equal(again.vectors, motion.vectors)


def test_a_smooth_field_costs_little():
    ramp = np.stack(np.meshgrid(np.arange(40), np.arange(23)), 2).astype(np.int16)
    assert len(encode_motion(Motion(16, ramp))) < 60
    assert len(encode_motion(still(23, 40))) == 3


def test_a_field_travels_in_a_packet():
    keyframe = random_packet(1, boxes=0)
    data = encode_packet(keyframe)
    motion = field(*node_grid(keyframe.width, keyframe.height, 16), 5)
    background = Reference(content_digest(data), None, (), motion)
    packet = decode_packet(encode_packet(dataclasses.replace(keyframe, background=background)))
    assert np.array_equal(packet.background.motion.vectors, motion.vectors)
    pixels = compose_packets([packet], keyframes={content_digest(data): keyframe})
    assert pixels.shape == (1, 3, keyframe.height, keyframe.width)


@pytest.mark.parametrize(
    "motion",
    [
        Motion(7, np.zeros((2, 2, 2), np.int16)),
        Motion(16, np.zeros((2, 2), np.int16)),
        Motion(8, np.zeros((129, 128, 2), np.int16)),
        Motion(16, np.full((1, 1, 2), 20_000, np.int16)),
    ],
)
def test_a_field_out_of_bounds_is_not_written(motion):
    with pytest.raises(PacketFormatError, match="motion field"):
        encode_motion(motion)


def test_a_short_payload_does_not_ask_for_a_large_field():
    assert node_grid(4095, 4095, 8)[0] ** 2 > MAX_NODES
    with pytest.raises(PacketFormatError, match="above the limit"):
        decode_motion(bytes([0, 0, 0]), 4095, 4095)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_field_or_a_typed_error(data):
    try:
        motion = decode_motion(data, 100, 70)
    except PacketFormatError:
        return
    assert motion.vectors.shape == (*node_grid(100, 70, motion.spacing), 2)


def test_vectors_are_quarter_pixels_of_the_keyframe_to_the_right_and_down():
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    motion = still(2, 3)
    motion.vectors[...] = (8, -4)
    moved = warp(image, None, (32, 48), motion)
    assert torch.allclose(moved[:, 1:, :46], image[:, :31, 2:], atol=1e-5)


def test_a_field_at_rest_changes_nothing():
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(warp(image, None, (20, 30), still(2, 2)), image, atol=1e-5)


def test_vectors_between_nodes_are_interpolated_and_repeated_beyond_the_outer_ones():
    vectors = torch.tensor([[[0.0, 4.0]], [[0.0, 0.0]]], dtype=torch.float64)
    right, down = between_nodes(vectors, 16, (16, 32))
    assert not down.any()
    assert right[0, 0] == right[9, 7] == 0
    assert right[0, 31] == 4
    middle = (right[0, 15] + right[0, 16]) / 2
    assert abs(float(middle) - 2) < 1e-9
