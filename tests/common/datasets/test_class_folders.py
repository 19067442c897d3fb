"""Images in one folder a class become frames whose one box is the label of the image."""

import numpy as np
import pytest

from common.datasets import find_format, open_source
from common.errors import DatasetError
from common.frame import Box
from common.images import encode_png


def images(folder, count, size=(6, 8)):
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(encode_png(np.full((*size, 3), i, np.uint8)))


@pytest.fixture
def split(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            images(tmp_path / part / name, count)
    return tmp_path


def test_the_split_of_the_folders_is_kept_and_found_by_looking(split):
    assert find_format(split) == "class-folders"
    source = open_source(split)
    frames = list(source)
    assert len(frames) == 10
    assert source.class_names == ("cat", "dog")
    assert all(frame.labelled and len(frame.boxes) == 1 for frame in frames)
    assert frames[0].boxes == (Box(0.0, 0.0, 8.0, 6.0, "cat"),)
    assert [frame.validation for frame in frames] == [False] * 6 + [True] * 4
    assert [frame.boxes[0].name for frame in frames[:6]] == ["cat"] * 3 + ["dog"] * 3
    assert len({frame.name for frame in frames if not frame.validation}) == 6
    assert len(list(open_source(split, split="val"))) == 4
    assert len(list(open_source(split, split="train"))) == 6


def test_without_a_split_the_format_must_be_named_and_every_class_is_held_out_in_part(tmp_path):
    for name in ("a", "b"):
        images(tmp_path / name, 10)
    with pytest.raises(DatasetError, match="several sources"):
        open_source(tmp_path)
    frames = list(open_source(tmp_path, "class-folders", block=10, held_out=2))
    assert [f.name for f in frames if f.validation] == ["a-8", "a-9", "b-8", "b-9"]
    held_out = list(open_source(tmp_path, "class-folders", split="val", block=10, held_out=2))
    assert [f.name for f in held_out] == ["a-8", "a-9", "b-8", "b-9"]


def test_a_folder_without_class_folders_is_one_sentence(tmp_path):
    images(tmp_path / "img", 1)
    with pytest.raises(DatasetError, match="no folders of images, one for each class"):
        open_source(tmp_path / "img", "class-folders")


def test_a_class_that_the_deployment_does_not_know_is_refused(split):
    with pytest.raises(DatasetError, match="'dog'"):
        list(open_source(split, classes=["cat"]))
