"""What an edge counts of one fog, and when it counts as failing."""

import pytest

from common.frame import content_digest
from common.store.memory_edge import MemoryEdgeStore
from common.store.records import Record, RecordKind
from common.wire.messages import Accepted, Corrected, Error, ErrorCode, RecordMessage, Refused
from edge_node.counters import SessionCounters
from edge_node.health import edge_findings
from edge_node.settings import EdgeSettings


def packet(position, payload=b"packet", number=None):
    number = position if number is None else number
    digest = content_digest(payload)
    return Record(position, RecordKind.PACKET, "D" * 40, 3, number, digest, {}, len(payload), payload)


def test_a_record_delivered_again_is_a_duplicate_and_one_that_contradicts_a_conflict():
    counters = SessionCounters()
    first = [packet(1), packet(2)]
    gap = Record.gap(9, 3, 7, "behind retention")
    with MemoryEdgeStore("E" * 40) as store:
        for records in (first, [*first, gap], [packet(8, b"other", number=2)]):
            counters.was_applied(records, store.apply(records, records[-1].position))
    status = counters.status()
    assert (status["duplicates"], status["conflicts"], status["gap_records"]) == (2, 1, 5)
    assert status["applied"] == 3, "two packets and the gap"


def test_messages_are_counted_by_what_they_say():
    counters = SessionCounters()
    for message in (
        Accepted(3, (0, 1, 2)),
        Refused(3, 3, ErrorCode.FULL, "no room", False),
        Corrected(3, 0, 1, "", ""),
        Corrected(3, 0, 2, ErrorCode.CONFLICT, "used", permanent=True),
        Error(ErrorCode.NOT_FOUND, "gone"),
        RecordMessage.of(packet(1)),
    ):
        counters.was_received(message)
    status = counters.status()
    assert status["acknowledged"] == 3
    assert (status["refused"]["full"], status["errors"]["not_found"]) == (1, 1)
    assert status["records_received"]["packet"] == 1
    assert (status["corrections"]["ok"], status["corrections"]["conflict"]) == (1, 1)
    assert status["messages_received"]["Corrected"] == 2


def test_codes_that_a_fog_makes_up_take_no_memory():
    counters = SessionCounters()
    for n in range(100):
        counters.was_received(Refused(3, n, f"code-{n}", "why", False))
    assert counters.refused["other"] == 100
    assert len(counters.refused) == len(ErrorCode) + 1


@pytest.fixture
def status():
    return {
        "state": "running",
        "fogs": [{"fog": "tcp://north:1", "connection": "open", "problem": "", "own": True}],
        "store_problems": [],
        "store_unwritable": "",
        "disk_free_bytes": 10**12,
        "retention": {"full": None, "problem": ""},
        "quarantine": {"items": 0, "latest": ""},
        "recording": {"state": "done", "problems": [], "skipped": 0},
        "outbox": {"last_refusal": ""},
        "training": {"problem": ""},
    }


def away(own):
    return {"fog": "tcp://south:1", "connection": "connecting", "problem": "no fog answers", "own": own}


@pytest.mark.parametrize(
    ("change", "failing", "notes"),
    [
        ({}, [], []),
        ({"fogs": [away(True)]}, ["fog"], []),
        ({"fogs": [away(False)]}, [], ["fog"]),
        ({"store_problems": ["received records cannot be stored: disk full"]}, ["store"], []),
        ({"recording": {"state": "full", "problems": [], "skipped": 0}}, ["recording"], []),
        (
            {"recording": {"state": "done", "problems": ["a ended"], "skipped": 2}},
            ["recording"],
            ["recording"],
        ),
        ({"outbox": {"last_refusal": "the disk is full"}}, [], ["fog"]),
        ({"training": {"problem": "the trainer has ended"}}, ["trainer"], []),
    ],
)
def test_when_an_edge_fails(status, change, failing, notes):
    findings = edge_findings(status | change, EdgeSettings())
    assert [finding.check for finding in findings if finding.failing] == failing
    assert [finding.check for finding in findings if not finding.failing] == notes
