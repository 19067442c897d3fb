"""Every real sequence, read whole: counts, sizes and boxes as its authors publish them."""

import csv

import cv2
import numpy as np
import pytest

from common.datasets import open_source
from common.images import decode_image

SOURCES = {
    "dac_sdc": ("dac-sdc", 300, {(640, 360)}, 300),
    "uav123/boat5": ("otb", 169, {(1280, 720)}, 169),
    "uav123/building5": ("otb", 161, {(1280, 720)}, 161),
    "uav123/wakeboard7": ("otb", 67, {(1280, 720)}, 67),
    "uavdt/S0601": ("otb", 82, {(1024, 540)}, 82),
    "dtb70/Surfing06": ("otb", 106, {(1280, 720)}, 106),
    "otb100/DragonBaby": ("otb", 113, {(640, 360)}, 113),
    "otb100/MotorRolling": ("otb", 164, {(640, 360)}, 164),
    "otb100/Skiing": ("otb", 81, {(640, 360)}, 81),
    "otb100/Crossing": ("otb", 120, {(360, 240)}, 120),
    "otb100/Jogging": ("otb", 307, {(352, 288)}, 614),
    "voc/bccd": ("voc", 120, {(640, 480)}, 1657),
    "voc/cats_drone_vehicle": ("voc", 120, {(640, 640)}, 641),
    "eval_frames.csv": ("csv", 36, None, 37),
}


@pytest.mark.parametrize("name", SOURCES)
def test_source_is_read_whole(real_data, name):
    layout, count, sizes, boxes = SOURCES[name]
    source = open_source(real_data / name)
    read = list(source)
    assert source.format == layout
    assert len(source) == len(read) == count
    assert all(frame.labelled for frame in read)
    assert sum(len(frame.boxes) for frame in read) == boxes
    assert not source.skipped
    if sizes is not None:
        assert {(frame.width, frame.height) for frame in read} == sizes


def test_boxes_agree_with_the_published_zero_based_list(real_data):
    path = real_data / "eval_frames.csv"
    published: dict[str, list[tuple[float, ...]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            box = tuple(float(row[key]) for key in ("x0", "y0", "w", "h"))
            published.setdefault(row["frame"], []).append(box)
    folders = {frame.split("/img/")[0] for frame in published}
    found = {}
    for folder in folders:
        for frame in open_source(real_data / folder):
            key = f"{folder}/img/{frame.name}.jpg"
            found[key] = [(b.x0, b.y0, b.x1 - b.x0, b.y1 - b.y0) for b in frame.boxes]
    for frame, boxes in published.items():
        assert np.allclose(found[frame], boxes), frame


@pytest.mark.parametrize("name", SOURCES)
def test_real_frames_decode_as_opencv_does(real_data, name):
    for frame in list(open_source(real_data / name))[::40]:
        expected = cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(decode_image(frame.image), expected)
