"""Labels that are corrected at their source while faults strike, and how far the corrections have come."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from common.frame import FrameIdentity, content_digest
from common.store.corrections import LAST_REVISION
from common.store.database import DATABASE_NAME
from common.store.rows import unsigned
from simulations.chaos.history import History, Labels
from simulations.chaos.plan import Relabel

__all__ = ["LABELS_NAME", "Tracks", "held_labels", "note_labels", "uncorrected"]

LABELS_NAME = "groundtruth_rect.txt"

FIRST_BOX = (10, 10, 30, 20)
"""x, y, width and height of the box of every frame before it is corrected."""

CORRECTED_SHARE = 0.5
"""Share of an edge's frames whose labels are corrected at a time."""


class Tracks:
    """The boxes of one edge's frames as its source has them.

    Args:
        folder: Of the sequence.
        frames: How many.
    """

    def __init__(self, folder: Path, frames: int) -> None:
        self._folder = folder
        self.boxes = [FIRST_BOX] * frames

    def write(self) -> None:
        """Replace the source's file in one step."""
        part = self._folder / ".labels.part"
        lines = [",".join(map(str, box)) for box in self.boxes]
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        part.replace(self._folder / LABELS_NAME)

    def change(self, relabel: Relabel) -> int:
        """Correct the labels of some frames; of how many."""
        source = random.Random(relabel.seed)
        changed = [place for place in range(len(self.boxes)) if source.random() < CORRECTED_SHARE]
        for place in changed:
            x, y, width, height = (source.randint(1, 40) for _ in range(4))
            self.boxes[place] = (x, y, width, height)
        self.write()
        return len(changed)


def uncorrected(folder: Path, tracks: Tracks, known: Collection[FrameIdentity]) -> int:
    """Frames whose labels are not those of their source yet, at the edge or at the fog that has the frame.

    Args:
        folder: The edge's store.
        tracks: Its source.
        known: Frames that the fogs have; corrections of others wait for them.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    behind = 0
    rows = _query(
        folder,
        "SELECT device, epoch, outbox.number, source_key, facts, corrections.labels, corrections.state "
        "FROM outbox LEFT JOIN corrections USING (number) WHERE outbox.state = 'acknowledged'",
    )
    for device, epoch, number, key, facts, labels, state in rows:
        place = int(bytes(key).rpartition(b"#")[2])
        current = json.loads(facts if labels is None else labels)["boxes"]
        settled = state != "waiting" or FrameIdentity(device, unsigned(epoch), number) not in known
        behind += not (settled and _text(current) == _text([_corners(tracks.boxes[place])]))
    return behind


def note_labels(history: History, folder: Path) -> None:
    """Add to the history which corrected labels a fog has acknowledged to an edge.

    Args:
        history: Is changed.
        folder: The edge's store, which may be running.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    rows = _query(
        folder,
        "SELECT device, epoch, outbox.number, revision, labels FROM corrections JOIN outbox USING (number) "
        "WHERE corrections.state = 'acknowledged'",
    )
    for device, epoch, number, revision, labels in rows:
        identity = FrameIdentity(str(device), unsigned(epoch), number)
        found = (int(revision), _text(json.loads(labels)["boxes"]))
        if found[0] >= history.labels.get(identity, (0, ""))[0]:
            history.labels[identity] = found


def held_labels(folder: Path, table: str) -> dict[FrameIdentity, Labels]:
    """Newest corrected labels of each frame in a log or an inbox.

    Args:
        folder: Of the store.
        table: ``log`` or ``inbox``.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    found: dict[FrameIdentity, Labels] = {}
    rows = _query(
        folder,
        f"SELECT device, epoch, number, digest, payload FROM {table} WHERE kind = 'labels' ORDER BY number",
    )
    for device, epoch, number, digest, payload in rows:
        frame, revision = divmod(number, LAST_REVISION + 1)
        # What is damaged counts as missing.
        if isinstance(payload, bytes) and content_digest(payload) == digest:
            identity = FrameIdentity(str(device), unsigned(epoch), frame)
            found[identity] = (revision, _text(json.loads(payload)["boxes"]))
    return found


def _corners(box: tuple[int, int, int, int]) -> list[float]:
    """As a node holds it: the files count pixels from 1."""
    x, y, width, height = box
    return [x - 1, y - 1, x - 1 + width, y - 1 + height]


def _text(boxes: Iterable[Any]) -> str:
    return "; ".join(",".join(f"{float(value):g}" for value in box[:4]) for box in boxes)


def _query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    path = folder / DATABASE_NAME
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()
