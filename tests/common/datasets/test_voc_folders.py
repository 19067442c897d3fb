import pytest

from common.datasets import open_source
from common.errors import BoxError, DatasetError


def annotation(*objects, size=(96, 72)):
    items = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for name, a, b, c, d in objects
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation><filename>elsewhere/a.jpg</filename>{stated}{items}</annotation>"


@pytest.fixture
def folder(frames, text, tmp_path):
    def make(xml, images="img", annotations="annotations"):
        frames(f"voc/{images}", "a.jpg")
        text(f"voc/{annotations}/a.xml", xml)
        return tmp_path / "voc"

    return make


@pytest.mark.parametrize(("images", "annotations"), [("img", "annotations"), ("JPEGImages", "Annotations")])
def test_pixels_count_from_one_and_include_the_last(folder, boxes_of, images, annotations):
    source = open_source(folder(annotation(("car", 1, 1, 96, 72), ("bus", 5, 6, 5, 6)), images, annotations))
    assert source.format == "voc"
    assert source.class_names == ("bus", "car")
    (frame,) = source
    assert boxes_of(frame) == [(0, 0, 96, 72, "car"), (4, 5, 5, 6, "bus")]


def test_no_object_is_a_true_negative_and_no_file_unlabelled(folder, frames):
    path = folder(annotation())
    frames("voc/img", "b.jpg")
    assert [(frame.labelled, frame.boxes) for frame in open_source(path)] == [(True, ()), (False, ())]


def test_annotation_without_image_is_counted(folder, text):
    path = folder(annotation())
    text("voc/annotations/gone.xml", annotation())
    source = open_source(path)
    assert len(list(source)) == 1
    assert source.skipped == {"labels without an image": 1}


def test_zero_based_files_reach_one_pixel_outside(folder):
    (frame,) = open_source(folder(annotation(("car", 0, 0, 10, 10))))
    assert frame.boxes[0].region(96, 72) == (0, 0, 10, 10)


def test_size_may_be_missing_or_zero(folder):
    assert len(list(open_source(folder(annotation(("car", 1, 1, 5, 5), size=None))))) == 1
    assert len(list(open_source(folder(annotation(("car", 1, 1, 5, 5), size=(0, 0)))))) == 1


def test_annotation_of_another_size_is_refused(folder):
    with pytest.raises(DatasetError, match=r"a\.xml describes an image of 192x144 .* 96x72"):
        list(open_source(folder(annotation(("car", 1, 1, 5, 5), size=(192, 144)))))


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        ("<annotation>", "no XML"),
        ("", "no XML"),
        ("<html></html>", "no VOC annotation"),
        ("<annotation><object><name>car</name></object></annotation>", "object 1 needs numbers"),
        (annotation(("", 1, 1, 5, 5)), "object 1 has no name"),
        (annotation(("car", 1, 1, 5, "x")), "object 1 needs numbers"),
    ],
)
def test_bad_annotation_is_named(folder, xml, what):
    with pytest.raises(DatasetError, match=rf"a\.xml.* {what}|a\.xml is {what}"):
        list(open_source(folder(xml)))


@pytest.mark.parametrize("edges", [(10, 1, 5, 5), (1, 10, 5, 5), ("nan", 1, 5, 5), (1, 1, "inf", 5)])
def test_box_that_is_no_region_is_named(folder, edges):
    with pytest.raises(BoxError, match=r"a\.xml object 1"):
        list(open_source(folder(annotation(("car", *edges)))))
