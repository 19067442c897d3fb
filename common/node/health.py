"""Whether a node does its work, from what its status tells: pure functions of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Finding", "report", "state_findings", "store_findings", "trainer_findings"]

Status = Mapping[str, Any]
"""What a daemon writes into its status file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        check: What was looked at, one word: loop, state, store, disk, encoder, fog, recording, trainer,
            quarantine or rights.
        sentence: What is wrong.
        failing: Whether the node does not do its work for it; else it is worth knowing only.
    """

    check: str
    sentence: str
    failing: bool = True


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """The answer of ``/health``: ``healthy``, what fails and what is worth knowing."""
    failing = [finding for finding in findings if finding.failing]
    return {
        "healthy": not failing,
        "failing": [_plain(finding) for finding in failing],
        "notes": [_plain(finding) for finding in findings if not finding.failing],
    }


def state_findings(status: Status, working: str) -> list[Finding]:
    """Whether the daemon is in the state ``working``, not on its way down."""
    state = status["state"]
    return [] if state == working else [Finding("state", f"the node is {state}")]


def store_findings(status: Status, min_free_bytes: int) -> list[Finding]:
    """The store's folder, its disk, its retention and what was found damaged in it.

    Args:
        status: Of either node.
        min_free_bytes: Free space below which the store takes in nothing new.
    """
    findings = []
    if status["store_unwritable"]:
        findings.append(
            Finding("store", f"the store's folder cannot be written: {status['store_unwritable']}")
        )
    free = status["disk_free_bytes"]
    if free is not None and free < min_free_bytes:
        sentence = f"the disk has {free} bytes free, less than storage.min_free_bytes ({min_free_bytes})"
        findings.append(Finding("disk", sentence))
    retention, quarantine = status["retention"], status["quarantine"]
    if retention["full"]:
        findings.append(Finding("store", retention["full"]))
    if retention["problem"]:
        sentence = f"what retention no longer keeps cannot be dropped: {retention['problem']}"
        findings.append(Finding("store", sentence))
    if quarantine["items"]:
        sentence = f"{quarantine['items']} items were found damaged, the latest: {quarantine['latest']}"
        findings.append(Finding("quarantine", sentence, failing=False))
    return findings


def trainer_findings(training: Status) -> list[Finding]:
    """Whether a trainer that is needed runs."""
    problem = training["problem"]
    return [Finding("trainer", problem)] if problem else []


def _plain(finding: Finding) -> dict[str, str]:
    value = asdict(finding)
    del value["failing"]
    return value
