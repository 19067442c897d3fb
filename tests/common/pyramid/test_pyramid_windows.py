"""Parts of pyramids: what is decoded of a part is what the whole shows there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.learning.raster_frame import render_frames, render_part
from common.learning.raster_store import RasterStore
from common.pyramid.decoder import decode_sparse
from common.pyramid.synthesis import pixels_of_sparse, pixels_of_window
from common.pyramid.wavelet import analyse, synthesise, synthesise_window
from tests.raster_packets import (
    image_packet,
    keyframe_of,
    picture,
    pyramid_of,
    pyramid_packet,
    reference_packet,
)

HEIGHT, WIDTH = 150, 203


@st.composite
def windows(draw, height=HEIGHT, width=WIDTH):
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), data=st.data())
def test_a_part_of_a_synthesis_has_the_bits_of_the_whole(height, width, data):
    low, details = analyse(torch.randn(3, height, width, generator=torch.Generator().manual_seed(height)))
    window = x0, y0, x1, y1 = data.draw(windows(height, width))
    whole = synthesise(low, details)
    assert torch.equal(synthesise_window(low, details, window), whole[:, y0:y1, x0:x1])


@pytest.fixture(scope="module")
def pyramid():
    return pyramid_of(picture(HEIGHT, WIDTH) / 255 - 0.5, 20, residual=False)


@settings(max_examples=25, deadline=None)
@given(window=windows())
def test_a_part_of_a_picture_is_filtered_as_in_the_whole(pyramid, window):
    model, grids = decode_sparse(pyramid, HEIGHT, WIDTH, residual=False)
    assert model.filter
    whole = pixels_of_sparse([grids], model, [pyramid.step], False)[0]
    x0, y0, x1, y1 = window
    part = pixels_of_window(grids, model, pyramid.step, False, window)
    torch.testing.assert_close(part, whole[:, y0:y1, x0:x1], rtol=0, atol=1e-5)


def frames():
    digest, keyframe = keyframe_of(pyramid_packet(0, width=96, height=80))
    boxes = ((4, 5, 40, 37), (20, 30, 90, 70), (25, 33, 45, 50))
    packets = [
        pyramid_packet(1, width=96, height=80, boxes=boxes),
        image_packet("webp", 2, width=96, height=80, boxes=boxes),
        reference_packet(digest, 3, width=96, height=80, boxes=boxes, turned=True),
    ]
    store = RasterStore(torch.device("cpu"))
    return [store.prepare(packet, {digest: keyframe}) for packet in packets]


FRAMES = frames()


@pytest.mark.parametrize("kind", range(len(FRAMES)))
@settings(max_examples=15, deadline=None)
@given(window=windows(80, 96))
def test_a_part_of_a_frame_shows_its_objects_and_their_order(kind, window):
    (whole,) = render_frames([FRAMES[kind]], torch.device("cpu"))
    x0, y0, x1, y1 = window
    part = render_part(FRAMES[kind], window, torch.device("cpu"))
    assert part.shape == whole.shape
    torch.testing.assert_close(part[:, y0:y1, x0:x1], whole[:, y0:y1, x0:x1], rtol=0, atol=1e-5)
