"""The benchmark of the resident store: what it reports adds up."""

import json
import sys

import pytest

from benchmarks import resident_store
from common.bitstream import encode_packet
from tests.raster_packets import pyramid_packet


def test_it_reports_bytes_and_waits_of_every_tier(tmp_path, monkeypatch, capsys):
    for seed in range(3):
        packet = pyramid_packet(seed, width=320, height=240)
        (tmp_path / f"{seed}.rinr").write_bytes(encode_packet(packet))
    out = tmp_path / "figures.json"
    monkeypatch.setattr(resident_store, "TIERS", resident_store.TIERS | {"disk": (1 << 14, 0, 1 << 24)})
    arguments = [str(tmp_path), "--imgsz", "64", "--batch", "2", "--step", "0", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["resident_store.py", *arguments])
    resident_store.main()
    figures = json.loads(out.read_text())
    assert (figures["frames"], figures["device"]["fetched"]) == (3, 0)
    assert figures["disk"]["fetched"] > 0
    assert 0 < figures["share_of_rgb"] <= figures["largest_share_of_rgb"] < 1
    assert "3 frames of" in capsys.readouterr().out


def test_a_folder_without_packets_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["resident_store.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="has no packet"):
        resident_store.main()
