"""Maps of coordinates: every output pixel shows the point that its map names, and nothing else is decoded."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.inr.compose import BackgroundPart, Canvas, ObjectPart, compose, to_bytes
from common.inr.sampled import compose_samples
from common.inr.sampling import PIXELS_AT_A_TIME, Sampling, whole_frames
from common.inr.siren import Architecture, SirenStack
from common.learning.letterbox import letterbox_content


def stack(count, width=10, seed=0):
    return SirenStack.initialise(Architecture(width, 2), count, torch.Generator().manual_seed(seed))


def turned(angle, scale, shift, tilt=0.0):
    """Output to coded coordinates."""
    a, b = math.cos(angle) / scale, math.sin(angle) / scale
    return torch.tensor([[a, b, shift[0]], [-b, a, shift[1]], [tilt, 0, 1]], dtype=torch.float64)


def sampling_of(maps, coded=(48, 64), size=(40, 56)):
    maps = torch.stack(maps)
    frames = torch.tensor([coded] * len(maps))
    return Sampling(*size, len(maps), torch.arange(len(maps)), frames, maps, whole_frames(frames))


def objects_of(regions, pieces, seed=3):
    regions = torch.tensor(regions)
    scales = torch.linspace(0.3, 0.6, len(regions))
    return ObjectPart(
        stack(len(regions), 6, seed), torch.tensor(pieces), regions, scales, torch.arange(len(regions))
    )


@pytest.mark.parametrize("imgsz", [64, 160, 192])
@pytest.mark.parametrize("size", [(360, 640), (33, 47), (123, 321), (64, 64)])
def test_a_letterbox_shows_the_pixels_that_are_decoded_without_a_map(size, imgsz):
    coded = torch.tensor([size, size])
    content = letterbox_content(coded, imgsz)
    background = BackgroundPart(stack(2), torch.arange(2))
    objects = objects_of([(3, 5, 25, 25), (5, 7, 31, 33), (1, 1, 9, 15)], [0, 1, 1])
    plain = compose(Canvas(imgsz, imgsz, content, coded), [background], [objects])
    mapped = compose_samples(Sampling.letterbox(imgsz, imgsz, coded, content), [background], [objects])
    assert torch.equal(to_bytes(plain), to_bytes(mapped))
    torch.testing.assert_close(plain, mapped, rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-math.pi, math.pi),
    scale=st.floats(0.4, 2.5),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    tilt=st.sampled_from([0.0, 0.002]),
)
def test_each_pixel_is_the_network_at_the_point_that_its_map_names(angle, scale, shift, tilt):
    sampling = sampling_of([turned(angle, scale, shift, tilt)])
    net, patch = stack(1), objects_of([(10, 8, 30, 29)], [0])
    image = compose_samples(sampling, [BackgroundPart(net, torch.tensor([0]))], [patch])[0]
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(56) + 0.5, indexing="ij")
    point = torch.stack([x, y, torch.ones_like(x)], -1).double() @ sampling.maps[0].T
    u, v = point[..., 0] / point[..., 2], point[..., 1] / point[..., 2]

    def value(network, x0, y0, x1, y1):
        inner = torch.stack([(u - x0) * 2 / (x1 - x0) - 1, (v - y0) * 2 / (y1 - y0) - 1])
        return network.forward(inner.reshape(1, 2, -1).float())[0].view(3, 40, 56)

    inside = (u >= 0) & (u < 64) & (v >= 0) & (v < 48)
    expected = torch.where(inside, value(net, 0, 0, 64, 48) * 0.5 + 0.5, 114 / 255)
    boxed = (u >= 10) & (u < 30) & (v >= 8) & (v < 29)
    expected = expected + torch.where(boxed, value(patch.stack, 10, 8, 30, 29) * 0.3, 0.0)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-4)


def test_pixels_do_not_depend_on_the_batch_or_the_chunk():
    maps = [turned(0.3 * i, 0.8 + 0.1 * i, (5 * i - 10, 3 * i)) for i in range(4)]
    objects = [(4, 4, 40, 30), (10, 10, 30, 30), (0, 20, 64, 48), (20, 1, 60, 20)]
    nets = stack(4)

    def decode(chosen, chunk=None):
        rows = torch.tensor(chosen)
        part = ObjectPart(
            stack(4, 6).select(rows),
            torch.arange(len(chosen)),
            torch.tensor(objects)[rows],
            torch.full((len(chosen),), 0.5),
            torch.zeros(len(chosen), dtype=torch.int64),
        )
        background = BackgroundPart(nets.select(rows), torch.arange(len(chosen)))
        return compose_samples(sampling_of([maps[i] for i in chosen]), [background], [part], chunk)

    together = decode([0, 1, 2, 3])
    assert torch.equal(together, decode([0, 1, 2, 3], chunk=1))
    for place in range(4):
        assert torch.equal(decode([place])[0], together[place])


def test_the_smallest_box_owns_a_pixel_whatever_the_map():
    sampling = sampling_of([turned(0.5, 1.0, (0.0, -10.0))])
    large, small = (5, 5, 60, 40), (20, 15, 30, 25)
    both = compose_samples(sampling, [], [objects_of([large, small], [0, 0])])
    alone = objects_of([large, small], [0, 0])
    only = replace(
        alone, stack=alone.stack.select(torch.tensor([1])), frames=alone.frames[1:], regions=alone.regions[1:]
    )
    only = replace(only, scales=alone.scales[1:], boxes=alone.boxes[1:])
    (run,) = list(sampling.pixels(only.frames, only.regions.double()))
    assert len(run.flat) > 50
    values = [
        image.permute(0, 2, 3, 1).reshape(-1, 3) for image in (both, compose_samples(sampling, [], [only]))
    ]
    torch.testing.assert_close(values[0][run.flat], values[1][run.flat])


def test_a_clip_hides_the_rest_of_the_frame():
    sampling = sampling_of([turned(0.0, 1.0, (0.0, 0.0))])
    clipped = replace(sampling, clips=torch.tensor([[10.0, 5.0, 20.0, 12.0]], dtype=torch.float64))
    image = compose_samples(clipped, [BackgroundPart(stack(1), torch.tensor([0]))])[0]
    shown = (image != image.new_tensor(clipped.fill)).any(0)
    assert shown[5:12, 10:20].all()
    assert int(shown.sum()) == 70


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_pieces_that_meet_leave_no_gap_and_no_pixel_twice(angle):
    sampling = sampling_of([turned(angle, 1.3, (3.3, -2.1))] * 2)
    halves = torch.tensor([[0.0, 0.0, 21.7, 48.0], [21.7, 0.0, 64.0, 48.0]], dtype=torch.float64)
    split = replace(sampling, count=1, images=torch.zeros(2, dtype=torch.int64), clips=halves)
    whole = next(iter(sampling.pixels(torch.tensor([0]), whole_frames(sampling.coded[:1]))))
    pieces = torch.cat([run.flat for run in split.pixels(torch.arange(2), whole_frames(sampling.coded))])
    assert sorted(pieces.tolist()) == whole.flat.tolist()


def test_large_batches_are_looked_at_in_runs():
    size = math.isqrt(PIXELS_AT_A_TIME // 2)
    coded = torch.tensor([[size, size]] * 3)
    content = letterbox_content(coded, size)
    sampling = Sampling.letterbox(size, size, coded, content)
    runs = list(sampling.pixels(torch.arange(3), whole_frames(coded)))
    assert len(runs) > 1
    assert all(len(run.flat) <= PIXELS_AT_A_TIME for run in runs)
    assert torch.equal(torch.cat([run.flat for run in runs]), torch.arange(3 * size * size))


def test_a_finer_sampling_shows_the_same_view():
    sampling = sampling_of([turned(0.2, 1.1, (2.0, 3.0))])
    fine = sampling.finer(2)
    assert (fine.height, fine.width) == (80, 112)
    for point in ((0.0, 0.0, 1.0), (56.0, 40.0, 1.0)):
        coarse = sampling.maps[0] @ torch.tensor(point, dtype=torch.float64)
        double = torch.tensor([2 * point[0], 2 * point[1], 1.0], dtype=torch.float64)
        torch.testing.assert_close(fine.maps[0] @ double, coarse)


def test_what_lies_behind_the_viewer_is_grey():
    behind = turned(0.0, 1.0, (0.0, 0.0))
    behind[2] = torch.tensor([-0.1, 0.0, 1.0])
    image = compose_samples(sampling_of([behind]), [BackgroundPart(stack(1), torch.tensor([0]))])[0]
    assert torch.equal(image[:, :, 10:], torch.full((3, 40, 46), 114 / 255))
    assert (image[:, :, 0] != 114 / 255).any()


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(-math.pi, math.pi),
    scale=st.floats(0.4, 2.5),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
)
def test_what_a_piece_reads_of_its_frame_holds_every_point_that_it_shows(angle, scale, shift):
    sampling = sampling_of([turned(angle, scale, shift)])
    x0, y0, x1, y1 = sampling.reads()[0].tolist()
    assert 0 <= x0 <= x1 <= 64
    assert 0 <= y0 <= y1 <= 48
    for run in sampling.pixels(torch.tensor([0]), whole_frames(sampling.coded)):
        assert ((run.points >= torch.tensor([x0, y0])) & (run.points <= torch.tensor([x1, y1]))).all()
        assert x1 > x0 or not len(run.points)
