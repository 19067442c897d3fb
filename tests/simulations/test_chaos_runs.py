"""Chaos runs with real daemons; some short ones by default, more with ``-m slow``."""

import json
import subprocess
import sys
import time

import pytest

from simulations.chaos.campaign import Request, ability, done_before, run_all, tally
from simulations.chaos.clock import Clock, build_library
from simulations.chaos.plan import PLAN_VERSION
from simulations.cli import main

NOW = """
import datetime, sqlite3, time
clock = sqlite3.connect(":memory:").execute("SELECT strftime('%s', 'now')").fetchone()[0]
print(time.time(), time.monotonic(), datetime.datetime.now().timestamp(), clock)
"""


def runs(tmp_path, seeds, **changes):
    request = Request(seeds=seeds, out=tmp_path, **changes)
    lines = list(run_all(request, done_before(request), ability(request)))
    problems = [(line["seed"], line["problems"], line["verdict"]) for line in lines if not line["good"]]
    assert not problems
    return lines


# Two fogs, restored backup, kills; two fogs whose logs refuse, a damaged database; a damaged write-ahead log,
# corrected labels; three kills of a fog whose log drops its oldest records, and corrected labels.
@pytest.mark.parametrize("seed", [15, 17, 19, 22])
def test_no_acknowledged_frame_is_lost_doubled_or_invented(tmp_path, seed):
    (line,) = runs(tmp_path, [seed])
    assert line["verdict"]["acknowledged"] > 0
    assert not any((tmp_path / "runs").iterdir()), "a good run leaves nothing behind"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 144, 4))
def test_nor_in_many_more_runs(tmp_path, first):
    runs(tmp_path, range(first, first + 4))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nor_with_real_encoding(tmp_path):
    runs(tmp_path, [0, 1], profile="pyramid")


@pytest.mark.slow
def test_nor_between_network_namespaces(tmp_path):
    from simulations.namespaces import why_not

    if reason := why_not():
        pytest.skip(reason)
    runs(tmp_path, [0, 1, 2], cables_bytes_per_s=2e6)


def line(seed, *, good=True, kind="passthrough, proxy", faults=("kill fog",)):
    verdict = dict.fromkeys(("frames", "acknowledged"), 10)
    verdict |= dict.fromkeys(("lost", "twice", "invented", "wrong", "stale"), 0)
    verdict |= dict.fromkeys(("told", "excused", "dropped"), 0)
    verdict["sentences"] = []
    return {
        "run": kind,
        "plan": PLAN_VERSION,
        "seed": seed,
        "good": good,
        "seconds": {"faults": 2.0},
        "faults": [{"kind": fault, "what": "killed"} for fault in faults],
        "verdict": verdict,
        "problems": [],
    }


def test_runs_that_are_written_down_are_not_run_again(tmp_path, capsys):
    written = [line(3), line(4), line(5, kind="pyramid, proxy"), line(5) | {"plan": PLAN_VERSION - 1}]
    text = "\n".join(map(json.dumps, written)) + '\n{"run": "passthrough, pro'
    (tmp_path / "results.jsonl").write_text(text)
    assert sorted(done_before(Request(range(3, 6), tmp_path))) == [3, 4]
    assert main(["chaos", "--runs", "2", "--seed", "3", "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["runs"], result["lost"], result["faults"]["kill fog"]["struck"]) == (2, 0, 2)


def test_a_failed_run_fails_the_command_and_names_its_seed(tmp_path, capsys):
    bad = line(4, good=False)
    bad["verdict"]["lost"] = 2
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, [line(3), bad])) + "\n")
    assert main(["chaos", "--runs", "2", "--seed", "3", "--out", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "lost 2" in out
    assert "1 of 2 runs failed (seeds 4)" in err


def test_the_tally_counts_faults_and_not_what_could_not_be_done():
    lines = [line(1, faults=("kill fog", "kill fog", "cut link")), line(2, good=False)]
    lines[1]["faults"].append({"kind": "kill trainer", "what": "nothing to strike"})
    result = tally(lines)
    assert result["faults"]["kill fog"] == {"struck": 3, "runs": 2, "failed_runs": 1}
    assert result["faults"]["kill trainer"]["struck"] == 0
    assert (result["failed"], result["failed_seeds"], result["frames"]) == (1, [2], 20)


@pytest.mark.parametrize(
    "option", [["--runs", "0"], ["--seed", "-1"], ["--encode", "gif"], ["--train"], ["--jobs", "0"]]
)
def test_wrong_options_are_refused_in_one_sentence(tmp_path, capsys, option):
    assert main(["chaos", "--out", str(tmp_path), *option]) == 2
    assert option[0] in capsys.readouterr().err


def test_a_shifted_clock_is_what_a_process_and_its_sqlite_see(tmp_path):
    library, reason = build_library(tmp_path)
    if library is None:
        pytest.skip(reason)
    clock = Clock(tmp_path / "clock", library)
    for shift in (0.0, 86_400.0, -3600.0):
        clock.shift(shift)
        done = subprocess.run(
            [sys.executable, "-c", NOW], env=clock.environment, capture_output=True, text=True, check=True
        )
        wall, monotonic, date, sqlite = map(float, done.stdout.split())
        expected = time.time() + shift
        assert all(abs(seen - expected) < 10 for seen in (wall, date, sqlite))
        assert abs(monotonic - time.monotonic()) < 10


def test_a_running_process_sees_its_clock_jump(tmp_path):
    library, reason = build_library(tmp_path)
    if library is None:
        pytest.skip(reason)
    clock = Clock(tmp_path / "clock", library)
    script = "import sys, time\nfor _ in sys.stdin: print(time.time(), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        seen = []
        for shift in (0.0, 3600.0):
            clock.shift(shift)
            process.stdin.write("\n")
            process.stdin.flush()
            seen.append(float(process.stdout.readline()))
        process.stdin.close()
    assert 3590 < seen[1] - seen[0] < 3620
