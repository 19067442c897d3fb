"""The fused kernel on a CUDA device: the precision rule, the same bits in any batch, and speed."""

import time

import numpy as np
import pytest
import torch

from common.inr.compose import BackgroundPart, ObjectPart, to_bytes
from common.inr.fused import fused_samples, is_fusible
from common.inr.sampled import stacked_samples
from common.inr.sampling import Sampling
from tests import fused_scenes as scenes
from tests.float64_frames import exact_samples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
]


def on_gpu(part):
    moved = {name: getattr(part, name).cuda() for name in part.__dataclass_fields__ if name != "stack"}
    return type(part)(part.stack.to(torch.device("cuda")), **moved)


def scene(name="letterboxes"):
    return (
        scenes.SCENES[name]().to("cuda"),
        [on_gpu(part) for part in scenes.backgrounds()],
        [on_gpu(part) for part in scenes.objects()],
    )


def frames(count, height=360, width=640):
    """Frames of the default background and one object, at their coded size."""
    coded = torch.tensor([[height, width]]).expand(count, 2).cuda()
    content = torch.tensor([[0, 0, height, width]]).expand(count, 4).cuda()
    rows = torch.arange(count).cuda()
    boxes = torch.tensor([[200, 100, 260, 160]]).expand(count, 4).cuda()
    background = BackgroundPart(scenes.networks(42, 5, count).to(torch.device("cuda")), rows)
    scales = torch.full((count,), 0.5).cuda()
    residual = scenes.networks(20, 3, count).to(torch.device("cuda"))
    patch = ObjectPart(residual, rows, boxes, scales, torch.zeros_like(rows))
    return Sampling.letterbox(height, width, coded, content), [background], [patch]


@pytest.mark.parametrize("products", ["tf32x3", "ieee"])
@pytest.mark.parametrize("name", scenes.SCENES)
def test_pixels_are_their_networks_within_a_hundredth_of_a_grey_level(name, products):
    sampling, parts, boxes = scene(name)
    assert is_fusible(sampling, parts, boxes)
    pixels = fused_samples(sampling, parts, boxes, products=products).cpu().numpy()
    exact = exact_samples(sampling, parts, boxes)
    assert np.abs(pixels - exact).max() * 255 < 0.01


def test_whole_frames_keep_the_precision_rule():
    sampling, parts, boxes = frames(2)
    pixels = fused_samples(sampling, parts, boxes).cpu().numpy()
    assert np.abs(pixels - exact_samples(sampling, parts, boxes)).max() * 255 < 0.01


def test_bytes_are_those_of_the_stacked_path():
    sampling, parts, boxes = frames(4)
    made = fused_samples(sampling, parts, boxes, as_bytes=True)
    off = (made.int() - to_bytes(stacked_samples(sampling, parts, boxes)).int()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() <= 0.001


def test_a_frame_is_the_same_in_any_batch_and_beside_wider_networks():
    sampling, (part,), (patch,) = frames(5)
    together = fused_samples(sampling, [part], [patch])
    for piece in range(5):
        row = torch.tensor([piece]).cuda()
        alone = fused_samples(
            sampling.select(row),
            [BackgroundPart(part.stack.select(row), torch.zeros_like(row))],
            [
                ObjectPart(
                    patch.stack.select(row),
                    torch.zeros_like(row),
                    patch.regions[row],
                    patch.scales[row],
                    patch.boxes[row],
                )
            ],
        )
        assert torch.equal(alone[piece], together[piece])
    wide = on_gpu(
        ObjectPart(
            scenes.networks(60, 2, 1),
            torch.tensor([4]),
            torch.tensor([[0, 0, 50, 50]]),
            torch.tensor([0.1]),
            torch.tensor([1]),
        )
    )
    beside = fused_samples(sampling, [part], [patch, wide])
    assert torch.equal(beside[:4], together[:4])


def test_ten_thousand_frames_a_second():
    if "H200" not in torch.cuda.get_device_name():
        pytest.skip("the figure is stated for an H200")
    sampling, parts, boxes = frames(128)
    fused_samples(sampling, parts, boxes, as_bytes=True)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(10):
        fused_samples(sampling, parts, boxes, as_bytes=True)
    torch.cuda.synchronize()
    assert 10 * 128 / (time.perf_counter() - begin) >= 10_000
