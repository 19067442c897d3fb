"""A soak tells what grows from what only moves, and watches real daemons."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from simulations.cli import main
from simulations.soak.samples import held_by
from simulations.soak.slopes import slope_of

HOUR = np.arange(0, 3600, 10.0)


def noise(seed, size=1e5):
    """Neighbouring samples alike, as memory is."""
    steps = np.random.default_rng(seed).normal(0, size, len(HOUR))
    values = [0.0]
    for step in steps[1:]:
        values.append(0.8 * values[-1] + step)
    return np.array(values)


@pytest.mark.parametrize("seed", range(5))
def test_a_line_is_found_in_noise(seed):
    slope = slope_of(HOUR, 50e6 + 3e6 * HOUR / 3600 + noise(seed))
    assert slope.per_hour == pytest.approx(3e6, abs=slope.bound_per_hour * 2)
    assert slope.grows(1e6)
    assert not slope.grows(5e6), "less than is tolerated"


def test_noise_alone_is_rarely_called_growth():
    called = sum(slope_of(HOUR, 50e6 + noise(seed)).grows(0.0) for seed in range(200))
    assert called < 20


def test_what_falls_does_not_grow():
    assert not slope_of(HOUR, 50e6 - 3e6 * HOUR / 3600 + noise(1)).grows(0.0)


def test_a_constant_has_no_slope():
    slope = slope_of(HOUR, np.full(len(HOUR), 17.0))
    assert (slope.per_hour, slope.bound_per_hour, slope.mean) == (0.0, 0.0, 17.0)
    assert not slope.grows(0.0)


def test_a_few_samples_tell_nothing():
    assert slope_of(HOUR[:23], HOUR[:23]) is None


def test_a_process_holds_more_after_it_has_taken_more():
    script = "import sys, threading\nkept = []\nfor line in sys.stdin:\n    exec(line)\n    print(flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def do(line):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        process.stdout.readline()
        return held_by(process.pid)

    with process:
        before = do("0")
        after = do("kept += [bytearray(b'x' * 20_000_000), open('/dev/null'), open('/dev/null')]")
        threads = do(
            "kept.append(threading.Thread(target=threading.Event().wait, daemon=True)); kept[-1].start()"
        )
        process.stdin.close()
    assert 19e6 < after.own_bytes - before.own_bytes < 45e6
    assert after.rss_bytes - before.rss_bytes > 19e6
    assert after.descriptors == before.descriptors + 2
    assert threads.threads == before.threads + 1


def test_a_process_that_is_gone_holds_nothing():
    process = subprocess.Popen(["true"])
    process.wait()
    assert held_by(process.pid) is None
    assert held_by(os.getpid()).threads >= 1


def test_a_short_soak_sees_every_process_and_every_frame(tmp_path, capsys):
    arguments = ["--hours", "0.0012", "--edges", "2", "--rate", "3", "--every", "0.1", "--json"]
    code = main(["soak", "--out", str(tmp_path / "soak"), *arguments])
    result = json.loads(capsys.readouterr().out)
    # Seconds after a start everything still grows; that the frames arrived is what is asked for here.
    assert code in (0, 1)
    assert not result["problems"]
    assert result["verdict"]["acknowledged"] == result["verdict"]["frames"] == 2 * 13
    assert result["verdict"]["lost"] == result["verdict"]["twice"] == result["verdict"]["invented"] == 0
    assert {"fog", "edge1", "edge2", "encoder 0"} <= set(result["processes"])
    assert all(process["starts"] == 1 for process in result["processes"].values())
    assert (tmp_path / "soak" / "soak.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "soak" / "soak.json").read_text()) == result


@pytest.mark.parametrize("option", [["--hours", "0"], ["--edges", "0"], ["--rate", "-1"], ["--every", "0"]])
def test_wrong_options_are_refused_in_one_sentence(tmp_path, capsys, option):
    assert main(["soak", "--out", str(tmp_path / "soak"), *option]) == 2
    assert option[0] in capsys.readouterr().err
