"""Scenes for the fused kernel: networks of many sizes, boxes in every position, and maps of every kind."""

from dataclasses import replace

import torch

from common.inr.compose import BackgroundPart, ObjectPart
from common.inr.sampling import Sampling, whole_frames
from common.inr.siren import Architecture, SirenStack
from common.learning.letterbox import letterbox_content

CODED = torch.tensor([[20, 32], [24, 24], [21, 13]])


def networks(width, depth, count, seed=0):
    generator = torch.Generator().manual_seed(1000 * width + depth + seed)
    return SirenStack.initialise(Architecture(width, depth), count, generator)


def backgrounds():
    return [
        BackgroundPart(networks(42, 5, 1), torch.tensor([1])),
        BackgroundPart(networks(17, 3, 1), torch.tensor([2])),
        BackgroundPart(networks(7, 1, 1), torch.tensor([0])),
    ]


def objects():
    """Overlapping boxes, boxes at borders, one pixel, several widths and depths; piece 1 has none."""
    return [
        ObjectPart(
            networks(20, 4, 3),
            torch.tensor([0, 2, 0]),
            torch.tensor([[3, 3, 16, 12], [0, 0, 7, 7], [13, 6, 27, 15]]),
            torch.tensor([0.5, 0.4, 0.3]),
            torch.tensor([0, 1, 2]),
        ),
        ObjectPart(
            networks(6, 1, 4),
            torch.tensor([0, 2, 2, 0]),
            torch.tensor([[10, 6, 18, 15], [12, 20, 13, 21], [9, 9, 10, 10], [20, 0, 32, 20]]),
            torch.tensor([0.5, 0.4, 0.6, 0.2]),
            torch.tensor([1, 0, 2, 3]),
        ),
    ]


def letterboxes(size=32):
    return Sampling.letterbox(size, size, CODED, letterbox_content(CODED, size))


def turned(size=32):
    """Rotated, sheared, enlarged and mirrored frames; one in perspective."""
    maps = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    maps[0, :2] = torch.tensor([[0.9, 0.5, -5.0], [-0.5, 0.9, 8.0]])
    maps[1] = torch.tensor([[-0.8, 0.1, 23.0], [0.0, 0.7, 2.0], [0.002, -0.004, 1.0]])
    maps[2, :2] = torch.tensor([[0.3, 0.0, 2.0], [0.1, 0.6, -4.0]])
    return Sampling(size, size, 3, torch.arange(3), CODED, maps, whole_frames(CODED))


def mosaic():
    """Three pieces in one image of four quarters, one of them shown in part, one outside the image."""
    maps = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    maps[0, :2, 2] = torch.tensor([0.0, 3.0])
    maps[1, :2, 2] = torch.tensor([-17.0, -16.0])
    maps[2, :2, 2] = torch.tensor([500.0, 0.0])
    clips = whole_frames(CODED)
    clips[0] = torch.tensor([2.0, 3.0, 16.5, 15.0])
    made = Sampling(36, 34, 2, torch.tensor([1, 1, 0]), CODED, maps, clips)
    return replace(made, fill=0.25)


SCENES = {"letterboxes": letterboxes, "turned": turned, "mosaic": mosaic}
