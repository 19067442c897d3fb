"""The ablation: the papers' ways differ in what they should, and every method is one the encoder has."""

import json

import cv2
import numpy as np
import pytest
import torch

import ablation
from common.bitstream import encode_packet
from common.errors import UsageError
from common.frame import Box
from common.images import encode_png
from common.inr.siren import Architecture
from fog_node.encoders.encoder_settings import EncoderSettings
from judge.cache import Cache
from judge.measure import Plan
from judge.papers import WAYS, PaperSizes, mean_quality, measure_frame, object_size, raw_bytes
from tests.conftest import make_photo
from tests.packets import random_packet

SMALL = PaperSizes(Architecture(12, 3), Architecture(8, 3), steps=150)
BOXES = [Box(8, 8, 40, 32), Box(30, 20, 60, 60), Box(32, 22, 58, 58)]


@pytest.fixture(scope="module")
def picture():
    return cv2.GaussianBlur(make_photo(96, 64), (0, 0), 1.5)


@pytest.fixture(scope="module")
def measured(picture):
    return measure_frame(picture, BOXES, SMALL, EncoderSettings(profile="siren"), torch.device("cpu"))


def test_objects_are_sized_by_area_as_the_reference_does():
    sizes = [str(object_size(area)) for area in (1, 1000, 1001, 3000, 3001, 10_000, 10_001, 10**6)]
    assert sizes == ["10x3", "10x3", "15x3", "15x3", "17x5", "17x5", "24x5", "24x5"]


def test_every_way_is_measured_with_the_networks_that_it_stands_for(measured):
    assert tuple(measured) == WAYS
    background, baseline = Architecture(8, 3).parameters, Architecture(12, 3).parameters
    objects = sum(object_size(area).parameters for area in (32 * 24, 30 * 40, 26 * 36))
    assert {way: value["parameters"] for way, value in measured.items()} == {
        "BS": baseline,
        "BE": background,
        "DE": background + objects,
        "RE": background + objects,
        "QRE": background + objects,
    }
    assert all(len(value["object_psnr_db"]) == 3 for value in measured.values())


def test_objects_are_sharper_with_networks_of_their_own_and_the_background_is_the_same(measured):
    inside = {way: np.mean(value["object_psnr_db"]) for way, value in measured.items()}
    assert min(inside["DE"], inside["RE"], inside["QRE"]) > inside["BE"] + 2
    outside = {way: value["background_psnr_db"] for way, value in measured.items()}
    assert outside["DE"] == outside["RE"] == outside["BE"]
    assert outside["QRE"] == pytest.approx(outside["RE"], abs=0.5)


def test_a_quantized_background_saves_bytes(measured):
    assert measured["QRE"]["bytes"] < measured["RE"]["bytes"]
    assert measured["RE"]["raw_bytes"] - measured["QRE"]["raw_bytes"] == 8 * 8 * 2 + 3 * 8
    assert all(value["bytes"] < value["raw_bytes"] for value in measured.values())


def test_raw_bytes_are_fixed_width_integers_and_a_step_a_tensor():
    packet = random_packet(1, boxes=0, sizes=((6, 2),))
    shape = [(10, 2, 2), (10, 1, 2), *[(10, 10, 1), (10, 1, 2)] * 2, (3, 10, 1), (3, 1, 2)]
    integers = sum(rows * columns * width for rows, columns, width in shape)
    empty = raw_bytes(packet) - integers - 4 * len(shape)
    assert 60 < empty < 200, "what is left is the packet around its network"
    assert empty < len(encode_packet(packet))


def test_pruned_networks_are_fitted_too(picture):
    pruned = PaperSizes(SMALL.baseline, SMALL.background, steps=60, pruning="dynamic")
    found = measure_frame(picture, BOXES[:1], pruned, EncoderSettings(profile="siren"), torch.device("cpu"))
    plain = measure_frame(
        picture,
        BOXES[:1],
        PaperSizes(SMALL.baseline, SMALL.background, steps=60),
        EncoderSettings(profile="siren"),
        torch.device("cpu"),
    )
    weights = 8 * 2 + 2 * 8 * 8 + 3 * 8
    assert plain["BE"]["zeros"] < 0.05 * weights
    assert found["BE"]["zeros"] >= 0.19 * weights, "the second round zeroes a fifth at least"


def test_a_frame_without_boxes_has_no_object_quality(picture):
    found = measure_frame(picture, [], SMALL, EncoderSettings(profile="siren"), torch.device("cpu"))
    assert found["RE"]["object_psnr_db"] == []
    assert found["RE"]["bytes"] == found["BE"]["bytes"]
    assert mean_quality([found["RE"]])["object_psnr_db"] is None


@pytest.mark.parametrize("name", ablation.METHODS)
def test_every_method_is_a_setting_of_the_encoder_and_another_one_than_the_others(name, tmp_path):
    plans = {m: ablation.with_changes(Plan(Cache(tmp_path)), c) for m, c in ablation.METHODS.items()}
    same = [other for other, plan in plans.items() if plan.settings == plans[name].settings]
    assert same == [name]


def test_sizes_are_width_times_depth():
    assert ablation.architecture("42x5") == Architecture(42, 5)
    for wrong in ("42", "ax5", "1x2x3"):
        with pytest.raises(UsageError, match="no network size"):
            ablation.architecture(wrong)


def test_the_command_prints_both_tables_and_writes_its_files(tmp_path, capsys):
    (tmp_path / "1.png").write_bytes(encode_png(make_photo(64, 40)))
    (tmp_path / "frames.csv").write_text("frame,x0,y0,w,h\n1.png,10,10,20,20\n")
    arguments = [
        *(str(tmp_path / "frames.csv"), "--every", "1", "--steps", "15", "--methods", "papers"),
        *("--background", "6x3", "--baseline", "8x3", "--cache", str(tmp_path / "cache")),
        *("--out", str(tmp_path / "out"), "--json"),
    ]
    assert ablation.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["way"], row["pruning"]) for row in report["papers"]] == [
        (way, pruning) for pruning in ablation.PRUNINGS for way in WAYS
    ]
    assert list(json.loads((tmp_path / "out/ablation.json").read_text())["per_frame"]) == [
        "papers, pruning none",
        "papers, pruning dynamic",
    ]
    assert (tmp_path / "out/ablation.png").read_bytes().startswith(b"\x89PNG")
    rows = [{"method": "m", "frames": 2, "on_target": 1, "seconds": 3.0, **mean_quality([MADE])}]
    text = ablation.table(report | {"encoder": rows})
    assert "QRE" in text
    assert "1/2" in text


MADE = {"bytes": 10, "raw_bytes": 20, "background_psnr_db": 28.0, "object_psnr_db": [33.0]}
