"""What the fuzzer found in label files: one short sentence each."""

import pytest

from common.datasets import open_source
from common.errors import DatasetError, ImageError


def sentence(path, error):
    with pytest.raises(error) as caught:
        list(open_source(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000
    return str(caught.value)


def test_a_name_that_no_file_can_have_is_named(frames, text):
    frames("img", "000.jpg")
    path = text("list.csv", "frame,x0,y0,w,h\nimg/000\0.jpg,1,2,10,8\n")
    assert "cannot read the frame" in sentence(path, (ImageError, DatasetError))


@pytest.mark.parametrize("name", ["sequence", "yolo", "csv", "dac"])
def test_a_very_long_line_is_quoted_in_part(frames, text, tmp_path, name):
    line = "x" * 50_000
    frames("img", "000.jpg")
    if name == "sequence":
        text("groundtruth_rect.txt", line)
        path = tmp_path
    elif name == "dac":
        text("groundtruth.txt", f"000.jpg [1, 2, 3, 4]\n{line}\n")
        path = tmp_path
    elif name == "csv":
        path = text("list.csv", f"frame,x0,y0,w,h\nimg/000.jpg,{line},2,10,8\n")
    else:
        frames("images/train", "000.jpg")
        text("labels/train/000.txt", line)
        path = text("data.yaml", "train: images/train\nnames: [cat]\n")
    sentence(path, DatasetError)


@pytest.mark.parametrize(
    "lines",
    [
        "val: [{}]\nnames: [cat]",
        "train: images\nnames: {{{}: [1]}}",
        "train: [images, {{a: {}}}]\nnames: [c]",
    ],
)
def test_a_very_long_name_in_a_data_file_is_quoted_in_part(frames, text, lines):
    frames("images", "000.jpg")
    sentence(text("data.yaml", lines.format("x" * 50_000)), DatasetError)


def test_a_very_long_path_or_class_is_quoted_in_part(frames, text):
    frames("img", "000.jpg")
    sentence(
        text("list.csv", f"frame,x0,y0,w,h\n{'y/' * 20_000}000.jpg,1,2,10,8\n"), (ImageError, DatasetError)
    )
    sentence(text("list.csv", f"frame,x0,y0,w,h,{'z' * 50_000}\nimg/000.jpg,1,2,10,8,9\n"), DatasetError)
