import subprocess
import sys

import pytest

from common.datasets import FORMATS, find_format, open_source
from common.datasets.source import natural_key
from common.errors import DatasetError


@pytest.fixture
def named(frames, text):
    """A CSV of two frames with the classes car and truck."""
    frames("img", "a.jpg", "b.jpg")
    return text("list.csv", "frame,x0,y0,w,h,name\nimg/a.jpg,0,0,5,5,car\nimg/b.jpg,0,0,5,5,truck\n")


def test_missing_path(tmp_path):
    for format in (None, "folder"):
        with pytest.raises(DatasetError, match="there is no"):
            open_source(tmp_path / "nowhere", format=format)


def test_unknown_format_has_a_hint(tmp_path):
    with pytest.raises(DatasetError, match="did you mean 'folder'"):
        open_source(tmp_path, format="foldr")
    with pytest.raises(DatasetError, match="known formats: csv"):
        open_source(tmp_path, format="zzz")


def test_folder_of_sources_names_one(frames, tmp_path):
    frames("one/img", "1.jpg")
    with pytest.raises(DatasetError, match=r"several sources; .*one"):
        open_source(tmp_path)


def test_what_is_no_source_lists_the_layouts(tmp_path, text):
    for path in (tmp_path, text("notes.txt", "hello")):
        with pytest.raises(DatasetError, match="must be one of: a CSV"):
            find_format(path)


@pytest.mark.parametrize("format", FORMATS)
def test_every_reader_refuses_an_empty_folder(tmp_path, format):
    with pytest.raises(DatasetError):
        open_source(tmp_path, format=format)


def test_class_outside_the_deployment_is_refused(named):
    source = open_source(named, classes=["car", "bus"])
    assert source.class_names == ("car", "bus")
    with pytest.raises(DatasetError, match=r"b\.jpg: class 'truck' is not one of car, bus"):
        list(source)


def test_class_can_be_mapped(named, boxes_of):
    source = open_source(named, classes=["car", "bus"], class_map={"truck": "bus"})
    assert [boxes_of(frame)[0][4] for frame in source] == ["car", "bus"]
    assert open_source(named, class_map={"truck": "car"}).class_names == ("car",)


def test_last_frames_of_each_block_are_validation(frames):
    folder = frames("shots", *(f"{n}.jpg" for n in range(10)))
    marks = [frame.validation for frame in open_source(folder, block=5, held_out=2)]
    assert marks == [False, False, False, True, True] * 2
    assert not any(frame.validation for frame in open_source(folder))
    assert not any(frame.validation for frame in open_source(folder, block=5, held_out=0))


def test_frames_are_read_lazily(frames, jpeg):
    folder = frames("shots", "1.jpg", "2.jpg")
    iterator = iter(open_source(folder))
    next(iterator)
    (folder / "2.jpg").write_bytes(jpeg + b"changed")
    assert next(iterator).image.endswith(b"changed")


def test_max_frames(frames):
    folder = frames("shots", "1.jpg", "2.jpg", "3.jpg")
    source = open_source(folder, max_frames=2)
    assert len(source) == len(list(source)) == 2


@pytest.mark.parametrize("bad", [{"max_frames": 0}, {"block": 0}, {"held_out": 101}, {"split": "test"}])
def test_impossible_options_are_refused(frames, bad):
    with pytest.raises(DatasetError):
        open_source(frames("shots", "1.jpg"), **bad)


def test_natural_order():
    names = ["img10.jpg", "img9.jpg", "10.jpg", "9.jpg", "a.jpg", "1_2.jpg", "1_10.jpg"]
    expected = ["1_2.jpg", "1_10.jpg", "9.jpg", "10.jpg", "a.jpg", "img9.jpg", "img10.jpg"]
    assert sorted(names, key=natural_key) == expected


def test_readers_import_no_torch():
    code = "import sys, common.datasets, common.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
