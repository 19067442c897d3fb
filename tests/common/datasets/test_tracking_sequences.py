import pytest

from common.datasets import open_source
from common.errors import BoxError, DatasetError


@pytest.fixture
def sequence(frames, text, tmp_path):
    def make(ground_truth, names=("0001.jpg", "0002.jpg", "0003.jpg"), file="groundtruth.txt"):
        frames("seq/img", *names)
        text(f"seq/{file}", ground_truth)
        return tmp_path / "seq"

    return make


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
def test_one_based_corner_becomes_zero_based(sequence, boxes_of, separator):
    line = separator.join(["11", "21", "30", "40"])
    source = open_source(sequence(f"{line}\n" * 3))
    assert source.format == "otb"
    assert [boxes_of(frame) for frame in source] == [[(10, 20, 40, 60, "object")]] * 3


def test_windows_line_ends_a_byte_order_mark_and_no_last_newline(sequence, boxes_of):
    source = open_source(sequence("\ufeff1,1,5,5\r\n2,2,5,5\r\n3,3,5,5"))
    assert [boxes_of(frame)[0][0] for frame in source] == [0, 1, 2]


def test_frames_are_the_original_bytes_in_natural_order(sequence, jpeg):
    source = open_source(sequence("1,1,5,5\n" * 3, names=("10.jpg", "9.jpg", "100.jpg")))
    read = list(source)
    assert [frame.name for frame in read] == ["9", "10", "100"]
    assert all(frame.image == jpeg for frame in read)
    assert {(frame.width, frame.height) for frame in read} == {(96, 72)}


@pytest.mark.parametrize("absent", ["NaN,NaN,NaN,NaN", "nan nan nan nan", "0,0,0,0", "10,10,0,5"])
def test_absent_object_is_a_labelled_frame_without_boxes(sequence, boxes_of, absent):
    read = list(open_source(sequence(f"1,1,5,5\n{absent}\n1,1,5,5\n")))
    assert [frame.labelled for frame in read] == [True] * 3
    assert [len(frame.boxes) for frame in read] == [1, 0, 1]


def test_several_files_are_several_objects(sequence, text, boxes_of):
    path = sequence("1,1,5,5\n1,1,5,5\nNaN,NaN,NaN,NaN\n", file="groundtruth_rect.1.txt")
    text("seq/groundtruth_rect.2.txt", "11,11,5,5\n" * 3)
    assert [len(frame.boxes) for frame in open_source(path)] == [2, 2, 1]


def test_frames_beyond_the_ground_truth_are_unlabelled(sequence):
    read = list(open_source(sequence("1,1,5,5\n")))
    assert [frame.labelled for frame in read] == [True, False, False]


def test_empty_ground_truth_leaves_all_unlabelled(sequence):
    assert not any(frame.labelled for frame in open_source(sequence("")))


def test_more_lines_than_frames_cannot_be_paired(sequence):
    with pytest.raises(DatasetError, match=r"4 lines .* 3 images"):
        open_source(sequence("1,1,5,5\n" * 4))


def test_box_half_outside_is_kept_and_wholly_outside_is_dropped(sequence, boxes_of):
    source = open_source(sequence("-9,-9,20,20\n97,1,5,5\n96,72,5,5\n"))
    read = list(source)
    assert boxes_of(read[0]) == [(-10, -10, 10, 10, "object")]
    assert read[1].labelled
    assert read[1].boxes == ()
    assert read[2].boxes[0].region(96, 72) == (95, 71, 96, 72)
    assert source.skipped == {"boxes outside the frame": 1}


@pytest.mark.parametrize("line", ["1,1,5", "1,1,5,5,5", "a,b,c,d", "", "1,1,5,5 car"])
def test_bad_line_is_named(sequence, line):
    with pytest.raises(DatasetError, match=r"groundtruth.txt line 2 .* not x,y,w,h"):
        open_source(sequence(f"1,1,5,5\n{line}\n1,1,5,5\n"))


@pytest.mark.parametrize("line", ["1,1,-5,5", "1,1,5,-1", "1,1,inf,5", "inf,1,5,5"])
def test_impossible_size_is_named(sequence, line):
    with pytest.raises(BoxError, match="line 2"):
        open_source(sequence(f"1,1,5,5\n{line}\n1,1,5,5\n"))


def test_named_format_needs_its_ground_truth(frames):
    with pytest.raises(DatasetError, match=r"no groundtruth\*\.txt"):
        open_source(frames("seq/img", "1.jpg").parent, format="otb")


@pytest.mark.parametrize("alias", ["uav123", "uavdt", "dtb70"])
def test_benchmarks_of_the_same_layout_have_their_names(sequence, alias):
    assert len(open_source(sequence("1,1,5,5\n" * 3), format=alias)) == 3
