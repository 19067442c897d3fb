"""benchmarks/codec_tables.py: size tables from measured packets."""

import json

import pytest

import codec_tables
from simulations.events.sizes import load_table


def outcome(frame, size, *, way="siren", target=(28.0, 33.0), on_target=True):
    return {
        "way": way,
        "frame": frame,
        "target": list(target),
        "bytes": size,
        "on_target": on_target,
        "seconds": 1.5,
    }


def report(outcomes):
    return {"machine": "a test", "per_frame": outcomes, "frames": sorted({o["frame"] for o in outcomes})}


def test_a_table_holds_the_frames_on_target_of_each_target():
    outcomes = [outcome(f"{i}.jpg", 100 + i, on_target=i > 0) for i in range(20)]
    outcomes += [outcome(f"{i}.jpg", 900, target=(30.0, 35.0), on_target=i < 5) for i in range(20)]
    outcomes += [outcome(f"{i}.jpg", 5, way="peer-jpeg-roi") for i in range(20)]
    tables = codec_tables.tables_of(report(outcomes), {f"{i}.jpg": 1000 for i in range(20)}, "test frames")
    assert [table.profile for table in tables] == ["siren"]
    # Only a quarter reach the second target: a table of those alone would look cheap.
    assert [row.target for row in tables[0].rows] == [(28, 33)]
    row = tables[0].rows[0]
    assert row.packet_bytes == tuple(range(101, 120))
    assert row.alpha == pytest.approx(0.11)
    assert "19 of 20" in tables[0].source


def test_a_report_of_other_frames_is_refused_in_one_sentence(tmp_path, capsys):
    path = tmp_path / "rate_distortion.json"
    path.write_text(json.dumps(report([outcome("a.jpg", 5)])))
    frames = tmp_path / "frames.csv"
    frames.write_text("frame,x0,y0,w,h\n")
    assert codec_tables.main(["distortion", str(path), str(frames)]) != 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1


def test_a_run_gives_a_table_that_the_simulator_reads(tmp_path, capsys):
    (tmp_path / "run.csv").write_text(
        "device,jpeg_bytes,packet_bytes,encode_seconds\nx,1000,90,0.5\ny,1000,110,1.5\n"
    )
    arguments = ["run", str(tmp_path / "run.csv"), "--profile", "mine", "--target", "28,33"]
    assert codec_tables.main([*arguments, "--out", str(tmp_path)]) == 0
    table = load_table("mine.json", tmp_path)
    assert table.row("28,33").alpha == pytest.approx(0.1)
    assert codec_tables.main([*arguments[:-1], "good"]) == 2
    assert "--target takes two PSNR" in capsys.readouterr().err
