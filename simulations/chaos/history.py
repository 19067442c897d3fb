"""What happened to every frame, and what the stores must therefore hold (pure; no files, no processes)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.frame import FrameIdentity

__all__ = ["Copy", "History", "Holder", "Verdict", "check"]

MOST_NAMED = 20
"""Sentences of one kind that a verdict names; the count is of all."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A frame's record as one store holds it.

    Attributes:
        identity: Whose frame it is.
        packet: Whether it is a packet; else a tombstone.
        source: Content hash of the image that the packet was made of; empty for a tombstone.
        digest: Content hash of the packet's bytes, computed from the bytes.
    """

    identity: FrameIdentity
    packet: bool
    source: bytes = b""
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Holder:
    """What one store holds after the drain.

    Attributes:
        name: "fog", "edge1", ...
        copies: Its records of frames, in order; one entry a row.
        gaps: (first, last) positions of the fog's present log that it was told are lost.
        damaged: Records of its own that it says are damaged.
    """

    name: str
    copies: Sequence[Copy]
    gaps: Sequence[tuple[int, int]] = ()
    damaged: int = 0


@dataclass
class History:
    """What the edges recorded and what the fog promised.

    Attributes:
        recorded: Content hash of the image of every frame that was ever recorded, by identity.
        acknowledged: Frames that the fog acknowledged.
        unprotected: Frames that a fault took from the fog beyond its promise, such as those acknowledged
            after the backup that was restored.
        positions: Position in the fog's present log, where the fog knows it.
        damaged: Whether stored bytes were damaged on purpose: then a frame may be reported lost.
        replaced: Whether the fog's store was replaced by a backup: it may then encode a frame anew.
        reported: Frames that the fog reports as damaged without telling which.
    """

    recorded: dict[FrameIdentity, bytes] = field(default_factory=dict)
    acknowledged: set[FrameIdentity] = field(default_factory=set)
    unprotected: set[FrameIdentity] = field(default_factory=set)
    positions: dict[FrameIdentity, int] = field(default_factory=dict)
    damaged: bool = False
    replaced: bool = False
    reported: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found, over all holders.

    Attributes:
        frames: Frames recorded.
        acknowledged: Of these acknowledged.
        lost: Acknowledged frames that a subscriber neither holds nor was told of.
        twice: Frames that a store holds more than once.
        invented: Records of frames that nobody recorded.
        wrong: Records whose content is not the frame's, or not the fog's.
        told: Frames missing at a subscriber told of after damage: gap, tombstone, quarantine.
        excused: Frames missing at a subscriber that a fault took beyond the promise.
        sentences: What is wrong, some of each kind.
    """

    frames: int
    acknowledged: int
    lost: int
    twice: int
    invented: int
    wrong: int
    told: int
    excused: int
    sentences: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.twice or self.invented or self.wrong)


@dataclass
class _Findings:
    found: dict[str, list[str]] = field(
        default_factory=lambda: {"lost": [], "twice": [], "invented": [], "wrong": []}
    )
    told: int = 0
    excused: int = 0

    def add(self, kind: str, holder: Holder, identity: FrameIdentity, what: str) -> None:
        device, epoch, number = identity.device[:6], identity.epoch, identity.number
        self.found[kind].append(f"{holder.name}: frame {number} of {device} (epoch {epoch:x}) {what}")


def check(history: History, fog: Holder, subscribers: Sequence[Holder]) -> Verdict:
    """Compare what the stores hold with what happened.

    Args:
        history: What happened.
        fog: The fog's log.
        subscribers: The stores of the edges that subscribe to everything.
    """
    findings = _Findings()
    contents = {copy.identity: copy.digest for copy in fog.copies if copy.packet}
    for holder in (fog, *subscribers):
        _check_copies(history, holder, contents, findings)
    for holder in subscribers:
        _check_missing(history, holder, findings)
    found = findings.found
    return Verdict(
        frames=len(history.recorded),
        acknowledged=len(history.acknowledged),
        lost=len(found["lost"]),
        twice=len(found["twice"]),
        invented=len(found["invented"]),
        wrong=len(found["wrong"]),
        told=findings.told,
        excused=findings.excused,
        sentences=tuple(text for kind in found for text in found[kind][:MOST_NAMED]),
    )


def _check_copies(
    history: History, holder: Holder, contents: Mapping[FrameIdentity, bytes], findings: _Findings
) -> None:
    """Everything that is there was recorded, once, with this content."""
    rows = Counter(copy.identity for copy in holder.copies)
    images: Counter[tuple[str, int, bytes]] = Counter()
    for copy in holder.copies:
        identity = copy.identity
        if identity not in history.recorded:
            findings.add("invented", holder, identity, "was never recorded")
            continue
        if not copy.packet:
            continue
        images[identity.device, identity.epoch, copy.source] += 1
        if copy.source != history.recorded[identity]:
            findings.add("wrong", holder, identity, "holds another image")
        elif contents.get(identity, copy.digest) != copy.digest and not history.replaced:
            findings.add("wrong", holder, identity, "is another packet than the fog's")
    for identity, count in rows.items():
        if count > 1:
            findings.add("twice", holder, identity, f"is there {count} times")
    for (device, epoch, source), count in images.items():
        if count > 1:
            twins = [i for i, s in history.recorded.items() if s == source and i.device == device]
            same = [identity for identity in twins if identity.epoch == epoch]
            if len(same) > 1:
                findings.add("twice", holder, same[1], "repeats the image of another frame")


def _check_missing(history: History, holder: Holder, findings: _Findings) -> None:
    """Every acknowledged frame is there, or it was told why not."""
    packets = {copy.identity for copy in holder.copies if copy.packet}
    tombstones = {copy.identity for copy in holder.copies if not copy.packet}
    missing = sorted(history.acknowledged - packets, key=lambda i: (i.device, i.epoch, i.number))
    held = {history.positions[identity] for identity in packets if identity in history.positions}
    told = {p for first, last in holder.gaps for p in range(first, last + 1)} - held
    unknown = []
    for identity in missing:
        position = history.positions.get(identity)
        if identity in history.unprotected:
            findings.excused += 1
        elif identity in tombstones:
            if history.damaged:
                findings.told += 1
            else:
                findings.add("lost", holder, identity, "is a tombstone though nothing was damaged")
        elif not history.damaged:
            findings.add("lost", holder, identity, "was acknowledged and is missing")
        elif position in told:
            told.remove(position)
            findings.told += 1
        else:
            unknown.append(identity)
    # Damage may take even the knowledge which frame it was: then the number of reports must suffice.
    reports = len(told) + holder.damaged + history.reported
    findings.told += min(reports, len(unknown))
    for identity in unknown[reports:]:
        findings.add("lost", holder, identity, "was acknowledged, is missing, and nothing tells of it")
