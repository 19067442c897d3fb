"""Augmented batches: boxes lie where their objects are, in packets of every kind, and can be repeated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bitstream import Packet
from common.bitstream.image_files import image_file
from common.frame import Box
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import decode_batch, decode_views
from common.learning.letterbox import FILL
from common.learning.resident import ResidentStore
from common.learning.resident_loader import ResidentLoader
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.view_maps import LEAST_SIDE, view_maps
from common.learning.views import NO_AUGMENTATION, View, draw_view, plain_view
from tests.learning_packets import random_packet, scene_packet
from tests.raster_packets import image_packet, pyramid_of, pyramid_packet

IMGSZ = 96
STRONG = AugmentationSettings(
    fliplr=0.5, flipud=0.5, translate=0.3, scale=0.6, degrees=60, shear=15, perspective=0.001, mosaic=0.5,
    hsv_h=0, hsv_s=0, hsv_v=0,
)  # fmt: skip
STRAIGHT = STRONG.model_copy(update={"degrees": 0, "shear": 0, "perspective": 0})


def raster_scene(seed, kind):
    """A grey frame with one red rectangle, as a picture."""
    rng = np.random.default_rng([seed, 9])
    width, height = 80, 56
    w, h = rng.integers(16, 34, 2)
    x0, y0 = rng.integers(2, width - w - 2), rng.integers(2, height - h - 2)
    image = np.full((height, width, 3), 128, np.uint8)
    image[y0 : y0 + h, x0 : x0 + w] = (245, 70, 70)
    box = Box(float(x0), float(y0), float(x0 + w), float(y0 + h))
    if kind == "pyramid":
        content = pyramid_of(image / 255 - 0.5, 4, residual=False)
    else:
        content = image_file(image, "webp", 95)
    return Packet(kind, width, height, True, False, (box,), rng.bytes(32), content, ())


def scenes(kind, count=6):
    store = ResidentStore("cpu", 1 << 26, TrainingSettings())
    store.add([scene_packet(i) if kind == "siren" else raster_scene(i, kind) for i in range(count)])
    assert len(store) == count
    return store


STORES = {kind: scenes(kind) for kind in ("siren", "pyramid", "webp")}


def red(image):
    """(H, W) bool: where the image is clearly red."""
    r, g, _ = image.float().unbind(0)
    return r - g > 60


def corners(batch, image, imgsz=IMGSZ):
    """Boxes (L, 4) x0, y0, x1, y1 of one image, pixels."""
    mine = batch["bboxes"][batch["batch_idx"] == image] * imgsz
    return torch.cat([mine[:, :2] - mine[:, 2:] / 2, mine[:, :2] + mine[:, 2:] / 2], 1)


@pytest.mark.parametrize("kind", list(STORES))
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), frame=st.integers(0, 5), strong=st.booleans())
def test_boxes_follow_the_pixels(kind, seed, frame, strong):
    store = STORES[kind]
    view = draw_view(STRONG if strong else STRAIGHT, IMGSZ, [seed], frame, np.arange(6))
    batch = decode_views(store, [view], IMGSZ)
    marked = red(batch["img"][0])
    boxes = corners(batch, 0)
    y, x = torch.meshgrid(torch.arange(IMGSZ) + 0.5, torch.arange(IMGSZ) + 0.5, indexing="ij")
    # The blur at the edge of an object is a pixel of the coarser of frame and image.
    blur = 1 + max(1.0, view.scale)
    covered = torch.zeros_like(marked)
    for x0, y0, x1, y1 in boxes.tolist():
        inside = (x > x0 - blur) & (x < x1 + blur) & (y > y0 - blur) & (y < y1 + blur)
        covered |= inside
        found = marked & inside
        if not strong and min(x1 - x0, y1 - y0) > 6:
            # As large as the object: its outermost pixels reach the sides of the box.
            assert found.any()
            assert float(x[found].min()) < x0 + blur
            assert float(x[found].max()) > x1 - blur
            assert float(y[found].min()) < y0 + blur
            assert float(y[found].max()) > y1 - blur
    stray = marked & ~covered
    # Red outside of boxes is what is left of objects whose boxes were dropped: less than a tenth of each.
    assert int(stray.sum()) <= 0.1 * 4 * 34 * 34 * max(1.0, view.scale) ** 2 + 8
    if len(boxes) == len(view.frames) * (2 if kind == "siren" else 1):
        assert not stray.any()


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(list(range(8))), cut=st.integers(1, 7))
def test_pixels_and_boxes_do_not_depend_on_the_batch(order, cut):
    store = MIXED
    jittered = STRONG.model_copy(update={"hsv_h": 0.1, "hsv_s": 0.5, "hsv_v": 0.4})
    views = [draw_view(jittered, 64, [3, n], n, np.arange(8)) for n in range(8)]
    alone = [decode_views(store, [view], 64) for view in views]
    for part in (order[:cut], order[cut:]):
        batch = decode_views(store, [views[n] for n in part], 64)
        for place, number in enumerate(part):
            mine = batch["batch_idx"] == place
            assert torch.equal(batch["img"][place], alone[number]["img"][0])
            assert torch.equal(batch["bboxes"][mine], alone[number]["bboxes"])


def mixed_store():
    store = ResidentStore("cpu", 1 << 26, TrainingSettings())
    for i in range(8):
        make = (random_packet, pyramid_packet, lambda seed: image_packet("jpeg", seed))[i % 3]
        store.add([make(i)])
    return store


MIXED = mixed_store()


def epoch_of(number, settings=None, store=MIXED, batch=3, epochs=100):
    given = settings or TrainingSettings(imgsz=64, augmentation=STRONG.model_copy(update={"hsv_v": 0.3}))
    sampler = EpochSampler(store, batch, given.seed)
    loader = ResidentLoader(
        sampler, given, given.augmentation, last_mosaic=epochs - given.augmentation.close_mosaic
    )
    loader.epoch = number
    return list(loader)


def images_of(batches):
    return {
        name: image for batch in batches for name, image in zip(batch["im_file"], batch["img"], strict=True)
    }


def test_an_epoch_is_repeatable_and_the_next_one_differs():
    first, again, later = (images_of(epoch_of(n)) for n in (4, 4, 5))
    assert set(first) == set(again) == set(later)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], later[name]) for name in first)


def test_a_frame_looks_the_same_in_an_epoch_whatever_the_batch_size():
    small, large = images_of(epoch_of(2, batch=1)), images_of(epoch_of(2, batch=8))
    assert all(torch.equal(small[name], large[name]) for name in small)


def test_without_augmentation_a_batch_is_the_letterbox():
    plain = TrainingSettings(imgsz=64, augmentation=NO_AUGMENTATION)
    for batch in epoch_of(0, plain):
        numbers = torch.tensor([int(name.removeprefix("frame")) for name in batch["im_file"]])
        expected = decode_batch(MIXED, numbers, 64)
        assert torch.equal(batch["img"], expected["img"])
        assert torch.equal(batch["bboxes"], expected["bboxes"])


def test_mirroring_moves_pixels_and_boxes_together():
    frames = torch.arange(8)
    plain = decode_batch(MIXED, frames, 64)
    for mirror, axes in (((True, False), [2]), ((False, True), [1]), ((True, True), [1, 2])):
        views = [replace(plain_view(n), mirror=mirror) for n in range(8)]
        mirrored = decode_views(MIXED, views, 64)
        for place in range(8):
            expected = plain["img"][place].flip(axes)
            # Networks are evaluated at mirrored coordinates, which round differently.
            difference = (mirrored["img"][place].int() - expected.int()).abs()
            assert int(difference.max()) <= 1
            assert float((difference > 0).float().mean()) < 1e-3
            mine = plain["batch_idx"] == place
            boxes = plain["bboxes"][mine].clone()
            for axis, wanted in enumerate(mirror):
                if wanted:
                    boxes[:, axis] = 1 - boxes[:, axis]
            torch.testing.assert_close(mirrored["bboxes"][mine], boxes)


@pytest.mark.parametrize("kind", ["siren", "pyramid"])
def test_a_mosaic_shows_four_frames_that_meet(kind):
    store = STORES[kind]
    middle = np.eye(3)
    middle[:2, 2] = -IMGSZ / 2
    view = View((0, 1, 2, 3), middle, 1.0, (IMGSZ, IMGSZ))
    image = decode_views(store, [view], IMGSZ)["img"][0]
    half = IMGSZ // 2
    quarters = [
        image[:, :half, :half],
        image[:, :half, half:],
        image[:, half:, :half],
        image[:, half:, half:],
    ]
    for number, quarter in enumerate(quarters):
        whole = decode_batch(store, torch.tensor([number]), IMGSZ)["img"][0]
        grey = (whole == FILL).all(0).all(1)
        shown = whole[:, ~grey]
        vertical = slice(shown.shape[1] - half, None) if number < 2 else slice(0, half)
        sideways = slice(IMGSZ - half, None) if number % 2 == 0 else slice(0, half)
        expected = shown[:, vertical, sideways].int()
        assert float((quarter.int() - expected).abs().float().mean()) < 1


def test_a_mosaic_without_rotation_leaves_no_gap_between_its_frames():
    store = ResidentStore("cpu", 1 << 26, TrainingSettings())
    store.add([replace(raster_scene(i, "pyramid"), boxes=()) for i in range(4)])
    square = 80
    view = View((0, 1, 2, 3), np.array([[1.0, 0, -40], [0, 1, -40], [0, 0, 1]]), 1.0, (square, square))
    image = decode_views(store, [view], square)["img"][0]
    # Frames of 80 x 56 meet at the centre: 40 rows above and below it, all columns.
    assert not (image == FILL).all(0).any()


def test_boxes_are_clipped_to_the_image_and_small_rests_are_dropped():
    coded = torch.tensor([[100, 100]])
    shift = np.array([[1.0, 0, 60], [0, 1, 0], [0, 0, 1]])
    maps = view_maps([View((0,), shift)], coded, 100)
    # Wholly inside after the shift; cut in half; a sliver of it left; wholly outside.
    given = torch.tensor(
        [[0.2, 0.5, 0.2, 0.2], [0.4, 0.5, 0.2, 0.2], [0.49, 0.5, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2]]
    )
    boxes, kept = maps.boxes(torch.zeros(4, dtype=torch.int64), given)
    assert kept.tolist() == [True, True, False, False]
    torch.testing.assert_close(boxes[:2], torch.tensor([[0.8, 0.5, 0.2, 0.2], [0.95, 0.5, 0.1, 0.2]]))


def test_boxes_that_became_too_small_to_see_are_dropped():
    coded = torch.tensor([[100, 100]])
    shrink = np.diag([0.1, 0.1, 1.0])
    maps = view_maps([View((0,), shrink, 0.1)], coded, 100)
    side = LEAST_SIDE / 100 / 0.1
    given = torch.tensor([[0.5, 0.5, 0.99 * side, 0.9], [0.5, 0.5, 1.01 * side, 0.9]])
    assert maps.boxes(torch.zeros(2, dtype=torch.int64), given)[1].tolist() == [False, True]


def test_a_true_negative_stays_one():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([random_packet(i, boxes=[]) for i in range(4)])
    for number in range(4):
        batch = decode_views(store, [draw_view(STRONG, 64, [n], number, np.arange(4)) for n in range(4)], 64)
        assert len(batch["img"]) == 4
        assert batch["bboxes"].shape == (0, 4)
        assert batch["cls"].shape == (0, 1)


def test_labels_of_any_view_lie_in_the_image():
    store = STORES["siren"]
    views = [draw_view(STRONG, IMGSZ, [n, 1], n % 6, np.arange(6)) for n in range(60)]
    batch = decode_views(store, views, IMGSZ)
    assert len(batch["bboxes"]) > 20
    for image in range(60):
        boxes = corners(batch, image, 1)
        assert ((boxes >= -1e-6) & (boxes <= 1 + 1e-6)).all()
    assert (batch["batch_idx"].diff() >= 0).all()


def test_the_last_epochs_are_without_mosaic():
    settings = TrainingSettings(
        imgsz=64, augmentation=NO_AUGMENTATION.model_copy(update={"mosaic": 1.0, "close_mosaic": 2})
    )
    plain = images_of(epoch_of(0, TrainingSettings(imgsz=64, augmentation=NO_AUGMENTATION)))
    before, after = (images_of(epoch_of(n, settings, epochs=10)) for n in (7, 8))
    assert not any(torch.equal(before[name], plain[name]) for name in plain)
    assert all(torch.equal(after[name], plain[name]) for name in plain)


def test_a_frame_that_was_evicted_is_replaced_in_a_mosaic():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([random_packet(i) for i in range(20)])
    settings = TrainingSettings(
        imgsz=64, augmentation=NO_AUGMENTATION.model_copy(update={"mosaic": 1.0, "close_mosaic": 0})
    )
    loader = ResidentLoader(EpochSampler(store, 4, 0), settings, settings.augmentation, last_mosaic=9)
    batches = iter(loader)
    next(batches)
    loader.settle()
    store.budget_bytes = store.nbytes
    store.add([random_packet(100 + i) for i in range(6)])
    assert len(store) < store.end
    assert len(list(batches)) >= 1


def test_a_view_is_the_same_whatever_else_is_switched_on():
    one = draw_view(NO_AUGMENTATION.model_copy(update={"translate": 0.2}), 64, [1, 2], 0, np.arange(3))
    two = draw_view(
        NO_AUGMENTATION.model_copy(update={"translate": 0.2, "hsv_s": 0.5}), 64, [1, 2], 0, np.arange(3)
    )
    np.testing.assert_array_equal(one.matrix, two.matrix)
    assert one.gains != two.gains


@pytest.mark.parametrize("angles", [(0.0, 89.99), (44.9, 45.0), (80.0, 80.0)])
def test_a_view_that_crushes_a_frame_needs_little_memory(angles, monkeypatch):
    places = []

    def watched(image, grid, **keys):
        places.append(grid[..., 0].numel())
        assert places[-1] <= 1 << 23
        return grid_sample(image, grid, **keys)

    grid_sample = torch.nn.functional.grid_sample
    monkeypatch.setattr(torch.nn.functional, "grid_sample", watched)
    slant = np.eye(3)
    slant[[0, 1], [1, 0]] = np.tan(np.radians(angles))
    centre = np.array([[1.0, 0, IMGSZ / 2], [0, 1, IMGSZ / 2], [0, 0, 1]])
    view = View((0,), centre @ slant @ np.linalg.inv(centre))
    image = decode_views(STORES["webp"], [view], IMGSZ)["img"]
    assert len(places) == 1
    assert image.shape == (1, 3, IMGSZ, IMGSZ)


def test_a_rotated_frame_is_still_read_at_least_once_a_pixel(monkeypatch):
    shares = []

    def watched(image, grid, **keys):
        shares.append(grid[..., 0].numel() / image[0, 0].numel())
        return grid_sample(image, grid, **keys)

    grid_sample = torch.nn.functional.grid_sample
    monkeypatch.setattr(torch.nn.functional, "grid_sample", watched)
    store = ResidentStore("cpu", 1 << 26, TrainingSettings())
    store.add([image_packet("jpeg", 0, width=1280, height=720, boxes=[])])
    settings = NO_AUGMENTATION.model_copy(update={"degrees": 60})
    decode_views(store, [draw_view(settings, IMGSZ, [n], 0, np.arange(1)) for n in range(3)], IMGSZ)
    assert all(share > 0.9 for share in shares)


def test_shrinking_a_picture_averages_it():
    fine = np.zeros((64, 64, 3), np.uint8)
    fine[:, ::2] = 255
    packet = Packet("png", 64, 64, True, False, (), bytes(32), image_file(fine, "webp", 100), ())
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([packet])
    half = np.array([[0.45, 0, 10.3], [0, 0.45, 9.7], [0, 0, 1]])
    image = decode_views(store, [View((0,), half, 0.45)], 64)["img"][0].float()
    inner = image[:, 14:34, 14:34]
    assert float(inner.std()) < 32
    assert abs(float(inner.mean()) - 127.5) < 8
