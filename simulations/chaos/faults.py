"""Carries faults out on a running deployment, and undoes them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from common.errors import DeploymentError, StoreCorruptError, StoreError
from common.store.backup import back_up, restore
from common.store.database import DATABASE_NAME
from common.store.salvage import salvage
from simulations.chaos.daemon import Daemon
from simulations.chaos.deployment import Deployment
from simulations.chaos.disks import damage_file
from simulations.chaos.history import History
from simulations.chaos.links import ProxyLinks
from simulations.chaos.plan import Fault, FaultKind
from simulations.chaos.stores import committed, note_outbox
from simulations.watch import Status

__all__ = ["Injector"]

CLOCK_JUMPS_S = (60.0, 3600.0, 86_400.0, 31_536_000.0)

RATES = (20_000.0, 60_000.0, 200_000.0)
"""Of slow links, B/s."""

FLIP_PROBABILITIES = (1e-5, 1e-4, 1e-3)
"""Of each byte on a bad link."""

DATABASE_ROOM_BYTES = (0, 1 << 16, 1 << 18)
"""What a full database has left."""

DISK_ROOM_BYTES = (0, 1 << 14, 1 << 20)

READY_S = 60.0

CHILD_S = 3.0
"""How long a child that is to be struck may take to appear, seconds."""


class Injector:
    """Faults of one run; :meth:`strike` may be called from several threads.

    Args:
        deployment: What they strike.
        history: Is told what faults take from the promise.
        folder: For backups.
    """

    def __init__(self, deployment: Deployment, history: History, folder: Path) -> None:
        self._run = deployment
        self._history = history
        self._folder = folder
        self._count = 0
        # Whoever looks after a store needs room on its disk.
        self._room = {daemon.name: threading.Lock() for daemon in deployment.daemons}

    def strike(self, fault: Fault) -> str:
        """Carry a fault out to its end; says what was done in a few words, or why nothing was.

        Raises:
            DeploymentError: A daemon did not come back.
        """
        source = random.Random(fault.seed)
        daemon = self._run.daemon(fault.place)
        match fault.kind:
            case FaultKind.KILL_FOG | FaultKind.KILL_EDGE:
                with daemon.lock:
                    self._kill(daemon)
                    time.sleep(fault.seconds)
                    self._start(daemon)
                return "killed"
            case FaultKind.RESTART_FOG | FaultKind.RESTART_EDGE:
                with daemon.lock:
                    self._stop(daemon)
                    time.sleep(fault.seconds)
                    self._start(daemon)
                return "restarted"
            case FaultKind.PAUSE_FOG | FaultKind.PAUSE_EDGE:
                with daemon.lock:
                    daemon.signal(signal.SIGSTOP)
                    time.sleep(fault.seconds)
                    daemon.signal(signal.SIGCONT)
                return "paused"
            case FaultKind.KILL_ENCODER | FaultKind.PAUSE_ENCODER | FaultKind.KILL_TRAINER:
                return self._strike_child(fault, daemon)
            case FaultKind.FULL_DATABASE:
                with self._room[daemon.name]:
                    return self._fill_database(fault, daemon, source)
            case FaultKind.FULL_DISK_FOG | FaultKind.FULL_DISK_EDGE:
                left = source.choice(DISK_ROOM_BYTES)
                with self._room[daemon.name], self._run.disks[daemon.name].filled(left):
                    time.sleep(fault.seconds)
                return f"{left} bytes left"
            case FaultKind.DAMAGE_FOG:
                with self._room[daemon.name]:
                    return self._damage_fog(fault, daemon, source)
            case FaultKind.DAMAGE_EDGE:
                with self._room[daemon.name]:
                    return self._damage_edge(fault, daemon, source)
            case FaultKind.RESTORE_FOG:
                with self._room[daemon.name]:
                    return self._restore(fault, daemon)
            case FaultKind.CLOCK_FOG | FaultKind.CLOCK_EDGE:
                jump = source.choice(CLOCK_JUMPS_S) * source.choice((-1, 1))
                self._run.clocks[daemon.name].shift(jump)
                time.sleep(fault.seconds)
                self._run.clocks[daemon.name].shift(0.0)
                return f"by {jump:.0f} s and back"
            case _:
                return self._strike_link(fault, source)

    def _strike_link(self, fault: Fault, source: random.Random) -> str:
        links, edge = self._run.links, fault.place
        if fault.kind is FaultKind.CUT or not isinstance(links, ProxyLinks):
            links.cut(edge)
            time.sleep(fault.seconds)
            links.mend(edge)
            return "cut"
        calm: dict[str, float | None]
        match fault.kind:
            case FaultKind.RESET:
                links.reset(edge)
                return "reset"
            case FaultKind.STALL:
                links.stall(edge, source.choice(("up", "down", "both")))
                time.sleep(fault.seconds)
                links.resume(edge)
                return "stalled"
            case FaultKind.SLOW:
                values: dict[str, float | None] = {
                    "bytes_per_s": source.choice(RATES),
                    "delay_s": round(source.uniform(0.0, 0.2), 3),
                    "jitter_s": round(source.uniform(0.0, 0.1), 3),
                }
                calm = {"bytes_per_s": None, "delay_s": 0.0, "jitter_s": 0.0}
            case _:
                values = {"flip_probability": source.choice(FLIP_PROBABILITIES)}
                calm = {"flip_probability": 0.0}
        links.change(edge, **values)
        time.sleep(fault.seconds)
        links.change(edge, **calm)
        return ", ".join(f"{name} {value}" for name, value in values.items())

    def _strike_child(self, fault: Fault, daemon: Daemon) -> str:
        def child(status: Status) -> int:
            of_trainer = fault.kind is FaultKind.KILL_TRAINER
            found = status["training"] if of_trainer else status["workers"][0]
            return int(found.get("pid") or 0)

        # Trainers begin once there are some frames; encoders have just been killed with their fog, perhaps.
        daemon.wait(lambda status: child(status) > 0, CHILD_S)
        status = daemon.status()
        pid = 0 if status is None else child(status)
        if not pid:
            return "nothing to strike"
        with contextlib.suppress(ProcessLookupError):
            if fault.kind is FaultKind.PAUSE_ENCODER:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(fault.seconds)
                os.kill(pid, signal.SIGCONT)
                return "paused"
            os.kill(pid, signal.SIGKILL)
        return "killed"

    def _fill_database(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        with daemon.lock:
            self._stop(daemon)
            room = source.choice(DATABASE_ROOM_BYTES)
            size = (daemon.store / DATABASE_NAME).stat().st_size
            self._start(daemon, storage={"max_database_bytes": max(size + room, 1 << 16)})
            time.sleep(fault.seconds)
            self._stop(daemon)
            self._start(daemon)
        return f"{room} bytes left"

    def _restore(self, fault: Fault, daemon: Daemon) -> str:
        """What was acknowledged before the backup began is kept; the rest the fog may lose."""
        try:
            protected, backup = self._back_up(daemon)
        except StoreCorruptError as error:
            if not self._history.damaged:
                raise
            return f"nothing: the damaged store cannot be backed up ({error})"
        time.sleep(fault.seconds)
        with daemon.lock:
            self._kill(daemon)
            lost = self._go_back(daemon, protected, backup)
            self._start(daemon)
        return f"{lost} frames came after the backup"

    def _damage_fog(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        try:
            protected, backup = self._back_up(daemon)
        except StoreCorruptError as error:
            if not self._history.damaged:
                raise
            return f"nothing: the damaged store cannot be backed up ({error})"
        with daemon.lock:
            # A clean stop, so that all is in the database and nothing in its write-ahead log.
            self._stop(daemon)
            time.sleep(fault.seconds)
            known = set(committed(daemon.store))
            self._history.damaged = True
            what = damage_file(daemon.store / DATABASE_NAME, source)
            daemon.start()
            if daemon.ready(READY_S):
                return f"{what}; it started"
            refusal = daemon.last_words
            salvaged = self._fresh("salvaged")
            try:
                summary = salvage(daemon.store, salvaged)
            except StoreError as error:
                self._history.unprotected |= known - protected
                self._go_back(daemon, known, backup)
                self._start(daemon)
                return f"{what}; refused ({refusal}), not to be salvaged ({error}), restored"
            self._history.reported += _reported(summary.damaged)
            self._put_away(daemon)
            restore(salvaged, daemon.store)
            self._history.replaced = True
            self._start(daemon)
            return f"{what}; refused ({refusal}), salvaged: {'; '.join(summary.damaged) or 'everything'}"

    def _damage_edge(self, fault: Fault, daemon: Daemon, source: random.Random) -> str:
        with daemon.lock:
            self._stop(daemon)
            time.sleep(fault.seconds)
            note_outbox(self._history, daemon.store, self._run.keys[daemon.name])
            self._history.damaged = True
            what = damage_file(daemon.store / DATABASE_NAME, source)
            daemon.start()
            if daemon.ready(READY_S):
                return f"{what}; it started"
            refusal = daemon.last_words
            self._put_away(daemon)
            self._start(daemon)
        return f"{what}; refused ({refusal}), installed anew"

    def _back_up(self, daemon: Daemon) -> tuple[set[Any], Path]:
        """What had been acknowledged when the backup began, and the backup."""
        before = History()
        for edge in self._run.edges:
            with contextlib.suppress(sqlite3.Error):
                note_outbox(before, edge.store, self._run.keys[edge.name])
        backup = self._fresh("backup")
        with daemon.lock:
            back_up(daemon.store, backup)
        return before.acknowledged, backup

    def _go_back(self, daemon: Daemon, protected: set[Any], backup: Path) -> int:
        """Replace the fog's store by a backup; how many frames the fog had beyond what is protected."""
        beyond: set[Any] = set()
        with contextlib.suppress(sqlite3.Error):
            beyond = set(committed(daemon.store)) - protected
        self._history.unprotected |= beyond
        self._history.replaced = True
        self._put_away(daemon)
        restore(backup, daemon.store)
        return len(beyond)

    def _put_away(self, daemon: Daemon) -> None:
        """Out of the way, on another disk, to be looked at when the run fails."""
        shutil.move(daemon.store, self._fresh(f"{daemon.name}-before"))

    def _fresh(self, name: str) -> Path:
        self._count += 1
        return self._folder / f"{name}-{self._count}"

    def _start(self, daemon: Daemon, **changes: Any) -> None:
        daemon.start(**changes)
        if not daemon.ready(READY_S):
            raise DeploymentError(
                f"{daemon.name} ended with code {daemon.code} when it was started again: {daemon.last_words}"
            )

    def _kill(self, daemon: Daemon) -> None:
        _expect_running(daemon)
        daemon.kill()

    def _stop(self, daemon: Daemon) -> None:
        _expect_running(daemon)
        code = daemon.stop()
        if code:
            raise DeploymentError(
                f"{daemon.name} ended with code {code} when it was told to stop: {daemon.last_words}"
            )


def _expect_running(daemon: Daemon) -> None:
    if not daemon.running:
        raise DeploymentError(f"{daemon.name} ended by itself with code {daemon.code}: {daemon.last_words}")


def _reported(sentences: tuple[str, ...]) -> int:
    """Uploads that a salvage says it has lost."""
    total = 0
    for sentence in sentences:
        first = sentence.split(" ", 1)[0]
        if first.isdigit() and "uploads" in sentence:
            total += int(first)
    return total
