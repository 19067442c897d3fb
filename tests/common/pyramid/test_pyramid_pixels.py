"""Coded pyramids decode to their pixels: for ever the same, alone or among others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.bitstream import decode_packet, encode_packet
from common.frame import content_digest
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.pyramid.decoder import decode_sparse, pyramid_pixels
from common.pyramid.synthesis import pixels_of_sparse
from common.quality import psnr
from tests.raster_packets import picture, pyramid_of

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.rinr")), ids=lambda p: p.stem)
def test_golden_packets_decode_to_their_pixels(path):
    data = path.read_bytes()
    packet = decode_packet(data)
    keyframes = {content_digest(p.read_bytes()): decode_packet(p.read_bytes()) for p in GOLDEN.glob("*.rinr")}
    pixels = to_bytes(compose_packets([packet], keyframes=keyframes))[0].permute(1, 2, 0).numpy()
    stored = np.load(path.with_suffix(".npy"))
    difference = np.abs(pixels.astype(int) - stored)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001
    assert encode_packet(packet) == data


def test_there_are_golden_packets():
    assert {path.stem for path in GOLDEN.glob("*.rinr")} == {"odd-sized", "dependant", "keyframe"}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [(33, 50), (7, 40), (64, 64), (1, 1), (1, 23)])
def test_pixels_are_the_same_alone_and_among_others(residual, size):
    pyramids = [pyramid_of(picture(*size, i) / 255 - 0.5, 8 + 20 * i, residual=residual) for i in range(5)]
    decoded = [decode_sparse(p, *size, residual=residual) for p in pyramids]
    model = decoded[0][0]
    order = [3, 1, 4, 1, 0, 2]
    together = pixels_of_sparse(
        [decoded[i][1] for i in order], model, [pyramids[i].step for i in order], residual
    )
    for place, index in enumerate(order):
        alone = pyramid_pixels(pyramids[index], *size, residual=residual)
        assert torch.equal(together[place], alone)


def test_pixels_do_not_depend_on_the_number_of_threads():
    pyramid = pyramid_of(picture(120, 200) / 255 - 0.5, 20, residual=False)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(pyramid_pixels(pyramid, 120, 200, residual=False))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_small_step_gives_the_picture_back():
    image = picture(50, 61)
    pyramid = pyramid_of(image / 255 - 0.5, 2, residual=False)
    shown = to_bytes(pyramid_pixels(pyramid, 50, 61, residual=False) + 0.5).permute(1, 2, 0).numpy()
    assert psnr(shown, image) > 48


def test_the_filter_brings_a_coarse_picture_closer():
    image = picture(96, 128)
    target = torch.from_numpy(image).permute(2, 0, 1) / 255 - 0.5
    pyramid = pyramid_of(image / 255 - 0.5, 60, residual=False)
    model, grids = decode_sparse(pyramid, 96, 128, residual=False)
    filtered = pixels_of_sparse([grids], model, [pyramid.step], False)[0]
    plain = pixels_of_sparse([grids], model, [pyramid.step], False, filtered=False)[0]
    assert (filtered - target).square().mean() < (plain - target).square().mean()
