"""benchmarks/train_pyramid_model.py: what it trains on, what never, and what it says when it cannot."""

import json

import pytest

import train_pyramid_model
from common.images import encode_jpeg
from common.pyramid.model import load_model
from tests.raster_packets import picture


@pytest.fixture
def data(tmp_path):
    """Two sources of three frames each, and a list that holds one of them out."""
    folder = tmp_path / "data"
    for source in ("first", "second"):
        (folder / source).mkdir(parents=True)
        for seed in range(3):
            (folder / source / f"{seed}.jpg").write_bytes(encode_jpeg(picture(48, 64, seed)))
    (folder / "held_out.csv").write_text("frame,x0,y0,w,h\nfirst/1.jpg,1,2,3,4\nfirst/1.jpg,5,6,7,8\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is no folder"),
        (["data", "--exclude", "frist"], "--exclude frist is no folder of"),
        (["data", "--exclude", "first", "second"], "no folder with a .jpg frame"),
        (["data", "--held-out", "missing.csv"], "cannot read --held-out missing.csv"),
        (["data", "--held-out", "data/wrong.csv"], "which is no file; mend the list"),
        (["data", "--steps", "0"], "--steps is 0; give 2 or more"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(tmp_path, data, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (data / "wrong.csv").write_text("frame\nfirst/9.jpg\n")
    assert train_pyramid_model.main([*arguments, "--out", "model.safetensors"]) == 2
    stderr = capsys.readouterr().err
    assert sentence in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "model.safetensors").exists()


def test_held_out_frames_and_excluded_sources_are_never_trained_on(data):
    never = train_pyramid_model.held_out_frames(data / "held_out.csv")
    assert never == [(data / "first" / "1.jpg").resolve()]
    found = train_pyramid_model.training_frames(data, 8, ["second"], never)
    assert [str(path.relative_to(data)) for path in found] == ["first/0.jpg", "first/2.jpg"]


@pytest.mark.slow
def test_the_report_says_what_a_model_was_trained_on_and_how(tmp_path, data, capsys):
    out = tmp_path / "models" / "small.safetensors"
    options = ["--held-out", str(data / "held_out.csv"), "--steps", "4", "--filter-steps", "3"]
    assert train_pyramid_model.main([str(data), "--out", str(out), *options]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["held_out"] == ["first/1.jpg"]
    assert (report["steps"], report["filter_steps"]) == (4, 3)
    assert report["frames"] == {"first": 2, "second": 3}
    assert "first/1.jpg" not in report["training_list"]
    assert load_model(out.read_bytes()).id.hex() == report["model"]
    assert json.loads(capsys.readouterr().out)["model"] == report["model"]
