"""Faults of the stores themselves: full and damaged databases, damaged write-ahead logs, restored backups."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
import time
from pathlib import Path

from common.errors import DeploymentError, StoreCorruptError, StoreError
from common.frame import FrameIdentity
from common.store.backup import back_up, restore
from common.store.database import DATABASE_NAME
from common.store.edge_salvage import salvage_edge
from common.store.salvage import salvage
from simulations.chaos.daemon import Daemon
from simulations.chaos.deployment import Deployment
from simulations.chaos.disks import damage_file
from simulations.chaos.history import History
from simulations.chaos.plan import Fault, FaultKind
from simulations.chaos.stores import committed, lost_ranges, note_outbox, outbox_images, store_id

__all__ = ["STORE_FAULTS", "StoreFaults"]

STORE_FAULTS = (
    FaultKind.FULL_DATABASE,
    FaultKind.DAMAGE_FOG,
    FaultKind.DAMAGE_EDGE,
    FaultKind.DAMAGE_LOG_FOG,
    FaultKind.DAMAGE_LOG_EDGE,
    FaultKind.RESTORE_FOG,
)

DATABASE_ROOM_BYTES = (0, 1 << 16, 1 << 18)
"""What a full database has left."""

WAL_NAME = f"{DATABASE_NAME}-wal"

NO_LOG = "nothing to strike"
"""The daemon was killed, but its write-ahead log was empty."""


class StoreFaults:
    """Strikes the stores of a deployment, and does what an operator would do then.

    Args:
        deployment: What is struck.
        history: Is told what the faults take from the promise.
        folder: For backups and for stores that were put away.
    """

    def __init__(self, deployment: Deployment, history: History, folder: Path) -> None:
        self._run = deployment
        self._history = history
        self._folder = folder
        self._numbers = itertools.count(1)

    def strike(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        """Carry a fault out to its end; says what was done in a few words.

        Raises:
            DeploymentError: The daemon did not come back, or has lost what it does not tell of.
        """
        match fault.kind:
            case FaultKind.FULL_DATABASE:
                return self._fill(fault, daemon, source)
            case FaultKind.DAMAGE_EDGE:
                return self._damage_edge(fault, daemon, source)
            case FaultKind.DAMAGE_LOG_EDGE:
                return self._damage_edge_log(fault, daemon, source)
        try:
            protected, backup = self._back_up(daemon)
        except StoreCorruptError as error:
            if not self._history.damaged:
                raise
            return f"nothing: the damaged store cannot be backed up ({error})"
        match fault.kind:
            case FaultKind.DAMAGE_FOG:
                return self._damage_fog(fault, daemon, source, protected, backup)
            case FaultKind.DAMAGE_LOG_FOG:
                return self._damage_fog_log(fault, daemon, source, protected, backup)
            case _:
                return self._restore(fault, daemon, protected, backup)

    def _fill(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        with daemon.lock:
            daemon.end()
            room = source.choice(DATABASE_ROOM_BYTES)
            size = (daemon.store / DATABASE_NAME).stat().st_size
            daemon.serve(storage={"max_database_bytes": max(size + room, 1 << 16)})
            time.sleep(fault.seconds)
            daemon.end()
            daemon.serve()
        return f"{room} bytes left"

    def _restore(self, fault: Fault, daemon: Daemon, protected: History, backup: Path) -> str:
        """What was acknowledged before the backup began is kept; the rest the fog may lose."""
        time.sleep(fault.seconds)
        with daemon.lock:
            daemon.expect_running()
            daemon.kill()
            lost = self._go_back(daemon, protected, backup)
            daemon.serve()
        return f"{lost} frames came after the backup"

    def _damage_fog(
        self, fault: Fault, daemon: Daemon, source: random.Random, protected: History, backup: Path
    ) -> str:
        with daemon.lock:
            # A clean stop, so that all is in the database and nothing in its write-ahead log.
            daemon.end()
            time.sleep(fault.seconds)
            known = set(committed(daemon.store))
            self._history.damaged = True
            what = damage_file(daemon.store / DATABASE_NAME, source)
            daemon.start()
            if daemon.ready():
                return f"{what}; it started"
            return f"{what}; {self._rescue(daemon, known, protected, backup)}"

    def _damage_fog_log(
        self, fault: Fault, daemon: Daemon, source: random.Random, protected: History, backup: Path
    ) -> str:
        """A fog that starts all the same must tell of every frame that is gone, and how many there are."""
        log = daemon.store / WAL_NAME
        with daemon.lock:
            daemon.expect_running()
            daemon.kill()
            time.sleep(fault.seconds)
            if not _has_content(log):
                daemon.serve()
                return NO_LOG
            known = committed(daemon.store)
            told = lost_ranges(daemon.store, "frames")
            self._history.damaged = self._history.replaced = True
            what = f"log: {damage_file(log, source)}"
            daemon.start()
            if not daemon.ready():
                return f"{what}; {self._rescue(daemon, set(known), protected, backup)}"
            gone = known.keys() - committed(daemon.store).keys()
            counted = len(lost_ranges(daemon.store, "frames") - told)
            if counted < len(gone):
                raise DeploymentError(
                    f"{daemon.name} lost {len(gone)} frames with its write-ahead log and tells of {counted}"
                )
            self._history.forgotten |= gone
            self._history.lost_places |= {
                (store_id(daemon.store, "log_id"), position) for position in lost_ranges(daemon.store, "log")
            }
        return f"{what}; it started without {len(gone)} of {len(known)} frames"

    def _rescue(self, daemon: Daemon, known: set[FrameIdentity], protected: History, backup: Path) -> str:
        """Salvage the store of a fog that refuses it, or restore the backup; says what was done."""
        refusal = daemon.last_words
        salvaged = self._fresh("salvaged")
        try:
            summary = salvage(daemon.store, salvaged)
        except StoreError as error:
            self._go_back(daemon, protected, backup, known)
            daemon.serve()
            return f"refused ({refusal}), not to be salvaged ({error}), restored"
        self._history.reported += _reported(summary.damaged)
        self._put_away(daemon)
        restore(salvaged, daemon.store)
        self._history.replaced = True
        daemon.serve()
        return f"refused ({refusal}), salvaged: {'; '.join(summary.damaged) or 'everything'}"

    def _damage_edge(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        with daemon.lock:
            daemon.end()
            time.sleep(fault.seconds)
            return self._damage(daemon, daemon.store / DATABASE_NAME, source)

    def _damage_edge_log(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        log = daemon.store / WAL_NAME
        with daemon.lock:
            daemon.expect_running()
            daemon.kill()
            time.sleep(fault.seconds)
            if not _has_content(log):
                daemon.serve()
                return NO_LOG
            return f"log: {self._damage(daemon, log, source)}"

    def _damage(self, daemon: Daemon, path: Path, source: random.Random) -> str:
        """Damage a file of an edge's store; it must tell of every number that it has given and lost."""
        device = self._run.keys[daemon.name]
        note_outbox(self._history, daemon.store, device)
        before, epoch = outbox_images(daemon.store), store_id(daemon.store, "epoch")
        self._history.damaged = True
        what = damage_file(path, source)
        daemon.start()
        how = "it started" if daemon.ready() else self._rescue_edge(daemon)
        if store_id(daemon.store, "epoch") != epoch:
            return f"{what}; {how}"
        gone = before.keys() - outbox_images(daemon.store).keys()
        silent = gone - lost_ranges(daemon.store, "outbox")
        if silent:
            raise DeploymentError(f"{daemon.name} lost frame {min(silent)} of its outbox without a word")
        # They are recorded again, and a fog that had them has them twice.
        self._history.again.update((device, epoch, before[number]) for number in gone)
        return f"{what}; {how}, without {len(gone)} of {len(before)} frames"

    def _rescue_edge(self, daemon: Daemon) -> str:
        """Salvage the store of an edge that refuses it, or install it anew; says what was done."""
        refusal = daemon.last_words
        salvaged = self._fresh("salvaged")
        try:
            summary = salvage_edge(daemon.store, salvaged)
        except StoreError as error:
            self._put_away(daemon)
            daemon.serve()
            return f"refused ({refusal}), not to be salvaged ({error}), installed anew"
        self._put_away(daemon)
        shutil.move(salvaged, daemon.store)
        daemon.serve()
        return f"refused ({refusal}), salvaged: {'; '.join(summary.damaged) or 'everything'}"

    def _back_up(self, daemon: Daemon) -> tuple[History, Path]:
        """What had been acknowledged when the backup began, and the backup."""
        before = self._acknowledged()
        backup = self._fresh("backup")
        with daemon.lock:
            back_up(daemon.store, backup)
        return before, backup

    def _acknowledged(self) -> History:
        found = History()
        for edge in self._run.edges:
            with contextlib.suppress(sqlite3.Error):
                note_outbox(found, edge.store, self._run.keys[edge.name])
        return found

    def _go_back(
        self, daemon: Daemon, protected: History, backup: Path, known: set[FrameIdentity] | None = None
    ) -> int:
        """Replace the fog's store by a backup; how many frames the fog had beyond what is protected."""
        beyond: set[FrameIdentity] = set()
        with contextlib.suppress(sqlite3.Error):
            beyond = (known or set(committed(daemon.store))) - protected.acknowledged
        self._history.unprotected |= beyond
        self._history.replaced = True
        self._excuse_labels(protected)
        self._put_away(daemon)
        restore(backup, daemon.store)
        return len(beyond)

    def _excuse_labels(self, protected: History) -> None:
        """Labels that were corrected after the backup began went with the store."""
        now = self._acknowledged().labels
        self._history.unprotected_labels |= {
            i for i, labels in now.items() if protected.labels.get(i) != labels
        }

    def _put_away(self, daemon: Daemon) -> None:
        """Out of the way, on another disk, to be looked at when the run fails."""
        shutil.move(daemon.store, self._fresh(f"{daemon.name}-before"))

    def _fresh(self, name: str) -> Path:
        return self._folder / f"{name}-{next(self._numbers)}"


def _has_content(log: Path) -> bool:
    """Whether a write-ahead log holds anything."""
    return log.is_file() and log.stat().st_size > 0


def _reported(sentences: tuple[str, ...]) -> int:
    """Uploads that a salvage says it has lost."""
    total = 0
    for sentence in sentences:
        first = sentence.split(" ", 1)[0]
        if first.isdigit() and "uploads" in sentence:
            total += int(first)
    return total
