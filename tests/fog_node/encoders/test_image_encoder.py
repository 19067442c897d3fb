"""Profiles of classic files: on target at few bytes, by crops or a better background, the cheaper."""

import dataclasses
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from common.bitstream import ImageFile, decode_packet
from common.bitstream.image_files import CODECS, QUALITIES, image_file, image_pixels
from common.frame import Box, Frame
from common.images import encode_png
from common.quality import psnr
from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.packet_quality import packet_quality
from tests.conftest import make_photo

SETTINGS = EncoderSettings(profile="jpeg", width=96, background_psnr=30, object_psnr=36, time_budget_s=60)
BOX = Box(20, 10, 60, 40, "car")


def frame_of(rgb, *boxes):
    height, width = rgb.shape[:2]
    return Frame("a", encode_png(rgb), width, height, True, boxes)


def encoded(frame, **changes):
    (result,) = FrameEncoder(SETTINGS.model_copy(update=changes), "cpu", 1).encode([frame])
    assert isinstance(result, EncodedFrame)
    background, objects = packet_quality(frame, result.packet)
    assert background == result.background_psnr_db
    assert objects == result.object_psnr_db
    return result, decode_packet(result.packet)


def softened(seed=0):
    """A natural-like picture whose colours survive at half size, as those of photographs do."""
    return cv2.GaussianBlur(make_photo(96, 64, seed), (0, 0), 1.5)


@pytest.fixture(scope="module")
def picture():
    return softened()


@pytest.mark.parametrize("codec", CODECS)
def test_background_and_box_reach_their_targets_in_files_of_the_codec(codec, picture):
    result, packet = encoded(frame_of(picture, BOX), profile=codec)
    assert result.reached_target
    assert packet.profile == codec
    contents = [packet.background, *(patch.content for patch in packet.objects)]
    assert len(contents) == 2
    assert all(isinstance(c, ImageFile) and c.codec == codec for c in contents)
    assert result.background_psnr_db < 30 + 1.5, "no more quality than asked for"
    assert result.object_psnr_db[0] < 36 + 1.5


def test_fewer_bytes_than_the_cheapest_of_all_whole_frames(picture):
    frame = frame_of(picture, BOX)
    result, _ = encoded(frame)
    sizes = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, optimize=True)
        error = np.array(Image.open(file)).astype(float) - picture
        inside = error[10:40, 20:60]
        if 10 * np.log10(255**2 / np.square(inside).mean()) >= 36:
            sizes.append(len(file.getvalue()))
    assert len(result.packet) < 0.8 * min(sizes)


@pytest.mark.parametrize("codec", CODECS)
def test_the_search_finds_the_cheapest_file_on_target_or_nearly(codec):
    for seed in range(3):
        rgb = softened(seed)
        _, packet = encoded(frame_of(rgb), profile=codec, background_psnr=34)
        files = [image_file(rgb, codec, quality) for quality in QUALITIES[codec]]
        good = [len(f.data) for f in files if psnr(image_pixels(f, 64, 96), rgb) >= 34]
        assert len(packet.background.data) <= 1.01 * min(good)


def test_a_box_that_the_background_serves_gets_no_crop(picture):
    flat = picture.copy()
    flat[:30, :40] = 90
    result, packet = encoded(frame_of(flat, Box(2, 2, 36, 26), BOX))
    assert result.reached_target
    assert [patch.box for patch in packet.objects] == [1]


def test_one_better_background_instead_of_many_crops(picture):
    boxes = [Box(x, y, x + 24, y + 16) for y in range(0, 64, 16) for x in range(0, 96, 24)]
    result, packet = encoded(frame_of(picture, *boxes[1:]), object_psnr=31)
    assert result.reached_target
    assert packet.objects == ()


def test_overlapping_nested_and_equal_boxes_reach_the_target(picture):
    boxes = [Box(10, 10, 50, 50), Box(30, 20, 70, 60), Box(15, 15, 25, 25), Box(15, 15, 25, 25)]
    result, packet = encoded(frame_of(cv2.resize(picture, (384, 256)), *boxes), width=384)
    assert result.reached_target
    assert [patch.box for patch in packet.objects] == [0, 1, 3], "box 2 owns no pixel"


def test_a_box_over_the_whole_frame_and_a_frame_of_one_pixel(picture):
    whole, _ = encoded(frame_of(picture, Box(-1, -1, 97, 65)))
    assert whole.reached_target
    assert whole.background_psnr_db is None
    dot, packet = encoded(frame_of(np.full((1, 1, 3), 7, np.uint8), Box(0, 0, 1, 1)), width=16)
    assert dot.reached_target
    assert (packet.width, packet.height) == (16, 16)


def test_an_unreachable_target_gives_the_best_there_is_and_says_so(picture):
    result, _ = encoded(frame_of(picture, BOX), background_psnr=60, object_psnr=60)
    assert not result.reached_target
    assert result.background_psnr_db > 35


def test_a_box_of_fine_colours_keeps_them_at_full_size(picture):
    rgb = picture.copy()
    rgb[10:40, 20:60] = make_photo(96, 64)[10:40, 20:60]
    result, packet = encoded(frame_of(rgb, BOX))
    assert result.reached_target
    (patch,) = packet.objects
    assert patch.content.data[158 + 11] == 0x11, "the JPEG's first component is sampled as the others"
    assert not encoded(frame_of(rgb, BOX), profile="webp")[0].reached_target


def test_a_deadline_ends_the_search_on_target_at_more_bytes(picture):
    frame = frame_of(picture, BOX)
    hurried, _ = encoded(frame, time_budget_s=1e-6)
    assert hurried.reached_target
    assert len(hurried.packet) >= len(encoded(frame)[0].packet)


def test_frames_are_independent_of_their_batch(picture):
    frames = [frame_of(picture, BOX), frame_of(softened(1), BOX)]
    together = FrameEncoder(SETTINGS, "cpu", 1).encode(frames)
    alone = [encoded(frame)[0] for frame in frames]
    assert [r.packet for r in together if isinstance(r, EncodedFrame)] == [r.packet for r in alone]
    unlabelled = dataclasses.replace(frames[0], labelled=False, boxes=())
    assert encoded(unlabelled)[1].objects == ()


def test_noise_at_high_quality_is_encoded():
    noise = np.random.default_rng(0).integers(0, 2, (64, 96, 3), dtype=np.uint8) * 255
    for quality in (95, 100):
        file = image_file(noise, "jpeg", quality, full_colour=True)
        assert psnr(image_pixels(file, 64, 96), noise) > 30
    big = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    result, _ = encoded(frame_of(big), width=640, background_psnr=34)
    assert result.reached_target


def test_boxes_whose_crops_a_decoder_would_refuse_reach_their_targets(picture, monkeypatch):
    frame = frame_of(picture, BOX)
    assert encoded(frame)[1].objects
    monkeypatch.setattr("common.inr.raster.MAX_LAYERS", 0)
    monkeypatch.setattr("common.inr.raster.SMALL_FRAME", 40 * 30 - 1)
    result, packet = encoded(frame)
    assert result.reached_target
    assert packet.objects == ()
