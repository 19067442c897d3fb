import pytest

from common.datasets import open_source
from common.errors import BoxError, DatasetError


@pytest.fixture
def folder(frames, text, tmp_path):
    def make(ground_truth, names=("7.jpg", "10.jpg")):
        frames("dac/img", *names)
        text("dac/groundtruth.txt", ground_truth)
        return tmp_path / "dac"

    return make


def test_box_is_xmin_xmax_ymin_ymax_from_zero(folder, boxes_of):
    source = open_source(folder("007.jpg [10, 30, 20, 60]\n010.jpg [0,5,0,6]\n"))
    assert source.format == "dac-sdc"
    read = list(source)
    assert [frame.name for frame in read] == ["7", "10"]
    assert boxes_of(read[0]) == [(10, 20, 30, 60, "object")]
    assert boxes_of(read[1]) == [(0, 0, 5, 6, "object")]


def test_image_without_a_line_is_unlabelled_and_a_line_without_an_image_counted(folder):
    source = open_source(folder("007.jpg [10, 30, 20, 60]\n999.jpg [0,5,0,6]\n"))
    assert [frame.labelled for frame in source] == [True, False]
    assert source.skipped == {"labels without an image": 1}


def test_two_lines_of_a_frame_are_two_boxes(folder):
    first = next(iter(open_source(folder("007.jpg [10, 30, 20, 60]\n\n7.jpg [0,5,0,6]\n"))))
    assert len(first.boxes) == 2


@pytest.mark.parametrize("line", ["010.jpg 1 2 3 4", "010.jpg [1, 2, 3]", "010.jpg [1, 2, 3, x]"])
def test_bad_line_is_named(folder, line):
    with pytest.raises(DatasetError, match="line 2"):
        open_source(folder(f"007.jpg [10, 30, 20, 60]\n{line}\n"))


@pytest.mark.parametrize("numbers", ["5, 5, 1, 2", "9, 5, 1, 2", "nan, 5, 1, 2", "1, inf, 1, 2"])
def test_box_that_is_no_region_is_named(folder, numbers):
    with pytest.raises(BoxError, match="line 2"):
        open_source(folder(f"007.jpg [10, 30, 20, 60]\n010.jpg [{numbers}]\n"))
