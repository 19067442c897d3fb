"""What happened to every frame, and what the stores must therefore hold (pure; no files, no processes)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.frame import FrameIdentity

__all__ = ["Copy", "History", "Holder", "Labels", "Place", "Verdict", "check"]

Place = tuple[int, int]
"""(id of a log, position in it)."""

Labels = tuple[int, str]
"""(revision, boxes as text) of a frame's corrected labels; the greatest revision holds."""

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
        gaps: (log, first, last) positions of the fogs' present logs that it was told are not to be had.
        damaged: Records of its own that it says are damaged.
        labels: Newest corrected labels that it holds of each frame.
    """

    name: str
    copies: Sequence[Copy]
    gaps: Sequence[tuple[int, int, int]] = ()
    damaged: int = 0
    labels: Mapping[FrameIdentity, Labels] = field(default_factory=dict)


@dataclass
class History:
    """What the edges recorded and what the fog promised.

    Attributes:
        recorded: Content hash of the image of every frame that was ever recorded, by identity.
        acknowledged: Frames that the fog acknowledged.
        unprotected: Frames that a fault took from the fog beyond its promise, such as those acknowledged
            after the backup that was restored.
        positions: Place in the present log of a fog, where that fog knows it.
        damaged: Whether stored bytes were damaged on purpose: then a frame may be reported lost.
        replaced: Whether the fog's store was replaced by a backup: it may then encode a frame anew.
        reported: Frames that the fog reports as damaged without telling which.
        dropping: Whether the fogs' logs drop their oldest records: readers behind must hold a gap record.
        forgotten: Frames that a damaged write-ahead log took from a fog, which counted them as lost.
        lost_places: Places in the fogs' logs that it took along, and that no frame need have had since.
        again: Images that an edge may record once more each, since it has lost its record of them.
        labels: Newest corrected labels of each frame that a fog has acknowledged.
        unprotected_labels: Frames whose newest labels a fault took from the fog beyond its promise.
    """

    recorded: dict[FrameIdentity, bytes] = field(default_factory=dict)
    acknowledged: set[FrameIdentity] = field(default_factory=set)
    unprotected: set[FrameIdentity] = field(default_factory=set)
    positions: dict[FrameIdentity, Place] = field(default_factory=dict)
    damaged: bool = False
    replaced: bool = False
    reported: int = 0
    dropping: bool = False
    forgotten: set[FrameIdentity] = field(default_factory=set)
    lost_places: set[Place] = field(default_factory=set)
    again: Counter[tuple[str, int, bytes]] = field(default_factory=Counter)
    labels: dict[FrameIdentity, Labels] = field(default_factory=dict)
    unprotected_labels: set[FrameIdentity] = field(default_factory=set)


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
        stale: Frames that a subscriber holds without their newest acknowledged labels.
        told: Frames missing at a subscriber told of after damage: gap, tombstone, quarantine.
        excused: Frames missing at a subscriber that a fault took beyond the promise.
        dropped: Frames that retention dropped before a subscriber came for them, which holds a gap record.
        sentences: What is wrong, some of each kind.
    """

    frames: int
    acknowledged: int
    lost: int
    twice: int
    invented: int
    wrong: int
    stale: int
    told: int
    excused: int
    dropped: int
    sentences: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.twice or self.invented or self.wrong or self.stale)


@dataclass
class _Findings:
    found: dict[str, list[str]] = field(
        default_factory=lambda: {"lost": [], "twice": [], "invented": [], "wrong": [], "stale": []}
    )
    told: int = 0
    excused: int = 0
    dropped: int = 0

    def add(self, kind: str, holder: Holder, identity: FrameIdentity, what: str) -> None:
        device, epoch, number = identity.device[:6], identity.epoch, identity.number
        self.found[kind].append(f"{holder.name}: frame {number} of {device} (epoch {epoch:x}) {what}")


def check(history: History, fogs: Sequence[Holder], subscribers: Sequence[Holder]) -> Verdict:
    """Compare what the stores hold with what happened.

    Args:
        history: What happened.
        fogs: The fogs' logs; a frame belongs to one of them.
        subscribers: The stores of the edges that subscribe to everything.
    """
    findings = _Findings()
    copies = [copy for fog in fogs for copy in fog.copies]
    contents = {copy.identity: copy.digest for copy in copies if copy.packet}
    together = Holder(" and ".join(fog.name for fog in fogs), copies)
    for holder in (together, *subscribers):
        _check_copies(history, holder, contents, findings)
    for holder in subscribers:
        _check_missing(history, holder, findings)
        _check_labels(history, holder, findings)
    found = findings.found
    return Verdict(
        frames=len(history.recorded),
        acknowledged=len(history.acknowledged),
        lost=len(found["lost"]),
        twice=len(found["twice"]),
        invented=len(found["invented"]),
        wrong=len(found["wrong"]),
        stale=len(found["stale"]),
        told=findings.told,
        excused=findings.excused,
        dropped=findings.dropped,
        sentences=tuple(text for kind in found for text in found[kind][:MOST_NAMED]),
    )


def _check_copies(
    history: History, holder: Holder, contents: Mapping[FrameIdentity, bytes], findings: _Findings
) -> None:
    """Everything that is there was recorded, once, with this content."""
    # After damage a fog may bury a frame whose packet had left it before.
    rows = Counter((copy.identity, copy.packet and history.damaged) for copy in holder.copies)
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
    for (identity, _), count in rows.items():
        if count > 1:
            findings.add("twice", holder, identity, f"is there {count} times")
    for (device, epoch, source), count in images.items():
        if count > 1 + history.again[device, epoch, source]:
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
    told = {(log, p) for log, first, last in holder.gaps for p in range(first, last + 1)} - held
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
        elif identity in history.forgotten:
            findings.told += 1
        elif position in told and (history.dropping or history.damaged):
            told.remove(position)
            findings.told += not history.dropping
            findings.dropped += history.dropping
        elif not history.damaged:
            findings.add("lost", holder, identity, "was acknowledged and is missing")
        else:
            unknown.append(identity)
    # Damage may take even the knowledge which frame it was: then the number of reports must suffice. Gaps of
    # retention, and those over what a write-ahead log took along, name frames and are no such reports.
    gaps = set() if history.dropping else told - history.lost_places
    reports = len(gaps) + holder.damaged + history.reported
    findings.told += min(reports, len(unknown))
    for identity in unknown[reports:]:
        findings.add("lost", holder, identity, "was acknowledged, is missing, and nothing tells of it")


def _check_labels(history: History, holder: Holder, findings: _Findings) -> None:
    """The newest acknowledged labels of every frame that is there are there too, or were told to be gone."""
    packets = {copy.identity for copy in holder.copies if copy.packet}
    reports = holder.damaged + history.reported if history.damaged else 0
    for identity, labels in history.labels.items():
        held = holder.labels.get(identity)
        # An edge may have labels that its fog took and it does not know to be acknowledged.
        if identity not in packets or (held is not None and (held == labels or held[0] > labels[0])):
            continue
        place = history.positions.get(identity)
        # Labels stand in the log, as a rule, behind their frame; where exactly, nobody knows once they went.
        behind = any(place is None or (log == place[0] and last > place[1]) for log, _, last in holder.gaps)
        if identity in history.unprotected_labels:
            findings.excused += 1
        elif behind and (history.damaged or history.dropping):
            findings.told += 1
        elif reports:
            reports -= 1
            findings.told += 1
        else:
            what = "none" if held is None else f"revision {held[0]}"
            findings.add("stale", holder, identity, f"has labels of {what} and not of revision {labels[0]}")
