import copy
import dataclasses
import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BoxError
from common.frame import Box, Frame, content_digest, in_validation_block

EDGE = st.floats(-200, 300)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_box_edges_are_finite(bad, place):
    edges = [0.0, 0.0, 5.0, 5.0]
    edges[place] = bad
    with pytest.raises(BoxError, match="finite"):
        Box(*edges)


@pytest.mark.parametrize("edges", [(0, 0, 0, 5), (0, 0, 5, 0), (5, 0, 0, 5), (0, 5, 5, 0)])
def test_box_has_a_positive_size(edges):
    with pytest.raises(BoxError, match="positive"):
        Box(*edges)


@pytest.mark.parametrize(
    ("edges", "region"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40)),
        ((10.2, 20.9, 30.1, 40.0), (10, 20, 31, 40)),
        ((-5, -5, 3, 3), (0, 0, 3, 3)),
        ((90, 70, 200, 200), (90, 70, 96, 72)),
        ((10.4, 10.4, 10.6, 10.6), (10, 10, 11, 11)),
        ((-5, 0, 0, 5), None),
        ((96, 0, 100, 5), None),
        ((0, 72, 5, 80), None),
        ((-0.5, 0, 0, 5), None),
    ],
)
def test_region_is_floored_ceiled_and_clipped(edges, region):
    assert Box(*edges).region(96, 72) == region


@given(x0=EDGE, y0=EDGE, w=st.floats(0.01, 300), h=st.floats(0.01, 300))
def test_region_lies_in_the_image_and_covers_the_box(x0, y0, w, h):
    box = Box(x0, y0, x0 + w, y0 + h)
    region = box.region(96, 72)
    if region is None:
        assert box.x1 <= 0 or box.y1 <= 0 or box.x0 >= 96 or box.y0 >= 72
        return
    left, top, right, bottom = region
    assert 0 <= left < right <= 96
    assert 0 <= top < bottom <= 72
    assert left <= max(0, box.x0)
    assert right >= min(96, box.x1)


def test_scaling_keeps_the_class():
    assert Box(1, 2, 3, 4, "car").scaled(2, 10) == Box(2, 20, 6, 40, "car")


def test_default_class_is_object():
    assert Box(0, 0, 1, 1).name == "object"


def test_digest_is_sha256_of_the_image_bytes():
    assert Frame("a", b"bytes", 4, 4).digest == content_digest(b"bytes") == hashlib.sha256(b"bytes").digest()


def test_a_frame_made_with_another_image_has_its_own_digest():
    frame = Frame("a", b"first", 8, 8)
    known = frame.digest
    assert dataclasses.replace(frame, name="b").digest == known
    assert dataclasses.replace(frame, image=b"second").digest == content_digest(b"second")
    assert copy.copy(frame).digest == known
    assert frame == Frame("a", b"first", 8, 8), "whether it was hashed is no part of what a frame is"


def test_frames_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Frame("a", b"", 4, 4).name = "b"


def test_validation_is_the_last_twenty_of_every_hundred():
    marks = [number for number in range(300) if in_validation_block(number)]
    assert marks == [*range(80, 100), *range(180, 200), *range(280, 300)]
    assert in_validation_block(2**64 - 1, block=4, held_out=1)
