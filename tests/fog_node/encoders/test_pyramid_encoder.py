"""Profile pyramid: every region lands just above its target, whatever the picture and its boxes."""

import dataclasses

import numpy as np
import pytest
import torch

from common.bitstream import Pyramid, decode_packet
from common.errors import ResidualInrError
from common.frame import Box, Frame, FrameIdentity
from common.images import encode_png
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.pyramid.coder import decode_grids
from common.pyramid.decoder import pyramid_pixels
from common.pyramid.model import ModelError, default_model
from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.packet_quality import packet_quality
from fog_node.encoders.pyramid_encoder import psnr_of
from fog_node.encoders.pyramid_fit import LARGEST_STEP, RegionFit
from tests.packets import DEVICE
from tests.raster_packets import picture

SETTINGS = EncoderSettings(profile="pyramid", width=96, background_psnr=30, object_psnr=36, time_budget_s=60)
PICTURE = picture(64, 96)


def frame_of(rgb, *boxes, **marks):
    height, width = rgb.shape[:2]
    return Frame("a", encode_png(rgb), width, height, True, boxes, **marks)


def encoded(frame, **changes):
    (result,) = FrameEncoder(SETTINGS.model_copy(update=changes), "cpu", 1).encode([frame])
    assert isinstance(result, EncodedFrame), result
    background, objects = packet_quality(frame, result.packet)
    assert background == result.background_psnr_db
    assert objects == result.object_psnr_db
    return result, decode_packet(result.packet)


@pytest.mark.parametrize(("background", "object_"), [(26, 32), (30, 36), (36, 42)])
def test_background_and_boxes_land_just_above_their_targets(background, object_):
    boxes = (Box(20, 10, 60, 40, "car"), Box(70, 30, 95, 60, "bus"))
    result, packet = encoded(frame_of(PICTURE, *boxes), background_psnr=background, object_psnr=object_)
    assert result.reached_target
    assert packet.profile == "pyramid"
    assert isinstance(packet.background, Pyramid)
    # One integer more is a visible part of so small a picture.
    assert background <= result.background_psnr_db < background + 0.5
    assert [patch.box for patch in packet.objects] == [0, 1]
    assert all(isinstance(patch.content, Pyramid) for patch in packet.objects)
    assert all(object_ <= db < object_ + 0.6 for db in result.object_psnr_db)


def test_more_quality_takes_more_bytes():
    sizes = [len(encoded(frame_of(PICTURE), background_psnr=db)[0].packet) for db in (26, 30, 34, 38)]
    assert sizes == sorted(set(sizes))


def test_overlapping_boxes_reach_their_targets():
    boxes = [Box(10, 10, 70, 55), Box(30, 20, 50, 40), Box(45, 30, 90, 60), Box(30, 20, 50, 40)]
    result, packet = encoded(frame_of(PICTURE, *boxes))
    assert result.reached_target
    # Of two equal boxes one owns all their pixels.
    assert [patch.box for patch in packet.objects] == [0, 2, 3]


def test_a_box_that_smaller_ones_cover_reaches_its_target_by_them():
    boxes = [Box(20, 10, 60, 40), Box(20, 10, 40, 40), Box(40, 10, 60, 30), Box(40, 20, 60, 40)]
    result, packet = encoded(frame_of(PICTURE, *boxes), background_psnr=26, object_psnr=40)
    assert result.reached_target
    assert [patch.box for patch in packet.objects] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(6))
def test_boxes_at_random_reach_their_targets(seed):
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(6):
        x, y = rng.uniform(0, 70), rng.uniform(0, 45)
        boxes.append(Box(x, y, x + rng.uniform(8, 40), y + rng.uniform(8, 30)))
    result, _ = encoded(frame_of(picture(64, 96, seed), *boxes))
    assert result.reached_target, result.object_psnr_db


@pytest.mark.parametrize(
    "box",
    [
        Box(0, 0, 96, 64),
        Box(-50, -50, 500, 500),
        Box(40, 30, 41, 31),
        Box(0, 12, 96, 13),
        Box(95.5, 0, 96, 64),
    ],
    ids=["frame", "beyond", "pixel", "row", "sliver"],
)
def test_a_box_of_any_shape_reaches_its_target(box):
    result, _ = encoded(frame_of(PICTURE, box))
    assert result.reached_target
    assert result.object_psnr_db[0] >= 36


@pytest.mark.parametrize("size", [(1, 16), (3, 40), (16, 16), (64, 17), (37, 91)])
def test_frames_of_any_shape_reach_their_target(size):
    height, width = size
    result, packet = encoded(frame_of(picture(height, width)), width=width)
    assert result.reached_target
    assert (packet.height, packet.width) == size


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_a_flat_picture_takes_next_to_nothing(grey):
    flat = np.full((64, 96, 3), grey, np.uint8)
    result, packet = encoded(frame_of(flat, Box(10, 10, 40, 40)))
    assert result.reached_target
    assert len(packet.background.data) < 40


def test_a_target_that_cannot_be_reached_gives_the_best_there_is_and_says_so():
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    result, _ = encoded(frame_of(noise, Box(4, 4, 30, 30)), width=48, background_psnr=60, object_psnr=60)
    assert not result.reached_target
    assert result.background_psnr_db > 45


def test_a_frame_that_a_coarse_step_satisfies_stops_at_the_largest():
    nearly = np.full((64, 96, 3), 128, np.uint8)
    nearly[::2] += 2
    _, packet = encoded(frame_of(nearly), background_psnr=20)
    assert packet.background.step == LARGEST_STEP


def test_a_box_on_target_already_gets_no_object():
    _, packet = encoded(frame_of(PICTURE, Box(20, 10, 60, 40)), background_psnr=40, object_psnr=30)
    assert packet.objects == ()


def test_a_frame_is_encoded_alike_whatever_came_before_it_from_other_devices():
    encoder = FrameEncoder(SETTINGS, "cpu", 1)
    other = frame_of(picture(64, 96, 4), identity=FrameIdentity(DEVICE, 1, 1))
    mine = frame_of(PICTURE, Box(20, 10, 60, 40))
    (alone,) = FrameEncoder(SETTINGS, "cpu", 1).encode([mine])
    encoder.encode([other])
    (after,) = encoder.encode([mine])
    assert after.packet == alone.packet


def test_what_the_fit_shows_is_what_a_decoder_gets():
    target = torch.from_numpy(PICTURE).permute(2, 0, 1).float() / 255 - 0.5
    model = default_model()
    fit = RegionFit(target, model, residual=False).to_target(psnr_of(PICTURE, 0.5), 30, 90.0)
    assert fit.reached
    assert torch.equal(pyramid_pixels(fit.pyramid, 64, 96, residual=False), fit.pixels)
    shown = to_bytes(fit.pixels + 0.5).permute(1, 2, 0).numpy()
    assert fit.psnr_db == psnr_of(PICTURE, 0.5)(fit.pixels)
    assert shown.shape == PICTURE.shape


@pytest.mark.parametrize("first_step", [1.0, 90.0, 2000.0])
def test_the_search_reaches_its_target_from_anywhere(first_step):
    target = torch.from_numpy(PICTURE).permute(2, 0, 1).float() / 255 - 0.5
    fit = RegionFit(target, default_model(), residual=False)
    found = fit.to_target(psnr_of(PICTURE, 0.5), 32, first_step)
    assert found.reached
    assert found.psnr_db < 32.6


def test_integers_are_chosen_by_rate_and_distortion():
    """Near the target quality, plain rounding takes more bytes."""
    from common.pyramid.coder import encode_grids
    from common.pyramid.synthesis import GREYS, pixels_of_grids
    from common.pyramid.wavelet import analyse, from_colours
    from fog_node.encoders.pyramid_fit import dead_zone_grids

    target = torch.from_numpy(PICTURE).permute(2, 0, 1).float() / 255 - 0.5
    measure = psnr_of(PICTURE, 0.5)
    model = default_model()
    found = RegionFit(target, model, residual=False).to_target(measure, 30, 90.0)
    low, details = analyse(from_colours(target * GREYS, inverse=True))
    exact = [tuple(grid.numpy() for grid in level) for level in details]
    plain = []
    for step in np.geomspace(found.pyramid.step / 2, found.pyramid.step * 2, 25):
        step = float(np.float32(step))
        grids = dead_zone_grids(low.numpy(), exact, step)
        if measure(pixels_of_grids(grids, model, step, False)) >= 30:
            plain.append(len(encode_grids(grids, model, step, False)))
    assert len(found.pyramid.data) < min(plain)


def test_the_packet_names_the_model_that_it_needs(tmp_path):
    _, packet = encoded(frame_of(PICTURE))
    assert packet.background.model == default_model().id
    grids = decode_grids(packet.background.data, 64, 96, default_model(), packet.background.step, False)
    assert grids.low.any()
    unknown = dataclasses.replace(packet, background=Pyramid(b"none", 1.0, b""))
    with pytest.raises(ResidualInrError, match="not installed here"):
        compose_packets([unknown])
    (tmp_path / "bad.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelError):
        FrameEncoder(SETTINGS, "cpu", 1, model=tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    "boxes",
    [
        [Box(2 * n, n, 2 * n + 620, n + 340) for n in range(10)] * 2,
        [Box(4 * n, 2 * n, 640 - 4 * n, 360 - 2 * n) for n in range(40)],
    ],
    ids=["shifted", "concentric"],
)
def test_boxes_that_overlap_too_often_for_patches_reach_their_targets(boxes):
    result, packet = encoded(frame_of(picture(360, 640), *boxes), width=640, background_psnr=28)
    assert result.reached_target
    assert packet.objects == ()
    assert min(result.object_psnr_db) < 36.5


def test_boxes_that_keep_spoiling_each_other_reach_their_targets_without_patches(monkeypatch):
    monkeypatch.setattr("fog_node.encoders.pyramid_encoder.OVERLAP_ROUNDS", 1)
    rng = np.random.default_rng(3)
    corners = [(rng.uniform(0, 60), rng.uniform(0, 40)) for _ in range(25)]
    boxes = [Box(x, y, x + rng.uniform(5, 50), y + rng.uniform(5, 40)) for x, y in corners]
    result, packet = encoded(frame_of(PICTURE, *boxes))
    assert result.reached_target
    assert packet.objects == ()


def test_a_referring_frame_whose_patches_would_not_fit_is_sent_as_a_still():
    rgb = picture(360, 640)
    boxes = [Box(2 * n, n, 2 * n + 620, n + 340) for n in range(10)]
    identity = FrameIdentity(DEVICE, 1, 1)
    encoder = FrameEncoder(SETTINGS.model_copy(update={"width": 640, "background_psnr": 28}), "cpu", 1)
    first, second = encoder.encode(
        [frame_of(rgb, identity=identity), frame_of(rgb, *boxes, identity=identity)]
    )
    assert first.reached_target
    assert second.reached_target
    assert second.keyframe is None
    assert isinstance(decode_packet(second.packet).background, Pyramid)


def test_a_search_that_is_overdue_ends_with_its_first_trial(monkeypatch):
    steps = []
    at_step = RegionFit.at_step

    def spy(self, step):
        steps.append(step)
        return at_step(self, step)

    monkeypatch.setattr(RegionFit, "at_step", spy)
    boxes = [Box(10, 10, 70, 55), Box(30, 20, 50, 40), Box(45, 30, 90, 60)]
    result, packet = encoded(frame_of(PICTURE, *boxes), time_budget_s=1e-6)
    assert packet.background.step == np.float32(steps[0])
    assert len(steps) == 1 + len(packet.objects)
    assert result.background_psnr_db > 20
