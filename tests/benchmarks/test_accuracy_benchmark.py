"""The benchmark of accuracy: its split, its peer within equal bytes, its intervals, a whole small study."""

import json

import numpy as np
import pytest
import torch

import accuracy
from common.images import encode_jpeg
from common.learning.batches import decode_views
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.validation import ImageStatistics
from common.learning.views import draw_view
from common.quality import psnr
from decode_then_augment import coded_pictures
from detection.intervals import draws_of, estimate, t_interval
from detection.pictures import PictureViews
from detection.region_jpeg import region_jpeg
from detection.split import Counts, find_sequences, split_frames, stretch_places
from tests.raster_packets import pyramid_packet


def noisy(height, width, seed=0):
    """A slope with detail."""
    y, x = np.mgrid[:height, :width]
    slope = np.stack([x * 200 / width, y * 200 / height, 100 + 0 * x], 2)
    return (slope + np.random.default_rng(seed).normal(0, 8, slope.shape)).clip(0, 255).astype(np.uint8)


def write_sequence(folder, frames, seed):
    (folder / "img").mkdir(parents=True)
    for number in range(frames):
        picture = noisy(48, 64, seed * 100 + number)
        picture[10:26, 10 + number : 30 + number] = 250
        (folder / "img" / f"{number:04d}.jpg").write_bytes(encode_jpeg(picture))
    rows = [f"{11 + number},11,20,16" for number in range(frames)]
    (folder / "groundtruth_rect.txt").write_text("\n".join(rows) + "\n")


def test_fine_tuning_and_validation_never_share_a_moment():
    new, validation = stretch_places(100, Counts(0, 20, 10))
    assert [len(part) for part in new] == [5] * 4
    assert sum(map(len, validation)) == 10
    for stretch, (trained, judged) in enumerate(zip(new, validation, strict=True)):
        assert 25 * stretch <= min(trained)
        assert max(judged) < 25 * (stretch + 1)
        assert min(judged) - max(trained) >= 3


def test_every_second_sequence_is_new(tmp_path):
    for place, name in enumerate(("b/two", "a/one", "three")):
        write_sequence(tmp_path / name, 20, place)
    split = split_frames(find_sequences(tmp_path), Counts(3, 4, 4))
    assert split.sequences == (("one", "three"), ("two",))
    assert (len(split.before), len(split.new), len(split.validation)) == (6, 4, 4)
    assert split.blocks == (0, 1, 2, 3)
    assert all(frame.name.startswith("two-") for frame in (*split.new, *split.validation))
    assert not {f.name for f in split.new} & {f.name for f in split.validation}


@pytest.mark.parametrize("budget", [700, 2_000, 6_000])
def test_region_jpeg_keeps_to_its_bytes_and_favours_the_box(budget):
    image = noisy(180, 320)
    region = (100, 60, 160, 110)
    picture, size = region_jpeg(image, [region], budget, 30.0)
    assert size <= budget
    box = slice(60, 110), slice(100, 160)
    inside = psnr(picture[box], image[box])
    outside = np.ones(image.shape[:2], bool)
    outside[box] = False
    assert picture.shape == image.shape
    if budget == 6_000:
        assert inside >= 30.0
    assert inside > psnr(picture, image, outside) - 1


def test_more_bytes_make_a_better_picture():
    image = noisy(180, 320)
    found = [psnr(region_jpeg(image, [], budget, 30.0)[0], image) for budget in (300, 1_000, 5_000, 20_000)]
    assert found == sorted(found)


def test_pictures_are_shown_as_the_packets_they_come_from():
    store = ResidentStore("cpu", 1 << 24, TrainingSettings())
    store.add([pyramid_packet(seed, width=96, height=64) for seed in range(3)])
    pictures = coded_pictures(store, store.frame_rows(store.numbers))
    # Shown so small that the decoder leaves its filter out, packets are no longer those pictures.
    augmentation = TrainingSettings().augmentation.model_copy(update={"mosaic": 0.5, "scale": 0.2})
    views = [draw_view(augmentation, 96, [1, n], n, np.arange(3)) for n in range(3)]
    shown, decoded = PictureViews(pictures)(store, views, 96), decode_views(store, views, 96)
    assert torch.equal(shown["bboxes"], decoded["bboxes"])
    # Pictures were rounded to bytes before they were read.
    assert (shown["img"].int() - decoded["img"].int()).abs().max() <= 2


def found_or_not(hits):
    """Images with one box each; where it is found, the detection is right at every overlap."""
    return [ImageStatistics(np.full((1, 10), hit), np.array([0.9]), np.zeros(1), np.zeros(1)) for hit in hits]


def test_a_difference_that_every_seed_and_block_shows_excludes_zero():
    good = [found_or_not([True] * 12) for _ in range(3)]
    poor = [found_or_not([True, False, False] * 4) for _ in range(3)]
    blocks = [number // 3 for number in range(12)]
    a, b = draws_of(good, blocks, 200), draws_of(poor, blocks, 200)
    found = estimate(a, b)
    assert found.mean == pytest.approx(a.seeds.mean() - b.seeds.mean())
    assert 0 < found.low <= found.mean <= found.high
    same = estimate(a, draws_of(good, blocks, 200))
    assert (same.low, same.mean, same.high) == (0, 0, 0)


def test_the_interval_over_seeds_is_students():
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert t_interval([1.0]) == (None, None)


def test_a_study_goes_on_where_it_was_and_reports_every_arm(tmp_path, capsys, monkeypatch):
    for place in range(4):
        write_sequence(tmp_path / "data" / f"s{place}", 16, place)
    arguments = [
        str(tmp_path / "data"), "--arms", "original,region-jpeg,webp,webp-then-augment", "--seeds", "1",
        "--imgsz", "64", "--batch", "4", "--before-frames", "2", "--frames", "4", "--validation-frames", "4",
        "--before-epochs", "1", "--epochs", "1", "--resamples", "20", "--device", "cpu", "--json",
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert accuracy.main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert list(first["arms"]) == ["not fine-tuned", "original", "region-jpeg", "webp", "webp-then-augment"]
    assert first["arms"]["region-jpeg"]["bytes_per_frame"] <= first["arms"]["webp"]["bytes_per_frame"]
    assert set(first["differences"]) >= {"webp - original", "webp - region-jpeg", "webp - webp-then-augment"}
    assert (tmp_path / "out" / "accuracy.png").stat().st_size > 0
    monkeypatch.setattr("detection.study.train", lambda *_: pytest.fail("trained again"))
    assert accuracy.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_unknown_arms_and_folders_without_sequences_are_one_sentence(tmp_path, capsys):
    assert accuracy.main([str(tmp_path), "--arms", "original,fog"]) == 2
    assert "--arms names 'fog'" in capsys.readouterr().err
    assert accuracy.main([str(tmp_path)]) == 2
    assert "holds 0 tracking sequences" in capsys.readouterr().err
