"""Whether a fog node does its work, from its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.node.health import Finding, state_findings, store_findings, trainer_findings
from fog_node.sessions import AHEAD
from fog_node.settings import FogSettings

__all__ = ["RIVALS", "fog_findings"]

RIVALS = (
    "two nodes use the key {key} at once and end each other's sessions; give one of them keys of its own, "
    "with keygen, and a store of its own"
)
"""What is told of a key in :mod:`fog_node.rivals`."""


def fog_findings(status: Mapping[str, Any], settings: FogSettings) -> list[Finding]:
    """What is not as it should be.

    Args:
        status: Of a fog daemon.
        settings: Its settings.
    """
    findings = state_findings(status, "serving")
    if status["store_problem"]:
        findings.append(Finding("store", f"uploads are refused: {status['store_problem']}"))
    findings += store_findings(status, settings.storage.min_free_bytes)
    findings += _encoders(status["workers"])
    findings += trainer_findings(status["training"])
    if status["rights_problem"]:
        sentence = f"the allow list stays as it was: {status['rights_problem']}"
        findings.append(Finding("rights", sentence, failing=False))
    for key, position in status["wire"].get("ahead", {}).items():
        sentence = f"{key}: {AHEAD.format(position=position, last=status['log_position'])}"
        findings.append(Finding("log", sentence, failing=False))
    for key in status["wire"].get("rivals", ()):
        findings.append(Finding("rights", RIVALS.format(key=key), failing=False))
    return findings


def _encoders(workers: list[Mapping[str, Any]]) -> list[Finding]:
    """Frames are encoded while one encoder is ready; a first start takes its time and is no failure."""
    down = [number for number, worker in enumerate(workers) if _down(worker)]
    if not down:
        return []
    ready = any(worker["state"] == "ready" for worker in workers)
    problem = workers[down[0]].get("problem") or ""
    names = ", ".join(map(str, down))
    sentence = f"encoder {names} of {len(workers)} {'is' if len(down) == 1 else 'are'} not running"
    return [Finding("encoder", f"{sentence}: {problem}" if problem else sentence, failing=not ready)]


def _down(worker: Mapping[str, Any]) -> bool:
    return worker["state"] != "ready" and bool(
        worker["state"] == "failed" or worker["crashes"] or worker.get("problem")
    )
