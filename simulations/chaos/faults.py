"""Carries faults out on a running deployment, and undoes them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

from simulations.chaos.daemon import Daemon
from simulations.chaos.deployment import Deployment
from simulations.chaos.history import History
from simulations.chaos.links import ProxyLinks
from simulations.chaos.plan import Fault, FaultKind
from simulations.chaos.store_faults import STORE_FAULTS, StoreFaults
from simulations.watch import Status

__all__ = ["Injector"]

CLOCK_JUMPS_S = (60.0, 3600.0, 86_400.0, 31_536_000.0)

RATES = (20_000.0, 60_000.0, 200_000.0)
"""Of slow links, B/s."""

FLIP_PROBABILITIES = (1e-5, 1e-4, 1e-3)
"""Of each byte on a bad link."""

DISK_ROOM_BYTES = (0, 1 << 14, 1 << 20)

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
        self._stores = StoreFaults(deployment, history, folder)
        # Whoever looks after a store needs room on its disk.
        self._room = {daemon.name: threading.Lock() for daemon in deployment.daemons}

    def strike(self, fault: Fault) -> str:
        """Carry a fault out to its end; says what was done in a few words, or why nothing was.

        Raises:
            DeploymentError: A daemon did not come back.
        """
        source = random.Random(fault.seed)
        daemon = self._run.daemon(fault.place)
        if fault.kind in STORE_FAULTS:
            with self._room[daemon.name]:
                return self._stores.strike(fault, daemon, source)
        match fault.kind:
            case FaultKind.KILL_FOG | FaultKind.KILL_EDGE:
                with daemon.lock:
                    daemon.expect_running()
                    daemon.kill()
                    time.sleep(fault.seconds)
                    daemon.serve()
                return "killed"
            case FaultKind.RESTART_FOG | FaultKind.RESTART_EDGE:
                with daemon.lock:
                    daemon.end()
                    time.sleep(fault.seconds)
                    daemon.serve()
                return "restarted"
            case FaultKind.PAUSE_FOG | FaultKind.PAUSE_EDGE:
                with daemon.lock:
                    daemon.signal(signal.SIGSTOP)
                    time.sleep(fault.seconds)
                    daemon.signal(signal.SIGCONT)
                return "paused"
            case FaultKind.KILL_ENCODER | FaultKind.PAUSE_ENCODER | FaultKind.KILL_TRAINER:
                return self._strike_child(fault, daemon)
            case FaultKind.FULL_DISK_FOG | FaultKind.FULL_DISK_EDGE:
                left = source.choice(DISK_ROOM_BYTES)
                with self._room[daemon.name], self._run.disks[daemon.name].filled(left):
                    time.sleep(fault.seconds)
                return f"{left} bytes left"
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
