"""Frames are read at the points of a view: along rows and columns where that is the same, and faster."""

import pytest
import torch
import torch.nn.functional as F

from common.inr.resample import show_frame
from common.inr.sampling import Sampling

WIDTH, HEIGHT = 90, 50


def sampling_of(matrix, side):
    coded = torch.tensor([[HEIGHT, WIDTH]])
    clip = torch.tensor([[0.0, 0.0, WIDTH, HEIGHT]], dtype=torch.float64)
    maps = torch.tensor([matrix], dtype=torch.float64)
    return Sampling(side, side, 1, torch.zeros(1, dtype=torch.int64), coded, maps, clip)


def read_point_by_point(image, matrix, side, points):
    """Bilinear readings at ``points`` x ``points`` places of each pixel, averaged; places outside go on."""
    places = (torch.arange(side * points, dtype=torch.float64) + 0.5) / points
    u, v = places * matrix[0][0] + matrix[0][2], places * matrix[1][1] + matrix[1][2]
    grid = torch.stack(torch.broadcast_tensors(u * 2 / WIDTH - 1, (v * 2 / HEIGHT - 1)[:, None]), 2)
    read = F.grid_sample(image[None].double(), grid[None], padding_mode="border", align_corners=False)
    return F.avg_pool2d(read, points)[0].float()


@pytest.mark.parametrize(
    ("scale", "points"),
    [((1.7, 1.7), 2), ((-1.7, 1.7), 2), ((2.6, 2.6), 3), ((1.0, 1.0), 1), ((0.6, 0.6), 1)],
)
def test_a_frame_along_the_axes_is_the_mean_of_bilinear_readings(scale, points):
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    side = 20
    left = 2.3 if scale[0] > 0 else WIDTH - 3.1
    matrix = [[scale[0], 0.0, left], [0.0, scale[1], 1.2], [0.0, 0.0, 1.0]]
    out = torch.full((1, 3, side, side), 0.5)
    show_frame(out, image, sampling_of(matrix, side), 0)
    inside = round(min(side, (HEIGHT - 1.2) / abs(scale[1])) - 0.5)
    expected = read_point_by_point(image, matrix, side, points)
    assert (out[0, :, :inside] - expected[:, :inside]).abs().max() * 255 < 0.01
