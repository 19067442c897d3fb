"""Packets that are composed at their coded size: who owns a pixel, what a keyframe gives, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.bitstream import ImageFile, Motion, ObjectPatch, Packet, Pyramid, Reference, Update
from common.bitstream.image_files import image_file, image_pixels
from common.errors import KeyframeError, PacketFormatError
from common.frame import Box
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.inr.groups import NetworkGroup
from common.inr.raster import check_work
from common.inr.vector import check_network_work, compose_networks, network_residual
from common.pyramid.decoder import pyramid_pixels
from common.pyramid.model import default_model
from tests.learning_packets import random_network, random_packet
from tests.raster_packets import keyframe_of, labels, picture, pyramid_of, pyramid_packet, reference_packet

GREY = image_file(np.full((32, 48, 3), 90, np.uint8), "webp", 100)


def packet_of(background, boxes=(), contents=(), *, width=48, height=32):
    patches = tuple(ObjectPatch(i, 1.0, content) for i, content in enumerate(contents))
    return Packet("pyramid", width, height, True, False, labels(boxes), bytes(32), background, patches)


def test_a_pixel_belongs_to_the_smallest_box_whatever_fills_it():
    boxes = [(2, 2, 40, 30), (5, 5, 25, 25), (10, 10, 15, 15), (30, 20, 47, 31)]
    rng = np.random.default_rng(0)
    network = random_network(rng, 6, 2, np.int16)
    pyramid = pyramid_of(picture(20, 20) / 255 - 0.5, 20, residual=True)
    file = image_file(picture(5, 5), "webp", 90)
    other = pyramid_of(picture(11, 17) / 255 - 0.5, 20, residual=True)
    image = compose_packets([packet_of(GREY, boxes, [network, pyramid, file, other])])[0]

    expected = torch.from_numpy(image_pixels(GREY, 32, 48)).permute(2, 0, 1) / 255
    base = expected.clone()
    whole = network_residual(NetworkGroup.pack([network]), 1.0, 28, 38)
    expected[:, 2:30, 2:40] += whole
    expected[:, 5:25, 5:25] = base[:, 5:25, 5:25] + pyramid_pixels(pyramid, 20, 20, residual=True)
    expected[:, 10:15, 10:15] = torch.from_numpy(image_pixels(file, 5, 5)).permute(2, 0, 1) / 255
    expected[:, 20:31, 30:47] = base[:, 20:31, 30:47] + pyramid_pixels(other, 11, 17, residual=True)
    assert torch.equal(image, expected)


def test_a_network_adds_what_it_adds_to_a_background_of_networks():
    packet = random_packet(1, boxes=[(3, 4, 31, 25)])
    size = packet.height, packet.width
    plain = compose_networks([packet], size, objects=False)[0]
    (patch,) = packet.objects
    plain[:, 4:25, 3:31] += network_residual(NetworkGroup.pack([patch.content]), patch.residual_scale, 21, 28)
    assert torch.equal(compose_networks([packet], size)[0], plain)


def test_backgrounds_alone_leave_the_objects_out():
    packet = pyramid_packet(0)
    shown = compose_packets([packet], objects=False)
    assert torch.equal(shown, compose_packets([replace(packet, objects=())]))


def test_a_keyframe_gives_its_background_without_its_objects():
    digest, keyframe = keyframe_of(pyramid_packet(0))
    packet = packet_of(Reference(digest))
    shown = compose_packets([packet], keyframes={digest: keyframe})
    assert torch.equal(shown, compose_packets([keyframe], objects=False))


def test_updates_are_added_one_after_the_other():
    digest, keyframe = keyframe_of(pyramid_packet(0))
    update = Update((4, 6, 20, 30), pyramid_of(0.2 * picture(24, 16) / 255, 8, residual=True))
    shown = compose_packets(
        [packet_of(Reference(digest, None, (update, update)))], keyframes={digest: keyframe}
    )
    expected = compose_packets([keyframe], objects=False)
    for _ in range(2):
        expected[0, :, 6:30, 4:20] += pyramid_pixels(update.content, 24, 16, residual=True)
    assert torch.equal(shown, expected)


def test_a_keyframe_that_is_missing_or_refers_itself_or_does_not_fit_is_an_error():
    digest, keyframe = keyframe_of(pyramid_packet(0))
    with pytest.raises(KeyframeError, match="fetch it first"):
        compose_packets([packet_of(Reference(digest))])
    with pytest.raises(KeyframeError, match="itself no keyframe"):
        compose_packets([packet_of(Reference(digest))], keyframes={digest: reference_packet(digest)})
    with pytest.raises(KeyframeError, match="48x32 pixels, the packet 40x32"):
        compose_packets([packet_of(Reference(digest), width=40)], keyframes={digest: keyframe})


@pytest.mark.parametrize(
    "homography",
    [
        (0.0,) * 8,
        (1e38, -1e38, 1e38, 1e38, 1e38, -1e38, 1e38, -1e38),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, -1.0),
        (1.0, 0.0, 1e30, 0.0, 1.0, -1e30, 0.0, 0.0),
    ],
)
def test_absurd_homographies_show_pixels_of_the_keyframe(homography):
    digest, keyframe = keyframe_of(pyramid_packet(0))
    motion = Motion(16, np.full((2, 3, 2), 32767, np.int16))
    for moved in (None, motion):
        packet = packet_of(Reference(digest, homography, (), moved))
        shown = compose_packets([packet], keyframes={digest: keyframe})
        known = compose_packets([keyframe], objects=False)
        assert shown.isfinite().all()
        assert shown.min() >= known.min() - 1e-5
        assert shown.max() <= known.max() + 1e-5


def test_regions_that_cover_the_frame_too_often_are_refused_before_they_are_decoded():
    empty = Pyramid(default_model().id, 50.0, b"")
    side = 2000
    packet = packet_of(empty, [(0, 0, side, side)] * 3, [empty] * 3, width=side, height=side)
    with pytest.raises(PacketFormatError, match="too often to be decoded"):
        compose_packets([packet])
    check_work(packet_of(empty, [(0, 0, side, side)] * 2, [empty] * 2, width=side, height=side))
    thin = packet_of(empty, [(0, 0, 1500, 7)] * 40, [empty] * 40, width=1500, height=1000)
    with pytest.raises(PacketFormatError, match="too often to be decoded"):
        check_work(thin)


def test_networks_that_would_take_minutes_are_refused_before_they_are_evaluated():
    rng = np.random.default_rng(0)
    small, large = random_network(rng, 10, 3, np.int16), random_network(rng, 200, 4, np.int16)
    full = (0, 0, 640, 360)
    hostile = packet_of(small, [full] * 500, [large] * 500, width=640, height=360)
    for background in (small, pyramid_packet(0, width=640, height=360).background):
        with pytest.raises(PacketFormatError, match=r"parameters a pixel, above the limit of 1,048,576"):
            compose_packets([replace(hostile, background=background)])
    assert compose_packets([replace(hostile, width=64, height=48, objects=(), boxes=())]).isfinite().all()


def test_the_largest_networks_of_a_ladder_pass_on_a_large_frame_with_dozens_of_objects():
    rng = np.random.default_rng(0)
    background, patch = random_network(rng, 255, 8, np.int16), random_network(rng, 86, 4, np.int16)
    boxes = [(x, y, x + 800, y + 800) for x in range(0, 3200, 400) for y in range(0, 3200, 400)]
    check_network_work(packet_of(background, boxes, [patch] * len(boxes), width=4095, height=4095))


def test_a_keyframe_with_far_more_pixels_than_the_frame_is_refused():
    digest, keyframe = keyframe_of(packet_of(pyramid_packet(0).background, width=1500, height=1500))
    tiny = packet_of(Reference(digest, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)), width=1, height=1)
    with pytest.raises(KeyframeError, match="1500x1500 pixels, which does not fit a packet of 1x1"):
        compose_packets([tiny], keyframes={digest: keyframe})


def test_a_background_keyframe_of_too_large_networks_is_refused(monkeypatch):
    digest, keyframe = keyframe_of(random_packet(0))
    packet = packet_of(Reference(digest), width=keyframe.width, height=keyframe.height)
    assert len(compose_packets([packet], keyframes={digest: keyframe})) == 1
    monkeypatch.setattr("common.inr.vector.PARAMETERS_PER_PIXEL", 10)
    with pytest.raises(PacketFormatError, match="parameters a pixel"):
        compose_packets([packet], keyframes={digest: keyframe})


def test_neighbours_that_share_a_keyframe_decode_it_once(monkeypatch):
    first, second = keyframe_of(pyramid_packet(0)), keyframe_of(pyramid_packet(5))
    keyframes = dict([first, second])
    packets = [reference_packet(k, i, boxes=()) for i, k in enumerate([first[0]] * 3 + [second[0]] * 2)]
    alone = [compose_packets([packet], keyframes=keyframes)[0] for packet in packets]
    decoded = []

    def counted(content, *arguments, **keys):
        decoded.append(keys["residual"])
        return pyramid_pixels(content, *arguments, **keys)

    monkeypatch.setattr("common.inr.raster.pyramid_pixels", counted)
    together = compose_packets(packets, keyframes=keyframes)
    assert decoded.count(False) == 2
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_small_frames_may_be_crowded():
    boxes = [(x, y, x + 200, y + 150) for x in range(0, 400, 80) for y in range(0, 200, 50)]
    empty = Pyramid(default_model().id, 50.0, b"")
    check_work(packet_of(empty, boxes, [empty] * len(boxes), width=640, height=360))


def test_a_file_of_another_size_than_its_box_is_refused():
    file = image_file(picture(9, 9), "jpeg", 50)
    with pytest.raises(PacketFormatError, match="a region of 10x9 pixels holds a jpeg file of 9x9"):
        compose_packets([packet_of(GREY, [(0, 0, 10, 9)], [file])])


def test_rasters_and_vectors_share_a_batch():
    digest, keyframe = keyframe_of(pyramid_packet(3))
    packets = [
        random_packet(0),
        pyramid_packet(1),
        reference_packet(digest, 2, turned=True),
        random_packet(4),
    ]
    for size in (None, (20, 33), (64, 96)):
        together = compose_packets(packets, size, keyframes={digest: keyframe})
        for image, packet in zip(together, packets, strict=True):
            assert torch.equal(image, compose_packets([packet], size, keyframes={digest: keyframe})[0])


def test_a_raster_is_resized_with_averaging():
    file = image_file(picture(32, 48), "webp", 95)
    assert isinstance(file, ImageFile)
    half = to_bytes(compose_packets([packet_of(file)], (16, 24)))[0].permute(1, 2, 0).float()
    mean = torch.from_numpy(image_pixels(file, 32, 48)).float().view(16, 2, 24, 2, 3).mean((1, 3))
    # Bilinear with averaging looks at twice the area, so edges are a little softer.
    assert (half - mean).abs().mean() < 4


def test_a_box_outside_its_frame_is_an_error_not_a_crash():
    packet = replace(packet_of(GREY, [(0, 0, 5, 5)], [GREY]), boxes=(Box(60.0, 40.0, 70.0, 50.0),))
    with pytest.raises(ValueError, match="outside its frame"):
        compose_packets([packet])
