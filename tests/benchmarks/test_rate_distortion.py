"""The judge: its protocol, its peers, its cache, and what a stopped run finds again."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rate_distortion
from common.bitstream import decode_packet
from common.errors import UsageError
from common.images import encode_png
from common.quality import psnr
from fog_node.encoders.encoder_settings import PROFILES, EncoderSettings
from judge import cache as cache_module
from judge import measure as measure_module
from judge.cache import Cache, key_of, source_digest
from judge.measure import FAMILIES, Job, Plan, measure, measure_all, model_of, plan_key, settings_for
from judge.peers import PLACE_BYTES, Point, Sweep, choose, sweep
from judge.protocol import TARGETS, Target, parse_targets, pixels, read_frames
from judge.report import Outcome, outcomes_of_peer, summarise, table
from tests.conftest import make_photo

EASY = Target(24, 28)


@pytest.fixture(scope="module")
def frames_csv(tmp_path_factory):
    """Three frames of 320x200 pixels from two sources; the second has two boxes, the third none."""
    folder = tmp_path_factory.mktemp("frames")
    rows = ["frame,x0,y0,w,h"]
    boxes = {"a/img/1.png": [(20, 30, 40, 40)], "a/img/2.png": [(0, 0, 30, 30), (200, 100, 60, 50)]}
    boxes["b/3.png"] = []
    for seed, (name, found) in enumerate(boxes.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_png(make_photo(320, 200, seed)))
        rows += [f"{name},{x},{y},{w},{h}" for x, y, w, h in found] or [f"{name},,,,"]
    path = folder / "frames.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


# --- protocol


def test_frames_come_with_their_source_and_every_nth_of_them(frames_csv):
    frames = read_frames(frames_csv)
    assert [(f.path, f.source, len(f.frame.boxes)) for f in frames] == [
        ("a/img/1.png", "a", 1),
        ("a/img/2.png", "a", 2),
        ("b/3.png", "b", 0),
    ]
    assert [f.path for f in read_frames(frames_csv, every=2)] == ["a/img/1.png", "b/3.png"]


def test_pixels_are_scaled_to_640_and_boxes_cover_every_pixel_they_touch(frames_csv):
    image, regions = pixels(read_frames(frames_csv)[0].frame)
    assert image.shape == (400, 640, 3)
    assert regions == [(40, 60, 120, 140)]


def test_a_frame_is_on_target_when_background_and_every_box_are():
    assert Target(28, 33).reached(28.0, [33.0, 40])
    assert not Target(28, 33).reached(27.99, [40])
    assert not Target(28, 33).reached(40, [40, 32.99])
    assert Target(28, 33).reached(None, [33])
    assert Target(28, 33).reached(28, [])


def test_targets_are_two_numbers():
    assert parse_targets(["28,33", "(30, 35)"]) == (Target(28, 33), Target(30, 35))
    for wrong in ("28", "a,b", "1,2,3"):
        with pytest.raises(UsageError, match="two numbers"):
            parse_targets([wrong])


# --- peers


def points(*values):
    return tuple(Point(n, bg, tuple(obj) if bg is not None else (obj,)) for n, bg, obj in values)


def test_full_is_the_cheapest_file_that_meets_both_targets():
    tried = Sweep(points((100, 28, [30]), (200, 30, [33]), (300, 32, [36])), (points((40, None, 33)),), 0.0)
    full, roi = choose(tried, Target(28, 33))
    assert (full.bytes, full.background, full.objects) == (200, 30, (33,))
    assert (roi.bytes, roi.background, roi.objects) == (100 + 40 + PLACE_BYTES, 28, (33,))


def test_roi_takes_the_background_that_is_cheapest_with_its_crops():
    crop = points((95, None, 33))
    tried = Sweep(points((100, 28, [30]), (200, 30, [33])), (crop,), 0.0)
    assert choose(tried, Target(28, 33))[1].bytes == 200
    assert choose(tried, Target(28, 33.5)) == (None, None)
    two = Sweep(points((100, 28, [30, 40]), (210, 30, [33, 41])), (crop, ()), 0.0)
    assert choose(two, Target(28, 33))[1].bytes == 100 + 95 + PLACE_BYTES, "a box on target needs no crop"


def test_a_box_whose_crop_cannot_be_encoded_rules_its_background_out():
    tried = Sweep(points((100, 28, [30]), (200, 30, [33])), ((),), 0.0)
    assert choose(tried, Target(28, 33))[1].bytes == 200


def test_a_sweep_measures_what_its_own_files_decode_to(frames_csv):
    image, regions = pixels(read_frames(frames_csv)[0].frame, width=160)
    tried = sweep(image, regions, "jpeg")
    assert len(tried.full) == 32
    assert len(tried.crops) == 1
    sizes = [point.bytes for point in tried.full]
    assert sizes == sorted(sizes)
    assert Sweep.from_json(json.loads(json.dumps(tried.to_json()))) == tried


# --- cache


def test_a_key_depends_on_pixels_boxes_settings_and_sources_but_not_on_the_name(frames_csv, tmp_path):
    first, second, _ = read_frames(frames_csv)
    plan = Plan(Cache(tmp_path))
    keys = {
        plan_key(plan, Job(first, "avif", TARGETS[0])),
        plan_key(plan, Job(second, "avif", TARGETS[0])),
        plan_key(plan, Job(first, "avif", TARGETS[1])),
        plan_key(plan, Job(first, "webp", TARGETS[0])),
        plan_key(plan, Job(first, "avif")),
        plan_key(Plan(Cache(tmp_path), EncoderSettings(avif_speed=9)), Job(first, "avif", TARGETS[0])),
    }
    assert len(keys) == 6
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
    renamed = first.__class__("elsewhere/9.png", first.frame)
    assert plan_key(plan, Job(renamed, "avif", TARGETS[0])) in keys
    moved = first.__class__(first.path, replace(first.frame, boxes=()))
    assert plan_key(plan, Job(moved, "avif", TARGETS[0])) not in keys


def test_a_peer_is_measured_once_for_all_targets_and_settings(frames_csv, tmp_path):
    frame = read_frames(frames_csv)[0]
    one = plan_key(Plan(Cache(tmp_path)), Job(frame, "jpeg"))
    assert one == plan_key(Plan(Cache(tmp_path), EncoderSettings(seed=3)), Job(frame, "jpeg"))


@pytest.fixture
def small_package(tmp_path, monkeypatch):
    """A package ``smallcodec`` of two modules, whose digest can be watched."""
    package = tmp_path / "smallcodec"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text('"""Docstring."""\nfrom smallcodec import second\nA = 1\n')
    (package / "second.py").write_text("B = 2\n")
    (package / "unused.py").write_text("C = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cache_module, "PACKAGES", ("smallcodec",))

    def digest(**changes):
        for name, text in changes.items():
            (package / f"{name}.py").write_text(text)
        cache_module._source_digest.cache_clear()
        return source_digest(["smallcodec.first"])

    yield digest
    for name in [name for name in sys.modules if name.startswith("smallcodec")]:
        del sys.modules[name]


def test_sources_count_as_far_as_they_are_imported_and_run(small_package):
    before = small_package()
    assert small_package(unused="C = 4\n") == before
    told = '"""Other words."""\n\n# why\nfrom smallcodec import second\n\nA = 1\n'
    assert small_package(first=told) == before
    assert small_package(second="B = 5\n") != before
    assert small_package(second="B = 2\n") == before
    assert small_package(first='from smallcodec import second\nA = "1"\n') != before


def test_a_profile_is_not_measured_anew_when_another_familys_modules_change():
    assert set(PROFILES) <= FAMILIES.keys() | {"siren"}
    everything = source_digest(["fog_node.encoders.encoder"])
    assert source_digest(["fog_node.encoders.encoder"], FAMILIES["avif"]) != everything
    assert source_digest(["fog_node.encoders.encoder"], FAMILIES["avif"]) == source_digest(
        ["fog_node.encoders.encoder"], FAMILIES["jpeg"]
    )


def test_a_damaged_or_foreign_file_of_the_cache_is_measured_anew(tmp_path):
    kept = Cache(tmp_path)
    assert kept.get("ab" * 32) is None
    kept.put("ab" * 32, {"bytes": 3})
    assert kept.get("ab" * 32) == {"bytes": 3}
    (path,) = tmp_path.rglob("*.json")
    path.write_text('{"bytes": ')
    assert kept.get("ab" * 32) is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path], "no temporary file is left"


def test_key_of_is_stable(frames_csv):
    frame = read_frames(frames_csv)[0].frame
    assert key_of(frame, {"a": 1, "b": 2}) == key_of(frame, {"b": 2, "a": 1})


# --- measuring


def test_bytes_and_quality_are_those_of_the_file_on_disk(frames_csv, tmp_path):
    frame = read_frames(frames_csv)[0]
    plan = Plan(Cache(tmp_path))
    value = measure(plan, Job(frame, "jpeg", EASY))
    (path,) = tmp_path.rglob("*.rinr")
    assert value["bytes"] == path.stat().st_size
    assert value["on_target"]
    packet = decode_packet(path.read_bytes())
    assert packet.profile == "jpeg"
    from common.inr.compose import to_bytes
    from common.inr.decode import compose_packets

    image, ((x0, y0, x1, y1),) = pixels(frame.frame)
    decoded = to_bytes(compose_packets([packet]))[0].permute(1, 2, 0).numpy()
    assert value["object_psnr_db"] == [psnr(image[y0:y1, x0:x1], decoded[y0:y1, x0:x1])]


def test_a_stopped_run_finds_what_it_had_done(frames_csv, tmp_path, monkeypatch):
    frames = read_frames(frames_csv)
    plan = Plan(Cache(tmp_path))
    jobs = [Job(frame, "jpeg", EASY) for frame in frames]
    running = measure_all(plan, jobs, 1)
    first = next(running)
    running.close()
    calls = []
    encode = measure_module._encode
    monkeypatch.setattr(measure_module, "_encode", lambda *a: calls.append(a[1]) or encode(*a))
    everything = dict(measure_all(plan, jobs, 1))
    assert everything[first[0]] == first[1]
    assert calls == jobs[1:]


def test_a_frame_that_cannot_be_encoded_is_reported_and_the_others_go_on(frames_csv, tmp_path):
    frames = read_frames(frames_csv)
    broken = frames[0].__class__("a/img/9.png", replace(frames[0].frame, image=b"no image"))
    plan = Plan(Cache(tmp_path))
    value = measure(plan, Job(broken, "jpeg", EASY))
    assert "no readable image" in value["failure"]


def test_models_leave_the_source_of_the_frame_out(frames_csv, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"1")
    (tmp_path / "root.npz").write_bytes(b"2")
    models = rate_distortion.models_in(tmp_path)
    assert models == {"a": tmp_path / "a.npz", ".": tmp_path / "root.npz"}
    assert model_of(models, "a") == tmp_path / "a.npz"
    assert model_of({}, "a") is None
    with pytest.raises(UsageError, match="no model for the source 'b'"):
        model_of(models, "b")
    first, *_ = read_frames(frames_csv)
    plan = Plan(Cache(tmp_path), models={"a": tmp_path / "a.npz", "b": tmp_path / "a.npz"})
    before = plan_key(plan, Job(first, "pyramid", EASY))
    plain = plan_key(plan, Job(first, "siren", EASY))
    (tmp_path / "a.npz").write_bytes(b"3")
    assert plan_key(plan, Job(first, "pyramid", EASY)) != before, "another model, another measurement"
    assert plan_key(plan, Job(first, "siren", EASY)) == plain, "siren has no learned part"


def test_settings_keep_what_the_protocol_does_not_fix():
    changed = settings_for(EncoderSettings(seed=7, width=320), "siren", Target(31, 36))
    assert (changed.profile, changed.background_psnr, changed.object_psnr) == ("siren", 31, 36)
    assert (changed.width, changed.seed) == (640, 7)


# --- report


def outcome(way, frame, size, on_target=True):
    return Outcome(way, frame, EASY, size, 25.0, (29.0,), on_target, 1.0)


def test_ratios_compare_the_frames_that_both_bring_on_target():
    rows = summarise(
        [
            outcome("siren", "1", 50),
            outcome("siren", "2", 500, on_target=False),
            outcome("peer-jpeg-roi", "1", 100),
            outcome("peer-jpeg-roi", "2", 300),
        ],
        [EASY],
    )["rows"]
    assert [(row["way"], row["on_target"], row["frames"], row["bytes_per_frame"]) for row in rows] == [
        ("siren", 1, 2, 50),
        ("peer-jpeg-roi", 2, 2, 200),
    ]
    assert rows[0]["ratio_to_peer-jpeg-roi"] == 0.5
    assert rows[0]["ratio_to_peer-avif-roi"] is None


def test_a_target_out_of_reach_is_counted_and_not_averaged():
    tried = Sweep(points((100, 20, [30])), ((),), 0.5)
    found = outcomes_of_peer("1", "jpeg", tried.to_json(), [EASY])
    assert [o.bytes for o in found] == [None, None]
    rows = summarise(found, [EASY])["rows"]
    assert [(row["on_target"], row["bytes_per_frame"]) for row in rows] == [(0, None), (0, None)]
    assert "0/1" in table({"rows": rows, "targets": [[24, 28]], "frames": ["1"]})


def test_the_command_prints_one_json_object_and_writes_its_files(frames_csv, tmp_path, capsys):
    arguments = [
        *(str(frames_csv), "--profiles", "jpeg", "--peers", "jpeg", "--targets", "24,28", "--every", "2"),
        *("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), "--json"),
    ]
    assert rate_distortion.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    ways = {row["way"]: row for row in report["rows"]}
    assert list(ways) == ["peer-jpeg-full", "peer-jpeg-roi", "jpeg"]
    assert ways["jpeg"]["on_target"] == ways["jpeg"]["frames"] == 2
    assert ways["jpeg"]["ratio_to_peer-jpeg-roi"] < 1
    written = json.loads((tmp_path / "out/rate_distortion.json").read_text())
    assert len(written["per_frame"]) == 6
    assert (tmp_path / "out/rate_distortion.png").read_bytes().startswith(b"\x89PNG")
    assert rate_distortion.main(arguments[:-1]) == 0
    assert "ratio of bytes to ROI-JPEG" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        ["nowhere.csv"],
        ["FRAMES", "--profiles", "h266"],
        ["FRAMES", "--targets", "28"],
        ["FRAMES", "--every", "0"],
        ["FRAMES", "--time-budget", "0"],
        ["FRAMES", "--models", "nowhere"],
    ],
)
def test_wrong_usage_is_one_sentence(wrong, frames_csv, tmp_path, capsys):
    words = [str(frames_csv) if word == "FRAMES" else word for word in wrong]
    assert rate_distortion.main([*words, "--cache", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_two_processes_measure_what_one_does(frames_csv, tmp_path):
    jobs = [Job(frame, "jpeg", EASY) for frame in read_frames(frames_csv)]
    alone = dict(measure_all(Plan(Cache(tmp_path / "1")), jobs, 1))
    both = dict(measure_all(Plan(Cache(tmp_path / "2")), jobs, 2))
    assert {job: value["bytes"] for job, value in alone.items()} == {
        job: value["bytes"] for job, value in both.items()
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_keeps_what_was_measured(frames_csv, tmp_path):
    program = Path(rate_distortion.__file__)
    words = [sys.executable, str(program), str(frames_csv), "--profiles", "avif", "--processes", "2"]
    words += ["--peers", "avif", "--cache", str(tmp_path), "--json"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=200)
    assert (running.returncode, out) == (130, "")
    assert err == "rate_distortion.py: stopped by Ctrl-C\n"
    kept = len(list(tmp_path.rglob("*.json")))
    assert 1 <= kept < 12
    again = subprocess.run(words, capture_output=True, text=True, check=True, timeout=250)
    assert len(json.loads(again.stdout)["rows"]) == 9
    assert len(list(tmp_path.rglob("*.json"))) == 12


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_peers_need_what_the_anchors_say(real_data: Path, tmp_path):
    """Mean bytes over all 36 frames, (full, roi) at each target, as measured by another program."""
    anchors = {
        "jpeg": [(29_480, 7_406), (37_708, 10_151), (47_770, 15_979)],
        "webp": [(17_856, 4_559), (24_567, 6_547), (33_175, 9_478)],
        "avif": [(16_345, 3_834), (20_973, 5_703), (26_713, 8_464)],
    }
    frames = read_frames(real_data / "eval_frames.csv")
    jobs = [Job(frame, codec) for frame in frames for codec in anchors]
    found = [
        outcome
        for job, value in measure_all(Plan(Cache(tmp_path)), jobs, 2)
        for outcome in outcomes_of_peer(job.frame.path, job.profile, value, TARGETS)
    ]
    assert all(outcome.on_target for outcome in found)
    for codec, by_target in anchors.items():
        for target, sizes in zip(TARGETS, by_target, strict=True):
            for way, size in zip(("full", "roi"), sizes, strict=True):
                mine = [o.bytes for o in found if (o.way, o.target) == (f"peer-{codec}-{way}", target)]
                assert round(np.mean(mine)) == size, (codec, target, way)
