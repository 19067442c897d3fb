import pytest

from common.datasets import open_source
from common.errors import BoxError, DatasetError, ImageError

HEADER = "frame,x0,y0,w,h"


@pytest.fixture
def listing(frames, text):
    def make(*rows, header=HEADER):
        frames("img", "a.jpg", "b.jpg", "c d.jpg")
        return text("list.csv", "\n".join([header, *rows]) + "\n")

    return make


def test_rows_of_one_frame_are_its_boxes(listing, boxes_of):
    source = open_source(listing("img/b.jpg,1,2,10,20", "img/a.jpg,0,0,5.5,5", "img/b.jpg,3,4,10,20"))
    assert source.format == "csv"
    read = list(source)
    assert [frame.name for frame in read] == ["b", "a"]
    assert boxes_of(read[0]) == [(1, 2, 11, 22, "object"), (3, 4, 13, 24, "object")]
    assert boxes_of(read[1]) == [(0, 0, 5.5, 5, "object")]


@pytest.mark.parametrize("column", ["name", "class"])
def test_class_column(listing, boxes_of, column):
    source = open_source(listing("img/a.jpg,0,0,5,5,car", "img/b.jpg,0,0,5,5,", header=f"{HEADER},{column}"))
    assert source.class_names == ("car", "object")
    assert [boxes_of(frame)[0][4] for frame in source] == ["car", "object"]


def test_quoted_path_and_columns_in_another_order(listing, boxes_of):
    (frame,) = open_source(listing('10,20,1,2,"img/c d.jpg"', header="w,h,x0,y0,frame"))
    assert boxes_of(frame) == [(1, 2, 11, 22, "object")]


def test_frames_of_one_stem_are_named_by_their_paths(frames, text):
    frames("x/img", "1.jpg", "2.jpg")
    frames("y/img", "1.jpg")
    rows = ["x/img/1.jpg,0,0,5,5", "x/img/2.jpg,0,0,5,5", "y/img/1.jpg,0,0,5,5"]
    source = open_source(text("list.csv", "\n".join([HEADER, *rows]) + "\n"))
    assert [frame.name for frame in source] == ["x_img_1", "2", "y_img_1"]


def test_row_without_numbers_is_a_true_negative(listing):
    (frame,) = open_source(listing("img/a.jpg,,,,"))
    assert frame.labelled
    assert frame.boxes == ()


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("frame,x,y,w,h", "lacks the column 'x0'"),
        ("img/a.jpg,1,2,3,4", "lacks the column 'frame'"),
        (f"{HEADER},nmae", "unknown column 'nmae'"),
        (f"{HEADER},w", "a column twice"),
        (f"{HEADER},name,class", "both a name and a class"),
    ],
)
def test_bad_header_is_named(listing, header, what):
    with pytest.raises(DatasetError, match=what):
        open_source(listing(header=header))


@pytest.mark.parametrize(
    "row", ["img/a.jpg,1,2,3", "img/a.jpg,1,2,3,4,5", "img/a.jpg,1,2,3,x", "img/a.jpg,1,,3,4", ",1,2,3,4"]
)
def test_bad_row_is_named(listing, row):
    with pytest.raises(DatasetError, match=r"list\.csv line 3"):
        open_source(listing("img/a.jpg,1,2,3,4", row))


@pytest.mark.parametrize("numbers", ["nan,1,5,5", "1,1,0,5", "1,1,5,-5", "1,1,inf,5"])
def test_box_that_is_no_region_is_named(listing, numbers):
    with pytest.raises(BoxError, match=r"list\.csv line 2"):
        open_source(listing(f"img/a.jpg,{numbers}"))


def test_no_row_is_no_source(listing):
    with pytest.raises(DatasetError, match="names no frame"):
        open_source(listing())


def test_missing_image_is_named(listing):
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        list(open_source(listing("img/gone.jpg,1,2,3,4")))
