"""What one run does, drawn from its seed: fogs, edges, frames, labels, bounds and faults (pure)."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Literal

__all__ = [
    "PLAINEST",
    "PLAN_VERSION",
    "Bound",
    "Fault",
    "FaultKind",
    "Plan",
    "Recording",
    "Relabel",
    "Variant",
    "draw_plan",
]

PLAN_VERSION = 2
"""Grows when a seed draws another plan than before: results of the former plans are of other runs."""


class FaultKind(StrEnum):
    """What goes wrong; the value is shown to people and stands in results."""

    KILL_FOG = "kill fog"
    KILL_EDGE = "kill edge"
    RESTART_FOG = "restart fog"
    RESTART_EDGE = "restart edge"
    PAUSE_FOG = "pause fog"
    PAUSE_EDGE = "pause edge"
    KILL_ENCODER = "kill encoder"
    PAUSE_ENCODER = "pause encoder"
    KILL_TRAINER = "kill trainer"
    CUT = "cut link"
    RESET = "reset link"
    STALL = "stall link"
    SLOW = "slow link"
    FLIP_LINK = "flip bits on link"
    FULL_DISK_FOG = "full disk fog"
    FULL_DISK_EDGE = "full disk edge"
    FULL_DATABASE = "full database fog"
    DAMAGE_FOG = "damage database fog"
    DAMAGE_EDGE = "damage database edge"
    DAMAGE_LOG_FOG = "damage log fog"
    DAMAGE_LOG_EDGE = "damage log edge"
    RESTORE_FOG = "restore backup fog"
    CLOCK_FOG = "clock jump fog"
    CLOCK_EDGE = "clock jump edge"


@dataclass(frozen=True, slots=True)
class _Draw:
    """How often a fault is drawn and how long it lasts, seconds; on what it works."""

    weight: float
    least_s: float
    most_s: float
    place: str


DRAWS = {
    FaultKind.KILL_FOG: _Draw(3, 0.0, 1.5, "fog"),
    FaultKind.KILL_EDGE: _Draw(3, 0.0, 1.5, "edge"),
    FaultKind.RESTART_FOG: _Draw(1, 0.0, 0.5, "fog"),
    FaultKind.RESTART_EDGE: _Draw(1, 0.0, 0.5, "edge"),
    # Longer than the silence after which a peer counts as lost (2 s), and shorter.
    FaultKind.PAUSE_FOG: _Draw(1.5, 0.2, 3.0, "fog"),
    FaultKind.PAUSE_EDGE: _Draw(1.5, 0.2, 3.0, "edge"),
    FaultKind.KILL_ENCODER: _Draw(2, 0.0, 0.0, "encoder"),
    FaultKind.PAUSE_ENCODER: _Draw(1, 0.2, 2.0, "encoder"),
    FaultKind.KILL_TRAINER: _Draw(1.5, 0.0, 0.0, "trainer"),
    FaultKind.CUT: _Draw(2, 0.1, 2.0, "link"),
    FaultKind.RESET: _Draw(2, 0.0, 0.0, "link"),
    FaultKind.STALL: _Draw(2, 0.2, 3.0, "link"),
    FaultKind.SLOW: _Draw(2, 0.5, 2.5, "link"),
    FaultKind.FLIP_LINK: _Draw(2, 0.2, 1.0, "link"),
    FaultKind.FULL_DISK_FOG: _Draw(2, 0.5, 2.0, "fog disk"),
    FaultKind.FULL_DISK_EDGE: _Draw(1, 0.5, 2.0, "edge disk"),
    FaultKind.FULL_DATABASE: _Draw(1, 0.5, 1.5, "fog"),
    FaultKind.DAMAGE_FOG: _Draw(1.5, 0.0, 0.5, "fog"),
    FaultKind.DAMAGE_EDGE: _Draw(1.5, 0.0, 0.5, "edge"),
    FaultKind.DAMAGE_LOG_FOG: _Draw(1.5, 0.0, 0.5, "fog"),
    FaultKind.DAMAGE_LOG_EDGE: _Draw(1.5, 0.0, 0.5, "edge"),
    FaultKind.RESTORE_FOG: _Draw(1.5, 0.2, 1.5, "fog"),
    FaultKind.CLOCK_FOG: _Draw(1, 0.3, 2.0, "fog clock"),
    FaultKind.CLOCK_EDGE: _Draw(1, 0.3, 2.0, "edge clock"),
}

FAULTS_BETWEEN = (3, 5)
"""Faults of one run, at least and at most."""

CALM_S = (0.2, 0.9)
"""Nothing else begins so long after a fault began, seconds; two faults may last into one another."""

FIRST_S = 0.3
"""Calm at the beginning."""

LARGE_SHARE = 0.08
"""Share of frames above the size at which content becomes a file."""

SEVERAL_FOGS_SHARE, DROP_SHARE, REFUSE_SHARE, RELABEL_SHARE = 0.2, 0.2, 0.15, 0.35
"""Shares of runs with two fogs, with logs that drop their oldest records or refuse, with corrected labels."""

BOUND_RECORDS = (4, 12)
"""Records of a bounded log, at least and at most."""

RELABELS = (1, 3)
"""How often labels are corrected in a run that does so."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: What goes wrong.
        at_s: When it begins, seconds after the edges have started.
        seconds: How long it lasts; 0 for one that is over at once.
        edge: Number of the edge that it strikes; None for a fog.
        seed: Of what else it draws.
        fog: Number of the fog that it strikes when there are several.
    """

    kind: FaultKind
    at_s: float
    seconds: float
    edge: int | None
    seed: int
    fog: int = 0

    @property
    def place(self) -> str:
        """Name of the daemon that it strikes, or whose link, child or clock."""
        if self.edge is not None:
            return f"edge{self.edge + 1}"
        return f"fog{self.fog + 1}" if self.fog else "fog"

    def to_json(self) -> dict[str, Any]:
        """For results."""
        return {**asdict(self), "kind": self.kind.value, "place": self.place}


@dataclass(frozen=True, slots=True)
class Recording:
    """What one edge records.

    Attributes:
        frames: How many frames; 0 for an edge that only receives.
        large: How many of these have more than 100,000 bytes.
        per_s: Frames recorded a second.
    """

    frames: int
    large: int
    per_s: float


@dataclass(frozen=True, slots=True)
class Bound:
    """What every fog's log keeps.

    Attributes:
        when_full: drop_oldest: readers behind are told by gap records. refuse: edges wait, until the bound is
            lifted after the faults.
        records: At most.
    """

    when_full: Literal["drop_oldest", "refuse"]
    records: int


@dataclass(frozen=True, slots=True)
class Relabel:
    """Labels of some of an edge's frames are corrected at their source.

    Attributes:
        at_s: When, seconds after the edges have started.
        edge: Whose.
        seed: Of which frames and of the labels.
    """

    at_s: float
    edge: int
    seed: int


@dataclass(frozen=True, slots=True)
class Variant:
    """In what a run departs from one fog that keeps everything of frames that never change.

    Attributes:
        fogs: How many share the devices.
        bound: Of the fogs' logs; None: they keep everything.
        relabels: Corrections of labels, in the order of time.
    """

    fogs: int = 1
    bound: Bound | None = None
    relabels: tuple[Relabel, ...] = ()

    def names(self) -> list[str]:
        """For people and the tally."""
        names = ["several fogs"] if self.fogs > 1 else []
        names += [] if self.bound is None else [f"log {self.bound.when_full.replace('_', ' ')}"]
        return [*names, "labels corrected"] if self.relabels else names


PLAINEST = Variant()


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        seed: It was drawn from.
        edges: What each edge records.
        faults: In order of their beginning.
        seconds: From the start of the edges to the end of the last fault.
        variant: In what it departs from the plainest run.
    """

    seed: int
    edges: tuple[Recording, ...]
    faults: tuple[Fault, ...]
    seconds: float
    variant: Variant = PLAINEST

    def to_json(self) -> dict[str, Any]:
        """For results."""
        return {
            "seed": self.seed,
            "edges": [asdict(edge) for edge in self.edges],
            "faults": [fault.to_json() for fault in self.faults],
            "variant": asdict(self.variant),
        }


def draw_plan(
    seed: int,
    *,
    without: Collection[FaultKind] = (),
    frames: tuple[int, int] = (12, 30),
    edges: tuple[int, int] = (2, 3),
    most_fogs: int = 2,
) -> Plan:
    """Draw a run.

    The first fault goes round all kinds, seed by seed, so that a row of runs meets every one; the others
    are drawn by weight.

    Args:
        seed: Any integer of at least 0; the same seed and arguments give the same plan.
        without: Kinds that cannot be done here.
        frames: Least and greatest number of frames an edge records.
        edges: Least and greatest number of edges.
        most_fogs: Greatest number of fogs.
    """
    source = random.Random(f"chaos {seed}")
    kinds = [kind for kind in DRAWS if kind not in without]
    count = source.randint(*edges)
    chosen = [kinds[seed % len(kinds)]]
    chosen += source.choices(
        kinds, [DRAWS[kind].weight for kind in kinds], k=source.randint(*FAULTS_BETWEEN) - 1
    )
    source.shuffle(chosen)
    faults = _faults(source, chosen, count)
    seconds = max(fault.at_s + fault.seconds for fault in faults)
    recordings = _recordings(source, count, frames, seconds)
    variant = _variant(random.Random(f"variant {seed}"), recordings, seconds, most_fogs)
    if variant.fogs > 1:
        faults = tuple(
            replace(fault, fog=fault.seed % variant.fogs) if fault.edge is None else fault for fault in faults
        )
    return Plan(seed, recordings, faults, seconds, variant)


def _variant(
    source: random.Random, recordings: Sequence[Recording], seconds: float, most_fogs: int
) -> Variant:
    """Each part by a draw of its own, so that they meet each other too."""
    fogs = 2 if source.random() < SEVERAL_FOGS_SHARE and most_fogs > 1 else 1
    kind, records = source.random(), source.randint(*BOUND_RECORDS)
    bound = None
    if kind < DROP_SHARE:
        bound = Bound("drop_oldest", records)
    elif kind < DROP_SHARE + REFUSE_SHARE:
        bound = Bound("refuse", records)
    relabels: list[Relabel] = []
    if source.random() < RELABEL_SHARE:
        recording = [number for number, edge in enumerate(recordings) if edge.frames]
        for _ in range(source.randint(*RELABELS)):
            at_s = round(source.uniform(FIRST_S, max(seconds, 1.0)), 2)
            relabels.append(Relabel(at_s, source.choice(recording), source.randrange(2**32)))
    return Variant(fogs, bound, tuple(sorted(relabels, key=lambda relabel: relabel.at_s)))


def _faults(source: random.Random, kinds: Sequence[FaultKind], edges: int) -> tuple[Fault, ...]:
    """One after the other, each with a calm behind its beginning; none on what another still holds."""
    now, faults = FIRST_S, []
    busy: dict[str, float] = {}
    for kind in kinds:
        draw = DRAWS[kind]
        edge = None if draw.place.startswith("fog") or draw.place == "encoder" else source.randrange(edges)
        if kind is FaultKind.KILL_TRAINER and source.random() < 0.5:
            edge = None
        place = f"{draw.place} {edge}"
        begin = max(now, busy.get(place, 0.0))
        seconds = round(source.uniform(draw.least_s, draw.most_s), 2)
        faults.append(Fault(kind, round(begin, 2), seconds, edge, source.randrange(2**32)))
        busy[place] = begin + seconds + CALM_S[0]
        now = begin + source.uniform(*CALM_S)
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _recordings(
    source: random.Random, count: int, frames: tuple[int, int], seconds: float
) -> tuple[Recording, ...]:
    """Frames come until somewhat after the last fault; of three edges one may only receive."""
    recordings = []
    for edge in range(count):
        number = source.randint(*frames)
        if edge == 2 and source.random() < 0.5:
            number = 0
        large = sum(source.random() < LARGE_SHARE for _ in range(number))
        recordings.append(Recording(number, large, round(max(1.0, number / seconds), 2)))
    return tuple(recordings)
