"""The benchmark of augmentation: both ways show the same views; a report, a plot and a contact sheet."""

import json
import sys
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

import augmentation
from common.bitstream import Packet, encode_packet
from common.bitstream.image_files import image_file
from common.frame import Box
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import decode_views
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.views import draw_view
from decode_then_augment import DecodeThenAugment
from tests.learning_packets import random_packet
from tests.raster_packets import pyramid_packet


def smooth_packet(seed):
    """A slope without detail: however it is resampled, it looks alike."""
    y, x = np.mgrid[:72, :128]
    image = np.stack([40 + x, 60 + y, 200 - x + seed * 3], 2).astype(np.uint8)
    box = Box(30.0, 20.0, 90.0, 60.0)
    return Packet(
        "webp", 128, 72, True, False, (box,), bytes([seed]) * 32, image_file(image, "webp", 100), ()
    )


def test_both_ways_show_the_same_views_with_the_same_boxes():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([smooth_packet(i) for i in range(4)])
    strong = AugmentationSettings(
        flipud=0.5, scale=0.5, translate=0.2, degrees=40, shear=10, perspective=0.001, mosaic=0.5, hsv_h=0,
        hsv_s=0, hsv_v=0,
    )  # fmt: skip
    peer = DecodeThenAugment(TrainingSettings(augmentation=strong))
    for number in range(16):
        view = draw_view(strong, 128, [number], number % 4, np.arange(4))
        ours, theirs = (way(store, [view], 128) for way in (decode_views, peer))
        torch.testing.assert_close(ours["bboxes"], theirs["bboxes"])
        difference = (ours["img"].int() - theirs["img"].int()).abs()
        # At edges, where frame meets grey, half a pixel of difference is all there is.
        assert float((difference > 6).float().mean()) < 0.05
        assert float(difference.median()) <= 2


def test_a_view_in_its_letterbox_is_not_warped():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([smooth_packet(0)])
    peer = DecodeThenAugment(TrainingSettings(augmentation=augmentation.NO_AUGMENTATION))
    view = draw_view(augmentation.NO_AUGMENTATION, 64, [0], 0, np.arange(1))
    ours, theirs = (way(store, [replace(view)], 64)["img"].int() for way in (decode_views, peer))
    assert int((ours - theirs).abs().max()) <= 2


def test_the_benchmark_reports_every_profile_and_kind(tmp_path, monkeypatch, capsys):
    made = {
        "networks": [random_packet(i, boxes=[(4, 4, 20, 20)]) for i in range(3)],
        "pyramids": [pyramid_packet(i) for i in range(3)],
    }
    for name, packets in made.items():
        (tmp_path / name).mkdir()
        for number, packet in enumerate(packets):
            (tmp_path / name / f"{number}.rinr").write_bytes(encode_packet(packet))
    folders = [str(tmp_path / name) for name in made]
    options = ["--rounds", "1", "--imgsz", "64", "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr(sys, "argv", ["augmentation.py", *folders, *options])
    augmentation.main()
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out" / "augmentation.json").read_text())
    assert list(report["profiles"]) == ["networks (siren)", "pyramids (pyramid)"]
    for rows in report["profiles"].values():
        assert set(rows) == set(augmentation.KINDS)
        assert all(value > 0 for row in rows.values() for value in row.values())
    for name in ("augmentation.png", "augmented.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.width > 100
