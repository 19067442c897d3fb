"""A few thousand of the fuzzer's inputs, and whether the fuzzer would notice a fault.

The millions are ``python benchmarks/fuzz.py``.
"""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import fuzz
from common.errors import ImageError
from fuzzing import tally as tally_module
from fuzzing.mutator import mutated
from fuzzing.tally import corpus_of, run_piece
from fuzzing.targets import TARGETS, Target

COUNTS = {"message": 6_000, "packet": 1_500, "weights": 1_500, "image": 600, "reader": 500, "settings": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_refused_in_one_sentence_and_within_bounds(name):
    tally = run_piece(name, 20, 0, COUNTS[name])
    assert (tally.crashes, tally.over_bound) == (0, 0), tally.faults
    assert tally.inputs == COUNTS[name]
    assert tally.accepted > 0, "mutations that leave nothing readable reach only the first check"


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_themselves_are_readable(name):
    readable = 0
    for data in corpus_of(name):
        try:
            TARGETS[name].run(data)
            readable += 1
        except Exception:
            continue
    assert readable >= 0.25 * len(corpus_of(name))


def test_an_input_is_the_same_whenever_it_is_made():
    seeds = corpus_of("message")
    one = [mutated(seeds, 3, "message", number) for number in range(200)]
    assert one == [mutated(seeds, 3, "message", number) for number in range(200)]
    assert len(set(one)) > 150
    assert one != [mutated(seeds, 4, "message", number) for number in range(200)]


def planted(monkeypatch, run, bound=1 << 20):
    monkeypatch.setattr(tally_module, "TARGETS", {"message": Target(run, bound, 1.0)})
    return run_piece("message", 0, 0, 40)


def test_an_error_that_is_not_ours_is_a_crash(monkeypatch):
    def run(data):
        raise IndexError("no")

    tally = planted(monkeypatch, run)
    assert tally.crashes == 40
    assert "IndexError: no (test_fuzz.py:" in tally.faults[0]


def test_an_error_of_two_lines_is_a_crash(monkeypatch):
    def run(data):
        raise ImageError("one\ntwo")

    assert planted(monkeypatch, run).crashes == 40


def test_a_sentence_is_none(monkeypatch):
    def run(data):
        raise ImageError("one")

    tally = planted(monkeypatch, run)
    assert (tally.crashes, tally.accepted, tally.inputs) == (0, 0, 40)


def test_the_end_of_the_process_is_a_crash_of_its_input(monkeypatch):
    calls = []

    def run(data):
        calls.append(data)
        if len(calls) == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    tally = planted(monkeypatch, run)
    assert (tally.crashes, tally.inputs) == (1, 8)
    assert tally.faults == ["message 7: the process ended with -9"]


def test_memory_beyond_the_bound_is_noticed(monkeypatch):
    tally = planted(monkeypatch, lambda data: bytearray(3 << 20))
    assert tally.over_bound == 2, "of every twentieth input the memory is measured"
    assert tally.crashes == 0


def test_an_allocation_of_gigabytes_fails(monkeypatch):
    tally = planted(monkeypatch, lambda data: bytearray(4 << 30))
    assert tally.crashes == 40
    assert "MemoryError" in tally.faults[0]


def test_an_input_that_takes_too_long_is_a_crash(monkeypatch):
    monkeypatch.setattr(tally_module, "SLOW_SECONDS", 0.01)
    calls = []

    def run(data):
        calls.append(data)
        time.sleep(0.03 * (len(calls) == 5))

    tally = planted(monkeypatch, run)
    assert tally.crashes == 1
    assert "took 0.0" in tally.faults[0]


def test_a_run_goes_on_where_it_was_stopped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fuzz, "PIECE", dict.fromkeys(fuzz.PIECE, 100))
    arguments = ["--target", "message", "--tally", str(tmp_path / "t.json"), "--json"]
    assert fuzz.main(["--inputs", "200", *arguments]) == 0
    assert fuzz.main(["--inputs", "500", *arguments]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["inputs"], result["crashes"], result["over_bound"]) == (500, 0, 0)
    once = json.loads((tmp_path / "t.json").read_text())["targets"]["message"]["accepted"]
    fuzz.main(["--inputs", "500", "--target", "message", "--tally", str(tmp_path / "u.json"), "--json"])
    assert json.loads((tmp_path / "u.json").read_text())["targets"]["message"]["accepted"] == once
