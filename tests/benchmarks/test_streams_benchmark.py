"""The comparison of streams: frames are measured, video reaches its target or is left out in one sentence."""

import json

import cv2
import numpy as np
import pytest

import streams
from common.images import encode_jpeg
from video.codecs import cheapest


@pytest.fixture
def sequence(tmp_path, photo):
    """Three frames of a camera that stands still."""
    images = tmp_path / "clip" / "img"
    images.mkdir(parents=True)
    picture = cv2.resize(photo, (640, 480), interpolation=cv2.INTER_AREA)
    for number in range(3):
        (images / f"{number:03d}.jpg").write_bytes(encode_jpeg(picture, 90 - number))
    (images.parent / "groundtruth_rect.txt").write_text("100,100,60,40\n" * 3)
    return images.parent


@pytest.mark.slow
def test_a_stream_is_measured_against_stills(sequence, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--peers", "", "--target", "24,26", "--device", "cpu", "--json", "--out", str(out)]
    assert streams.main([str(sequence), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    clip = report["sequences"]["clip"]
    assert clip["stream"]["kinds"] == ["keyframe", "kept", "kept"]
    assert clip["stills"]["reached_target"] == clip["stream"]["reached_target"] == 1.0
    assert clip["stream"]["bytes_per_frame"] < clip["stills"]["bytes_per_frame"]
    assert json.loads((out / "streams.json").read_text()) == report
    assert (out / "streams.png").stat().st_size > 1000


def test_without_pyav_video_is_left_out_in_one_sentence(sequence, capsys, monkeypatch):
    monkeypatch.setattr(streams, "available", lambda: False)
    monkeypatch.setattr(
        streams, "_ours", lambda *_: {"bytes_per_frame": 1.0, "shares": {}, "reached_target": 1.0}
    )
    assert streams.main([str(sequence)]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "PyAV is not installed" in captured.err


def test_an_unknown_video_codec_is_refused(sequence, capsys):
    assert streams.main([str(sequence), "--peers", "mjpeg"]) == 2
    assert "'mjpeg'" in capsys.readouterr().err


def test_a_video_is_the_coarsest_that_reaches_its_target(photo):
    pytest.importorskip("av", reason='PyAV is not installed; it is in the extra "bench"')
    images = [np.ascontiguousarray(cv2.resize(photo, (65, 49))) for _ in range(3)]
    regions = [[(10, 10, 30, 30)]] * 3
    low, high = (cheapest("x264", images, regions, db) for db in (26.0, 34.0))
    assert low.background_psnr_db >= 26
    assert high.background_psnr_db >= 34
    assert (low.crf > high.crf, sum(low.bytes) < sum(high.bytes)) == (True, True)
    assert cheapest("x264", images, regions, 98.0) is None
