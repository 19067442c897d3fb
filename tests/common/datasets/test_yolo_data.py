import pytest

from common.datasets import open_source
from common.errors import BoxError, DatasetError

YAML = "path: .\ntrain: images/train\nval: images/val\nnames: {0: car, 1: bus}\n"


@pytest.fixture
def data(frames, text, tmp_path):
    def make(yaml=YAML, label="1 0.5 0.5 0.25 0.5\n"):
        frames("yolo/images/train", "a.jpg", "b.jpg")
        frames("yolo/images/val", "c.jpg")
        text("yolo/labels/train/a.txt", label)
        text("yolo/labels/train/b.txt", "")
        text("yolo/labels/val/c.txt", "0 0.5 0.5 1 1\n")
        return text("yolo/data.yaml", yaml)

    return make


def test_normalised_boxes_become_pixels(data, boxes_of):
    source = open_source(data())
    assert source.format == "yolo"
    assert source.class_names == ("car", "bus")
    assert boxes_of(next(iter(source))) == [(36, 18, 60, 54, "bus")]


def test_val_frames_carry_the_validation_mark(data):
    assert [(f.name, f.validation) for f in open_source(data())] == [("a", False), ("b", False), ("c", True)]
    assert [f.name for f in open_source(data(), split="train")] == ["a", "b"]
    assert [f.name for f in open_source(data(), split="val")] == ["c"]


def test_names_may_be_a_list_and_the_folder_may_stand_for_its_file(data):
    path = data(YAML.replace("{0: car, 1: bus}", "[car, bus]") + "nc: 2\n")
    assert open_source(path.parent).class_names == ("car", "bus")


def test_empty_or_missing_label_file_is_a_true_negative(data, tmp_path):
    path = data()
    (tmp_path / "yolo/labels/train/a.txt").unlink()
    assert [(f.labelled, len(f.boxes)) for f in open_source(path)] == [(True, 0), (True, 0), (True, 1)]


def test_without_a_labels_folder_frames_are_unlabelled(frames, text):
    frames("yolo/images", "a.jpg")
    path = text("yolo/data.yaml", "train: images\nnames: [car]\n")
    assert [frame.labelled for frame in open_source(path)] == [False]


def test_split_may_be_a_text_file_or_a_list(data, text):
    path = data(YAML.replace("images/train", "[train.txt, images/val]"))
    text("yolo/train.txt", "./images/train/b.jpg\n\nimages/train/a.jpg\n")
    assert [frame.name for frame in open_source(path, split="train")] == ["b", "a", "c"]


def test_image_in_both_splits_is_read_once(data):
    path = data(YAML.replace("val: images/val", "val: images/train"))
    assert [frame.name for frame in open_source(path)] == ["a", "b"]


def test_export_that_says_one_folder_up(data):
    path = data(YAML.replace("path: .\n", "").replace("images/", "../images/"))
    assert len(open_source(path)) == 3


def test_polygon_becomes_the_box_around_it(data, boxes_of):
    path = data(label="0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n")
    assert boxes_of(next(iter(open_source(path)))) == [(24, 18, 72, 54, "car")]


def test_box_half_outside_is_kept(data):
    box = next(iter(open_source(data(label="0 0 0.5 0.5 0.5\n")))).boxes[0]
    assert box.x0 == -24
    assert box.region(96, 72) == (0, 18, 24, 54)


def test_download_entry_is_never_honoured(data, tmp_path):
    mark = tmp_path / "executed"
    path = data(YAML + f"download: |\n  import pathlib; pathlib.Path({str(mark)!r}).touch()\n")
    assert len(list(open_source(path))) == 3
    assert not mark.exists()


def test_yaml_that_constructs_objects_is_refused(data):
    with pytest.raises(DatasetError, match="not valid YAML"):
        open_source(data("names: !!python/object/apply:os.getcwd []\n"))


@pytest.mark.parametrize(
    ("yaml", "what"),
    [
        ("train: images/train\n", "lacks names"),
        ("names: [car]\n", "lacks train and val"),
        ("- a\n", "keys and values"),
        ("names: {a: car}\ntrain: images/train\n", "class numbers"),
        ("names: [car]\nnc: 3\ntrain: images/train\n", "nc: 3"),
        ("names: [car]\ntrain: images/nowhere\n", "images/nowhere', which is not there"),
        ("names: [car]\ntrain: 3\n", "must name a folder"),
    ],
)
def test_bad_data_yaml_is_named(data, yaml, what):
    with pytest.raises(DatasetError, match=what):
        open_source(data(yaml))


@pytest.mark.parametrize(
    "line", ["7 0.5 0.5 0.1 0.1", "0.5 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "car 0.5 0.5 0.1 0.1"]
)
def test_bad_label_is_named(data, line):
    with pytest.raises(DatasetError, match=r"a\.txt line 1"):
        list(open_source(data(label=line)))


@pytest.mark.parametrize(
    "line", ["0 48 36 10 10", "0 0.5 0.5 0 0.1", "0 0.5 0.5 -0.1 0.1", "0 nan 0.5 0.1 0.1"]
)
def test_box_that_is_no_region_is_named(data, line):
    with pytest.raises(BoxError, match=r"a\.txt line 1"):
        list(open_source(data(label=line)))


@pytest.mark.parametrize("label", ["no label", "7 0.5 0.5 0.2 0.2", "0 5 5 1 1"])
def test_unreadable_label_file_stops_or_is_counted(data, label):
    path = data(label=label)
    with pytest.raises((DatasetError, BoxError), match=r"a\.txt line 1"):
        list(open_source(path))
    source = open_source(path, skip_unreadable=True)
    assert [frame.name for frame in source] == ["b", "c"]
    assert source.skipped == {"unreadable labels": 1}


def test_unknown_class_stops_even_where_unreadable_labels_are_skipped(data):
    with pytest.raises(DatasetError, match="class 'bus' is not one of car"):
        list(open_source(data(), classes=["car"], skip_unreadable=True))
