"""Fog nodes for numbers of cameras: every figure is listed with its source, and each can be changed."""

import csv
import json

import pytest
import yaml

import scaling
from common.errors import ConfigError, UsageError


@pytest.fixture(scope="module")
def figures():
    return scaling.load_figures(scaling.DEFAULT, [])


def test_every_figure_stands_in_the_yaml_with_its_meaning():
    text = scaling.DEFAULT.read_text()
    assert set(yaml.safe_load(text)) == set(scaling.Figures.model_fields)
    for line in text.splitlines():
        if ":" in line and not line.startswith("#"):
            assert "# " in line, line


def test_each_profile_is_answered_for_each_number_of_cameras(figures):
    found = scaling.answers(figures, (10, 1000, 100_000))
    assert set(found) == set(figures.encode_s)
    for answers in found.values():
        fogs = [answer.fogs for answer in answers]
        assert fogs == sorted(fogs)
        assert fogs[0] == 1
        assert fogs[2] > 10 * fogs[1] / 2
    lines = scaling.table(found).splitlines()
    assert len(lines) == 2 + 3 * len(found)
    assert lines[2].startswith("| 10 |")


def test_quicker_encoders_need_fewer_fogs_until_something_else_binds(figures):
    slow = scaling.answers(figures, (100_000,))["pyramid"][0]
    quick = scaling.answers(figures.model_copy(update={"encode_speed": 1e5}), (100_000,))["pyramid"][0]
    assert slow.binds == "encoding"
    assert quick.fogs < slow.fogs
    assert quick.binds != "encoding"


def test_figures_are_changed_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "out"
    changes = ["--set", "receivers=0", "--set", "encode_s.pyramid=0.5", "--cameras", "20,40"]
    assert scaling.main([*changes, "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["figures"]["encode_s"]["pyramid"] == 0.5
    assert [answer["downlink_bytes_per_s"] for answer in result["answers"]["pyramid"]] == [0, 0]
    with (out / "scaling.csv").open(newline="") as file:
        assert {row["cameras"] for row in csv.DictReader(file)} == {"20", "40"}
    assert (out / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert scaling.main(["--cameras", "20"]) == 0
    assert "| 20 | pyramid | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ("receivers", UsageError, "KEY=VALUE"),
        ("recievers=3", ConfigError, "did you mean 'receivers'"),
        ("load=2", ConfigError, "load"),
    ],
)
def test_a_wrong_change_is_one_sentence(change, error, sentence):
    with pytest.raises(error, match=sentence):
        scaling.load_figures(scaling.DEFAULT, [change])


@pytest.mark.parametrize(
    ("change", "sentence"), [("frames_per_s.x=1", "no section"), ("encoders=[", "not valid")]
)
def test_a_change_that_fits_nowhere_is_one_sentence(change, sentence):
    with pytest.raises((ConfigError, UsageError), match=sentence):
        scaling.load_figures(scaling.DEFAULT, [change])
