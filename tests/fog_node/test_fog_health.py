"""When a fog counts as failing, from its status."""

import pytest

from fog_node.health import fog_findings
from fog_node.settings import FogSettings


@pytest.fixture
def status():
    return {
        "state": "serving",
        "store_problem": "",
        "store_unwritable": "",
        "disk_free_bytes": 10**12,
        "retention": {"full": None, "problem": ""},
        "quarantine": {"items": 0, "latest": ""},
        "workers": [worker("ready"), worker("ready")],
        "training": {"problem": ""},
        "rights_problem": "",
        "wire": {"rivals": []},
    }


def worker(state, crashes=0, problem=""):
    return {"state": state, "crashes": crashes, "problem": problem}


def failing(status):
    return [finding.check for finding in fog_findings(status, FogSettings()) if finding.failing]


def notes(status):
    return [finding.check for finding in fog_findings(status, FogSettings()) if not finding.failing]


def test_a_fog_that_works_has_no_findings(status):
    assert fog_findings(status, FogSettings()) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"state": "stopping"}, "state"),
        ({"store_problem": "disk I/O error"}, "store"),
        ({"store_unwritable": "Read-only file system"}, "store"),
        ({"disk_free_bytes": 1}, "disk"),
        ({"retention": {"full": "the log is full", "problem": ""}}, "store"),
        ({"retention": {"full": None, "problem": "database is locked"}}, "store"),
        ({"training": {"problem": "the trainer has ended (exit code 1)"}}, "trainer"),
        ({"workers": [worker("failed", 5)]}, "encoder"),
        ({"workers": [worker("starting", 1), worker("starting", 1)]}, "encoder"),
        ({"workers": [worker("starting", 0, "no cluster answers")]}, "encoder"),
    ],
)
def test_each_of_these_fails(status, change, check):
    assert failing(status | change) == [check]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"workers": [worker("ready"), worker("starting", 3)]}, "encoder"),
        ({"quarantine": {"items": 2, "latest": "record 7"}}, "quarantine"),
        ({"rights_problem": "allow.yaml line 3"}, "rights"),
    ],
)
def test_each_of_these_is_worth_knowing_only(status, change, check):
    assert (failing(status | change), notes(status | change)) == ([], [check])


def test_a_first_start_of_the_encoders_and_a_fog_without_any_are_no_failure(status):
    assert failing(status | {"workers": [worker("starting")]}) == []
    assert failing(status | {"workers": []}) == []


def test_a_key_that_two_nodes_use_is_a_note(status):
    found = fog_findings(status | {"wire": {"rivals": ["k" * 40]}}, FogSettings())
    assert [(finding.check, finding.failing) for finding in found] == [("rights", False)]
    assert f"two nodes use the key {'k' * 40} at once" in found[0].sentence


def test_an_edge_ahead_of_the_log_is_a_note(status):
    ahead = status | {"log_position": 5, "wire": {"ahead": {"k" * 40: 15}}}
    found = fog_findings(ahead, FogSettings())
    assert [(finding.check, finding.failing) for finding in found] == [("log", False)]
    assert f"{'k' * 40}: this device holds position 15 of a log that ends at 5" in found[0].sentence
