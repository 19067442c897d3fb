"""What the stores of a stopped deployment hold, read from disk for the check."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from common.errors import PacketError
from common.frame import FrameIdentity, content_digest
from common.store import open_edge_store, open_fog_store
from common.store.contract import TrainingView
from common.store.database import DATABASE_NAME
from common.store.records import Record, RecordKind
from common.store.rows import unsigned
from simulations.chaos.history import Copy, History, Holder
from simulations.chaos.labels import held_labels, note_labels

__all__ = [
    "SourceOf",
    "committed",
    "edge_holder",
    "fog_holder",
    "lost_ranges",
    "note_outbox",
    "outbox_images",
    "store_id",
]

SourceOf = Callable[[bytes], bytes]
"""From a packet to the content hash of its image; raises PacketError."""

FRAME_KINDS = (RecordKind.PACKET, RecordKind.TOMBSTONE)

PAGE_RECORDS, PAGE_BYTES = 256, 16 << 20
"""How much is read at a time."""

NO_IMAGE = b"\0" * 32
"""In place of the source of a packet that names none."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that the API does not list, of a store that nobody writes."""

    folder: Path

    def query(self, statement: str) -> list[tuple[object, ...]]:
        path = self.folder / DATABASE_NAME
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()


def note_outbox(history: History, folder: Path, device: str) -> None:
    """Add to the history what an edge has recorded, and what of it, labels too, the fog acknowledged.

    Args:
        history: Is changed.
        folder: The edge's store, which may be running.
        device: The edge's key.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    rows = _Rows(folder).query("SELECT device, epoch, number, digest, state FROM outbox")
    for name, epoch, number, digest, state in rows:
        if name != device or not isinstance(epoch, int) or not isinstance(number, int):
            continue
        identity = FrameIdentity(device, unsigned(epoch), number)
        if isinstance(digest, bytes):
            history.recorded.setdefault(identity, digest)
        if state == "acknowledged":
            history.acknowledged.add(identity)
    note_labels(history, folder)


def outbox_images(folder: Path) -> dict[int, bytes]:
    """Content hash of each frame that an edge knows to have recorded, by number.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    rows = _Rows(folder).query("SELECT number, digest FROM outbox")
    return {int(str(number)): bytes(digest) for number, digest in rows if isinstance(digest, bytes)}


def lost_ranges(folder: Path, table: str) -> set[int]:
    """Numbers of a table that a store says were lost with a damaged write-ahead log.

    Args:
        folder: Of the store.
        table: ``log`` (positions), ``frames`` (arrivals), ``outbox`` (numbers) or ``inbox`` (places).

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    rows = _Rows(folder).query("SELECT source, place, last FROM quarantine WHERE last IS NOT NULL")
    return {
        number
        for source, first, last in rows
        if source == table
        for number in range(int(str(first)), int(str(last)) + 1)
    }


def committed(folder: Path) -> dict[FrameIdentity, int | None]:
    """Frames that a fog has on disk, with their positions in its log.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    rows = _Rows(folder).query("SELECT device, epoch, number, position FROM frames")
    return {
        FrameIdentity(str(device), unsigned(epoch), unsigned(number)): (
            position if isinstance(position, int) else None
        )
        for device, epoch, number, position in rows
        if isinstance(epoch, int) and isinstance(number, int)
    }


def store_id(folder: Path, name: str) -> int:
    """Which store it is.

    Args:
        folder: Of the store.
        name: ``log_id`` of a fog or ``epoch`` of an edge.

    Raises:
        sqlite3.Error: The database cannot be read.
    """
    return unsigned(int(str(_Rows(folder).query(f"SELECT value FROM state WHERE key = '{name}'")[0][0])))


def fog_holder(name: str, folder: Path, source_of: SourceOf) -> tuple[Holder, int, int]:
    """A fog's log as a subscriber from the beginning would read it.

    Returns:
        The holder, the log's id, and how many frames are in its quarantine that no tombstone names.
    """
    copies, gaps = [], []
    with open_fog_store(folder) as store:
        after, more = 0, True
        while more:
            page = store.read(after, PAGE_RECORDS, PAGE_BYTES)
            for record in page.records:
                if record.kind is RecordKind.GAP:
                    gaps.append((store.log_id, int(record.meta["first"]), int(record.meta["last"])))
                elif record.kind in FRAME_KINDS:
                    payload = record.payload
                    if payload is None:
                        payload = store.blob(record.digest, 0, record.size)
                    copies.append(_copy(record, payload, source_of))
            after, more = page.through, page.more
        log = store.log_id
    query = "SELECT count(*) FROM quarantine WHERE source = 'frames' AND last IS NULL"
    lost = _Rows(folder).query(query)[0][0]
    graves = sum(not copy.packet for copy in copies)
    holder = Holder(name, tuple(copies), tuple(gaps), labels=held_labels(folder, "log"))
    return holder, log, max(0, int(str(lost)) - graves)


def edge_holder(name: str, folder: Path, device: str, logs: Collection[int], source_of: SourceOf) -> Holder:
    """An edge's inbox, every packet verified byte by byte.

    Args:
        name: For sentences.
        folder: Its store.
        device: Its key.
        logs: Ids of the fogs' present logs, to which gaps must belong.
        source_of: Reads packets.
    """
    copies: list[Copy] = []
    gaps: list[tuple[int, int, int]] = []
    with open_edge_store(folder, device) as store:
        with store.training_view() as view:
            packets = _packets(view)
            damaged = len(view.damaged)
        after = 0
        while batch := store.records(after, PAGE_RECORDS):
            for sequence, record in batch:
                if record.kind is RecordKind.GAP and record.epoch in logs:
                    gaps.append((record.epoch, int(record.meta["first"]), int(record.meta["last"])))
                elif record.kind is RecordKind.TOMBSTONE:
                    copies.append(_copy(record, b"", source_of))
                elif record.kind is RecordKind.PACKET and sequence in packets:
                    copies.append(_copy(record, packets[sequence], source_of))
            after = batch[-1][0]
    # What is in quarantine is not seen by the view. What went with a write-ahead log is pulled again.
    query = "SELECT count(*) FROM quarantine WHERE source = 'inbox' AND last IS NULL"
    damaged += int(str(_Rows(folder).query(query)[0][0]))
    return Holder(name, tuple(copies), tuple(gaps), damaged, held_labels(folder, "inbox"))


def _packets(view: TrainingView) -> dict[int, bytes]:
    """Sound packets by their place in an edge's own sequence."""
    packets: dict[int, bytes] = {}
    after = 0
    while batch := view.packets_after(after, PAGE_RECORDS, PAGE_BYTES):
        packets.update(batch)
        after = batch[-1][0]
    return packets


def _copy(record: Record, payload: bytes, source_of: SourceOf) -> Copy:
    if record.kind is RecordKind.TOMBSTONE:
        return Copy(record.identity, packet=False)
    try:
        source = source_of(payload)
    except PacketError:
        source = NO_IMAGE
    return Copy(record.identity, packet=True, source=source, digest=content_digest(payload))
