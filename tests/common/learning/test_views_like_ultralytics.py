"""Hyper-parameters mean what they mean in Ultralytics: the same random numbers give the same boxes."""

import numpy as np
import pytest
import torch
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.data import augment
from ultralytics.utils.instance import Instances

from common.learning.augmentation_settings import AugmentationSettings
from common.learning.colour_jitter import jitter_colours
from common.learning.view_maps import view_maps
from common.learning.views import NO_AUGMENTATION, draw_view

IMGSZ = 128
# Frames whose letterbox Ultralytics' loader and letterbox agree on: no odd padding, no rounding.
CODED = (144, 256)
DRAWS = 19


class FedRandom:
    """Stands for the module ``random``: gives the numbers that it was fed."""

    def __init__(self, shares, picks=()):
        self.shares = list(shares)
        self.picks = list(picks)

    def uniform(self, low, high):
        return low + (high - low) * self.shares.pop(0)

    def random(self):
        return self.shares.pop(0)

    def randint(self, low, high):
        return self.picks.pop(0)


def made_boxes(seed):
    """(L, 4) x0, y0, x1, y1 as shares, from a pixel to the whole frame."""
    rng = np.random.default_rng(seed)
    corner = rng.random((12, 2)) * 0.95
    return np.concatenate([corner, corner + (1 - corner) * rng.random((12, 2)) ** 2], 1).astype(np.float32)


def theirs(settings, frames, draw, pool):
    """Boxes x0, y0, x1, y1 in the image and their classes, as Ultralytics' transforms make them."""
    height, width = (side * IMGSZ // max(CODED) for side in CODED)

    def labels(number):
        boxes = made_boxes(number) * np.array([width, height, width, height], np.float32)
        return {
            "img": np.zeros((height, width, 3), np.uint8),
            "cls": np.arange(12, dtype=np.float32)[:, None] + 100 * number,
            "instances": Instances(
                boxes, np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False
            ),
            "im_file": "",
            "ori_shape": CODED,
            "resized_shape": (height, width),
        }

    class Dataset:
        cache = "ram"

        def __len__(self):
            return len(pool)

        def get_image_and_label(self, number):
            return labels(number)

    fed = FedRandom(
        [
            *([0.0, draw[5], draw[4]] if settings.mosaic else []),
            *(draw[k] for k in (10, 11, 7, 6, 8, 9, 12, 13)),
            draw[18],
            draw[17],
        ],
        [int(pool[int(x * len(pool))]) for x in draw[1:4]],
    )
    transforms = [
        augment.RandomPerspective(
            **settings.model_dump(include={"degrees", "translate", "scale", "shear", "perspective"}),
            size=(IMGSZ, IMGSZ),
        ),
        augment.RandomFlip(settings.flipud, "vertical"),
        augment.RandomFlip(settings.fliplr, "horizontal"),
    ]
    if settings.mosaic:
        transforms.insert(0, augment.Mosaic(Dataset(), IMGSZ, 1.0))
    made = labels(frames[0])
    saved, augment.random = augment.random, fed
    try:
        for transform in transforms:
            made = transform(made)
    finally:
        augment.random = saved
    made["instances"].convert_bbox("xyxy")
    return made["instances"].bboxes, made["cls"][:, 0]


def ours(settings, view):
    coded = torch.tensor([CODED] * len(view.frames))
    maps = view_maps([view], coded, IMGSZ)
    boxes = torch.from_numpy(np.concatenate([made_boxes(number) for number in view.frames]))
    centred = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    moved, kept = maps.boxes(torch.arange(len(view.frames)).repeat_interleave(12), centred)
    classes = torch.cat([torch.arange(12) + 100.0 * number for number in view.frames])
    corners = torch.cat([moved[:, :2] - moved[:, 2:] / 2, moved[:, :2] + moved[:, 2:] / 2], 1) * IMGSZ
    return corners[kept].numpy(), classes[kept].numpy()


@pytest.mark.parametrize(
    "values",
    [
        {"translate": 0.1, "scale": 0.5},
        {"translate": 0.5, "scale": 0.9, "fliplr": 0.5, "flipud": 0.5},
        {"degrees": 45, "shear": 10, "scale": 0.5, "translate": 0.1, "fliplr": 0.5},
        {"degrees": 10, "perspective": 0.001, "scale": 0.3, "translate": 0.2, "flipud": 0.5},
        {"mosaic": 1.0, "scale": 0.5, "translate": 0.1},
        {"mosaic": 1.0, "scale": 0.9, "translate": 0.3, "degrees": 20, "shear": 5, "fliplr": 0.5},
    ],
)
def test_the_same_random_numbers_give_the_boxes_of_ultralytics(values):
    settings = NO_AUGMENTATION.model_copy(update=values)
    pool = np.arange(9)
    kept = 0
    for number in range(40):
        seed = [5, number]
        view = draw_view(settings, IMGSZ, seed, number % 9, pool)
        draw = np.random.default_rng(seed).random(DRAWS)
        expected, expected_classes = theirs(settings, view.frames, draw, pool)
        boxes, classes = ours(settings, view)
        assert classes.tolist() == expected_classes.tolist()
        np.testing.assert_allclose(boxes, expected, atol=2e-3)
        kept += len(boxes)
    assert kept > 40


def test_the_names_are_those_of_ultralytics():
    assert set(AugmentationSettings.model_fields) <= set(DEFAULT_CFG_DICT)


@pytest.mark.parametrize("gains", [(0.1, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, -0.6, 0.3), (-0.2, 0.7, -0.4)])
def test_colours_change_as_in_ultralytics(gains, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    expected = {"img": image[..., ::-1].copy()}
    monkeypatch.setattr(np.random, "uniform", lambda *_: np.array(gains))
    augment.RandomHSV(1.0, 1.0, 1.0).apply_image(expected)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    changed = jitter_colours(pixels, torch.tensor([gains]))[0].permute(1, 2, 0).numpy() * 255
    difference = np.abs(changed - expected["img"][..., ::-1].astype(float))
    # Theirs rounds hue to 2 degrees and saturation to a 255th of it.
    assert difference.mean() < 2
    assert np.quantile(difference, 0.99) < 8
