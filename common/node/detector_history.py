"""The detector in use on a node: a weights file, and the history of what was deployed or not and why.

``detector/weights.safetensors`` is replaced by an atomic rename; ``detector/metrics.json`` holds the
newest entries. Both survive kill -9: whichever of the two is older is at most one decision behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.errors import StoreError, reason
from common.frame import content_digest

__all__ = ["IN_USE", "Decision", "DetectorHistory", "write_durably"]

IN_USE = "weights.safetensors"
"""Name, in a node's detector folder, of the weights of the detector in use."""

ENTRIES = 1000
"""Decisions kept in metrics.json; older ones are dropped."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of one round, or what was decided on received weights.

    Attributes:
        time: Unix time, seconds.
        source: ``trained``, ``received`` or ``rolled_back``.
        deploy: Whether the weights became the detector in use.
        reason: One sentence.
        frames: Frames to train on when the round began.
        digest: Content hash of the weights in hex; empty when there are none.
        metrics: Figures by name.
        deployed_before: Detectors deployed on this node before this decision.
    """

    time: float
    source: str
    deploy: bool
    reason: str
    frames: int
    digest: str
    metrics: dict[str, Any] = field(default_factory=dict)
    deployed_before: int = 0


class DetectorHistory:
    """The folder ``detector`` of a node's store.

    Raises:
        StoreError: Its metrics.json cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / IN_USE
        self._before = folder / "previous.safetensors"
        self._path = folder / "metrics.json"
        folder.mkdir(parents=True, exist_ok=True)
        self._decisions = self._load()

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The newest decisions, oldest first."""
        return tuple(self._decisions)

    @property
    def in_use(self) -> Path | None:
        """The weights in use, if any."""
        return self.weights if self.weights.exists() else None

    @property
    def own(self) -> bool:
        """Whether the detector in use was trained on this node."""
        deployed = [entry for entry in self._decisions if entry.deploy]
        if deployed and deployed[-1].source == "rolled_back":
            # As when these weights were deployed first.
            digest = deployed[-1].digest
            deployed = [e for e in deployed if e.digest == digest and e.source != "rolled_back"]
        return bool(deployed) and deployed[-1].source == "trained"

    @property
    def previous(self) -> Path | None:
        """The weights in use before, as long as they may come back: once, after a deployment."""
        return self._before if self._before.exists() else None

    @property
    def rounds(self) -> int:
        """Rounds trained here, as far as the history goes back."""
        return sum(entry.source == "trained" for entry in self._decisions)

    @property
    def frames_used(self) -> int:
        """Frames known when the last round trained here began."""
        return max((entry.frames for entry in self._decisions if entry.source == "trained"), default=0)

    def knows(self, digest: str) -> bool:
        """Whether received weights of this content hash (hex) were decided on before."""
        return any(entry.digest == digest and entry.source == "received" for entry in self._decisions)

    def incoming(self, digest: str) -> Path:
        """Where received weights of this content hash (hex) wait for their decision."""
        return self.folder / f"received-{digest[:16]}.safetensors"

    def decide(
        self,
        *,
        time: float,
        source: str,
        deploy: bool,
        reason: str,
        frames: int,
        metrics: Mapping[str, Any],
        weights: str,
    ) -> Decision:
        """Write a decision down and, if it says so, make the weights the detector in use.

        Args:
            time: Unix time, seconds.
            source: ``trained``, ``received`` or ``rolled_back``.
            deploy: Whether the weights shall become the detector in use.
            reason: One sentence.
            frames: Frames to train on when the round began.
            metrics: Figures by name.
            weights: Path of the weights decided on; empty when there are none.

        Raises:
            OSError: The disk is full or a file is missing; the same call again makes good for it.
        """
        digest = ""
        if weights and Path(weights).exists():
            content = Path(weights).read_bytes()
            digest = content_digest(content).hex()
            if deploy:
                self._keep_previous(source, content)
                write_durably(self.weights, content)
        last = self._decisions[-1] if self._decisions else None
        before = 0 if last is None else last.deployed_before + last.deploy
        deployed = deploy and bool(digest)
        decision = Decision(time, source, deployed, reason, frames, digest, dict(metrics), before)
        decisions = [*self._decisions, decision][-ENTRIES:]
        text = json.dumps({"decisions": [asdict(entry) for entry in decisions]}, indent=1)
        write_durably(self._path, text.encode())
        self._decisions = decisions
        if source == "received" and weights:
            Path(weights).unlink(missing_ok=True)
        if source == "rolled_back" and deployed:
            # Otherwise two detectors would take turns.
            self._before.unlink(missing_ok=True)
        return decision

    def _keep_previous(self, source: str, content: bytes) -> None:
        """Keep the weights in use; not when they are those that are deployed, as after a crash in between."""
        if source == "rolled_back" or not self.weights.exists():
            return
        present = self.weights.read_bytes()
        if present != content:
            write_durably(self._before, present)

    def clean(self) -> None:
        """Remove half-written files of an earlier run."""
        for pattern in ("*.part", "received-*.safetensors"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _load(self) -> list[Decision]:
        if not self._path.exists():
            return []
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))["decisions"]
            return [Decision(**entry) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"cannot read {self._path}: {reason(error)}; move it away to start a new history"
            ) from error


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that after a crash it holds its old or its new content, never part of one.

    Raises:
        OSError: The disk is full; the old content stays.
    """
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
