"""Whether an edge node does its work, from its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.node.health import Finding, state_findings, store_findings, trainer_findings
from edge_node.settings import EdgeSettings

__all__ = ["edge_findings"]


def edge_findings(status: Mapping[str, Any], settings: EdgeSettings) -> list[Finding]:
    """What is not as it should be.

    Args:
        status: Of an edge daemon.
        settings: Its settings.
    """
    findings = state_findings(status, "running")
    for fog in status["fogs"]:
        if fog["connection"] != "open":
            why = f": {fog['problem']}" if fog["problem"] else ""
            # Without another fog only its records are missing; without its own nothing is uploaded.
            findings.append(Finding("fog", f"no connection to the fog at {fog['fog']}{why}", fog["own"]))
    findings += [Finding("store", sentence) for sentence in status["store_problems"]]
    findings += store_findings(status, settings.storage.min_free_bytes)
    recording = status["recording"]
    if recording["state"] == "full":
        findings.append(Finding("recording", "recording waits: the outbox or the disk is full"))
    findings += [Finding("recording", sentence) for sentence in recording["problems"]]
    if recording["skipped"]:
        sentence = f"{recording['skipped']} frames were left out, because they cannot be read or uploaded"
        findings.append(Finding("recording", sentence, failing=False))
    if status["outbox"]["last_refusal"]:
        sentence = f"the fog refuses frames: {status['outbox']['last_refusal']}"
        findings.append(Finding("fog", sentence, failing=False))
    return findings + trainer_findings(status["training"])
