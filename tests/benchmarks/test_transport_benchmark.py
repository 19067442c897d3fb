"""The transport's benchmark: real daemons, short."""

import json

import pytest

import transport

SMALL = ["--frames", "40", "--devices", "2", "--rounds", "1", "--size", "8000", "--records", "60"]


def test_uploads_are_compared_with_bare_sockets_and_with_the_store_alone(tmp_path, capsys):
    assert transport.main([*SMALL, "--parts", "uploads", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["uploads"]
    assert found["frames"] == 40
    assert set(found["ways"]) == {"fog", "raw_curve", "raw_plain", "store_alone"}
    rates = {name: way["per_s"] for name, way in found["ways"].items()}
    assert found["share"] == pytest.approx(rates["fog"] / min(rates["raw_curve"], rates["store_alone"]))
    assert json.loads((tmp_path / "transport.json").read_text())["uploads"] == found
    assert (tmp_path / "transport.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_others_are_measured_while_one_device_works_rests_and_is_stopped(tmp_path, capsys):
    parts = ["--parts", "stall,downlink", "--seconds", "0.2"]
    assert transport.main([*SMALL, *parts, "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stall = found["stall"]
    assert set(stall["uploads_per_s"]) == {"working", "stopped", "resting"}
    assert min(stall["uploads_per_s"].values()) > 0
    assert min(stall["records_per_s"].values()) > 0
    assert {row["edges"] for row in found["downlink"]} == {1, 4, 8}
    assert min(row["per_s"] for row in found["downlink"]) > 0


@pytest.mark.slow
def test_an_edge_daemon_is_measured_from_its_folder_to_the_fogs_disk(tmp_path):
    row = transport.measure_edges(tmp_path, size=8000, frames=30, numbers=(1,))[0]
    assert (row["edges"], row["frames"]) == (1, 30)
    assert row["per_s"] > 0


def test_an_unknown_part_is_one_sentence(capsys):
    assert transport.main(["--parts", "uploads,nothing"]) == 2
    assert "expected some of uploads,stall,downlink,edge" in capsys.readouterr().err
