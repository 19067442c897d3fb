"""Clips of moving crops and their boxes; recordings shared out among edges; scenario errors."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.config import parse_settings
from common.datasets import open_source
from common.errors import ConfigError, DatasetError, UsageError
from common.frame import Box, Frame
from common.images import decode_image, encode_jpeg, encode_png
from simulations.loopback_scenario import (
    SHIPPED,
    ClipSettings,
    LoopbackScenario,
    Waypoint,
    load_loopback_scenario,
)
from simulations.moving_crops import crop_at, crop_boxes, make_clip, photograph
from simulations.recordings import made_recordings, read_recordings, write_source

PATH = (
    Waypoint(x=405, y=640, width=810),
    Waypoint(x=300, y=560, width=600),
    Waypoint(x=790, y=10, width=500),
)


@pytest.fixture(scope="module")
def scenario() -> LoopbackScenario:
    return load_loopback_scenario()


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A grey photograph with one white rectangle at x 200..300, y 150..250."""
    image = np.full((400, 640, 3), 60, np.uint8)
    image[150:250, 200:300] = 255
    path = tmp_path / "marked.png"
    path.write_bytes(encode_png(image))
    return path


@pytest.mark.parametrize("moment", np.linspace(0, 1, 37).tolist())
def test_a_crop_is_16_to_9_and_never_leaves_the_photograph(moment: float) -> None:
    x0, y0, x1, y1 = crop_at(PATH, moment, 810, 1080)
    assert 0 <= x0 < x1 <= 810
    assert 0 <= y0 < y1 <= 1080
    assert (x1 - x0) / (y1 - y0) == pytest.approx(16 / 9, rel=0.01)


def test_a_crop_passes_its_waypoints() -> None:
    assert crop_at(PATH, 0, 810, 1080)[:3:2] == (0, 810)
    assert crop_at(PATH, 0.5, 810, 1080)[:3:2] == (0, 600)
    assert crop_at(PATH, 1, 810, 1080) == (310, 0, 810, 281)


def test_a_crop_moves_smoothly() -> None:
    lefts = [crop_at(PATH, m, 5000, 5000)[0] for m in np.linspace(0, 1, 101)]
    assert max(abs(np.diff(lefts, 2))) <= 3


def test_a_path_of_one_waypoint_stands_still() -> None:
    assert crop_at(PATH[:1], 0.0, 810, 1080) == crop_at(PATH[:1], 1.0, 810, 1080)


def test_boxes_are_shifted_scaled_clipped_and_dropped_when_mostly_outside() -> None:
    boxes = [Box(110, 110, 120, 130, "a"), Box(90, 100, 110, 120, "b"), Box(80, 100, 101, 120, "c")]
    found = crop_boxes(boxes, (100, 100, 200, 160), 0.5, min_visible=0.5)
    assert found == (Box(5, 5, 10, 15, "a"), Box(0, 0, 5, 10, "b"))


def test_the_box_of_every_frame_lies_where_the_object_is(marked: Path) -> None:
    clip = ClipSettings(
        name="m",
        photograph=str(marked),
        boxes=[{"name": "x", "x0": 200, "y0": 150, "x1": 300, "y1": 250}],
        path=[{"x": 320, "y": 200, "width": 640}, {"x": 250, "y": 210, "width": 300}],
    )
    for frame in make_clip(clip, 9, 320, 95, 0.3):
        pixels = decode_image(frame.image)
        assert pixels.shape == (frame.height, frame.width, 3) == (180, 320, 3)
        ys, xs = np.nonzero(pixels[..., 0] > 158)
        (box,) = frame.boxes
        found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert found == pytest.approx([box.x0, box.y0, box.x1, box.y1], abs=1.01)


def test_shipped_clips_hold_labelled_frames_of_both_classes(scenario: LoopbackScenario) -> None:
    found = made_recordings(scenario)
    assert len(found.all_frames) == scenario.frames == 42
    for clip in (0, 1):
        assert all(f.labelled and f.boxes for f in found.clips[clip])
        for frame in found.clips[clip]:
            for box in frame.boxes:
                assert 0 <= box.x0 < box.x1 <= 320
                assert 0 <= box.y0 < box.y1 <= 180
    assert {b.name for f in found.clips[0] for b in f.boxes} == {"bus", "person"}
    assert {b.name for f in found.clips[1] for b in f.boxes} == {"person"}


def test_shipped_boxes_lie_inside_their_photographs(scenario: LoopbackScenario) -> None:
    for clip in scenario.clips:
        height, width = photograph(clip.photograph).shape[:2]
        for box in clip.boxes:
            assert 0 <= box.x0 < box.x1 <= width
            assert 0 <= box.y0 < box.y1 <= height


def test_clips_are_the_same_bytes_each_time(scenario: LoopbackScenario) -> None:
    first, second = (list(make_clip(scenario.clips[0], 3, 96, 90, 0.3)) for _ in range(2))
    assert first == second


def test_each_edge_gets_a_contiguous_part_with_its_end_held_out(scenario: LoopbackScenario) -> None:
    found = made_recordings(scenario)
    names = [f.name for f in found.clips[0]]
    assert [f.name for edge in range(3) for f in found.part(0, edge)] == names
    assert [f.name for f in found.validation(0)] == [names[i] for i in (5, 6, 12, 13, 19, 20)]
    assert found.training_frames(0) == 15


def test_a_missing_photograph_is_one_sentence() -> None:
    with pytest.raises(DatasetError, match="neither a file nor one of ultralytics' assets"):
        photograph("nobody.jpg")


def test_written_sources_are_read_back_as_they_were(tmp_path: Path, scenario: LoopbackScenario) -> None:
    frames = list(make_clip(scenario.clips[0], 3, 96, 90, 0.3))
    frames.append(Frame("empty", frames[0].image, 96, 54, labelled=True))
    path = write_source(tmp_path / "source", frames)
    read = list(open_source(path))
    assert [f.image for f in read] == [f.image for f in frames]
    assert all(f.labelled for f in read)
    for before, after in zip(frames, read, strict=True):
        assert [b.name for b in after.boxes] == [b.name for b in before.boxes]
        for a, b in zip(before.boxes, after.boxes, strict=True):
            assert (b.x0, b.y0, b.x1, b.y1) == pytest.approx((a.x0, a.y0, a.x1, a.y1), abs=2e-4)


def make_sequence(folder: Path, count: int, value: int = 40) -> Path:
    (folder / "img").mkdir(parents=True)
    for i in range(count):
        image = np.full((36, 64, 3), value + i, np.uint8)
        (folder / "img" / f"{i + 1:04d}.jpg").write_bytes(encode_jpeg(image))
    lines = [f"{5 + i},6,20,12" for i in range(count)]
    (folder / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return folder


def changed(scenario: LoopbackScenario, **values: object) -> LoopbackScenario:
    return LoopbackScenario.model_validate({**scenario.model_dump(), **values})


def test_one_source_is_cut_in_two_clips(tmp_path: Path, scenario: LoopbackScenario) -> None:
    path = make_sequence(tmp_path / "a", 40)
    found = read_recordings([str(path)], changed(scenario, edges=2, trainers=1, frames=16))
    names = [[f.name for f in clip] for clip in found.clips]
    assert names[0] == ["0001", "0003", "0006", "0008", "0011", "0013", "0016", "0018"]
    assert names[1][0] == "0021"
    assert found.classes == ("object",)


def test_two_sources_are_the_two_clips(tmp_path: Path, scenario: LoopbackScenario) -> None:
    paths = [str(make_sequence(tmp_path / name, 8, value)) for name, value in (("a", 40), ("b", 140))]
    found = read_recordings(paths, changed(scenario, edges=2, trainers=1, frames=16))
    means = [decode_image(clip[0].image).mean() for clip in found.clips]
    assert means == pytest.approx([40, 140], abs=2)


def test_a_source_without_boxes_is_refused(tmp_path: Path, scenario: LoopbackScenario) -> None:
    path = make_sequence(tmp_path / "a", 20)
    (path / "groundtruth.txt").unlink()
    with pytest.raises(DatasetError, match="no box on its validation frames"):
        read_recordings([str(path / "img")], changed(scenario, edges=2, trainers=1, frames=16))


def test_a_source_that_is_too_short_is_refused(tmp_path: Path, scenario: LoopbackScenario) -> None:
    path = make_sequence(tmp_path / "a", 10)
    with pytest.raises(DatasetError, match="10 frames, fewer than the 16 asked for"):
        read_recordings([str(path)], changed(scenario, edges=2, trainers=1, frames=16))


def test_a_video_is_a_source_of_unlabelled_frames_only(tmp_path: Path, scenario: LoopbackScenario) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 36))
    for i in range(20):
        writer.write(np.full((36, 64, 3), i, np.uint8))
    writer.release()
    with pytest.raises(DatasetError, match="no box on its validation frames"):
        read_recordings([str(path)], changed(scenario, edges=2, trainers=1, frames=16))


def test_three_sources_are_too_many(scenario: LoopbackScenario) -> None:
    with pytest.raises(UsageError, match="one source or two, not 3"):
        read_recordings(["a", "b", "c"], scenario)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("edges: 3", "edges: 1", "bad value for 'edges'"),
        ("edges: 3", "egdes: 3", "unknown key 'egdes' in x.yaml line"),
        ("trainers: 2", "trainers: 4", r"trainers \(4\) must not be more than edges \(3\)"),
        ("frames: 42", "frames: 11", "at least 12 in all"),
        ("imgsz: 160", "imgsz: 150", "multiple of 32"),
        ("name: match", "name: street", "both clips are called 'street'"),
        ("x0: 15, y0: 232, x1: 801", "x0: 15, y0: 232, x1: 5", "a box needs x0 < x1"),
        ("{name: bus,", "{name: car,", "has a box 'car', which is not in classes"),
        ("frames: 42", "frames: many", "bad value for 'frames' in x.yaml line"),
    ],
)
def test_a_wrong_scenario_is_one_sentence(old: str, new: str, sentence: str) -> None:
    text = SHIPPED.read_text()
    assert old in text
    with pytest.raises(ConfigError, match=sentence):
        parse_settings(text.replace(old, new, 1), LoopbackScenario, name="x.yaml")


def test_every_key_of_the_shipped_scenario_has_a_comment() -> None:
    for line in SHIPPED.read_text().splitlines():
        if ":" in line and not line.startswith((" ", "#")):
            assert "#" in line, line
