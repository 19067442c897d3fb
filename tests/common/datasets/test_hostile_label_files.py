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
