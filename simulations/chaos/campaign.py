"""Many chaos runs by seed: each in a process of its own, results as JSON lines, resumed where they ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DeploymentError
from simulations.chaos.clock import build_library
from simulations.chaos.deployment import Options
from simulations.chaos.plan import PLAN_VERSION, FaultKind
from simulations.chaos.worker import MODULE, task
from simulations.namespaces import why_not

__all__ = ["Ability", "Line", "Request", "ability", "done_before", "run_all", "tally"]

RESULTS_NAME = "results.jsonl"

RUN_S = 600.0
"""Seconds after which a run counts as hung."""

LINK_FAULTS = (FaultKind.RESET, FaultKind.STALL, FaultKind.SLOW, FaultKind.FLIP_LINK)
"""Faults of links that a cable between namespaces does not have."""

DISK_FAULTS = (FaultKind.FULL_DISK_FOG, FaultKind.FULL_DISK_EDGE)
CLOCK_FAULTS = (FaultKind.CLOCK_FOG, FaultKind.CLOCK_EDGE)

Line = dict[str, Any]
"""One run's result, as in the file of results."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to run.

    Attributes:
        seeds: Of the runs, in order.
        out: Folder of results; what failed is kept there.
        profile: Of the fog's encoder; None: frames are stored as they are.
        cables_bytes_per_s: Rate of cables between network namespaces; None: links through the proxy.
        jobs: Runs at a time.
        timeline: Whether to keep a picture of every run.
        drain_s: Seconds in which all must have been delivered after the faults.
        train: Whether trainers really train; only with a profile, whose packets they decode.
    """

    seeds: Sequence[int]
    out: Path
    profile: str | None = None
    cables_bytes_per_s: float | None = None
    jobs: int = 1
    timeline: bool = False
    drain_s: float = 90.0
    train: bool = False

    @property
    def kind(self) -> str:
        """Runs of one kind and one seed are the same run."""
        links = "proxy" if self.cables_bytes_per_s is None else f"cables {self.cables_bytes_per_s:.0f}"
        return f"{self.profile or 'passthrough'}, {links}{', training' if self.train else ''}"


@dataclass(frozen=True, slots=True)
class Ability:
    """What this machine can do.

    Attributes:
        options: For the runs.
        without: Faults that cannot be done.
        reasons: Why, one sentence each.
    """

    options: Options
    without: tuple[FaultKind, ...]
    reasons: tuple[str, ...]


def ability(request: Request) -> Ability:
    """See which faults this machine can do.

    Raises:
        DeploymentError: Cables were asked for, and network namespaces cannot be used.
    """
    without: list[FaultKind] = []
    reasons: list[str] = []
    library, reason = build_library(request.out)
    if library is None:
        without += CLOCK_FAULTS
        reasons.append(f"no clock jumps: {reason}")
    disks = _may_mount()
    if not disks:
        without += DISK_FAULTS
        reasons.append("no full disks: mounting a small file system needs root and unshare")
    if request.cables_bytes_per_s is not None:
        problem = why_not()
        if problem is not None:
            raise DeploymentError(f"cables between network namespaces cannot be used here: {problem}")
        without += LINK_FAULTS
        reasons.append("no resets, stalls, slow links or flipped bits: a cable can only be pulled out")
    options = Options(
        request.profile, library, disks, request.cables_bytes_per_s, request.drain_s, request.train
    )
    return Ability(options, tuple(without), tuple(reasons))


def done_before(request: Request) -> dict[int, Line]:
    """Results of runs of this kind that an earlier call wrote, by seed; a torn last line is left out.

    So are runs of an earlier version of the plans, in which a seed drew something else.
    """
    path = request.out / RESULTS_NAME
    if not path.exists():
        return {}
    found: dict[int, Line] = {}
    for text in path.read_text(encoding="utf-8").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            if line["run"] == request.kind and line.get("plan", 1) == PLAN_VERSION:
                found[line["seed"]] = line
    return {seed: found[seed] for seed in request.seeds if seed in found}


def run_all(request: Request, known: Iterable[int], able: Ability) -> Iterator[Line]:
    """Run the seeds that are not known yet; yields each result once it is on disk.

    Closing the iterator ends the runs under way.
    """
    left = [seed for seed in request.seeds if seed not in set(known)]
    workers = _Workers(request, able)
    path = request.out / RESULTS_NAME
    with ThreadPoolExecutor(request.jobs) as pool, path.open("a", encoding="utf-8") as file:
        futures = [pool.submit(workers.run, seed) for seed in left]
        try:
            for future in as_completed(futures):
                line = future.result()
                file.write(json.dumps(line) + "\n")
                file.flush()
                yield line
        finally:
            for future in futures:
                future.cancel()
            workers.stop()


def tally(lines: Iterable[Line]) -> dict[str, Any]:
    """Sums over runs, and by fault: how often it struck, in how many runs, how many of these failed."""
    lines = list(lines)
    verdicts = [line["verdict"] for line in lines if line["verdict"] is not None]
    counts = (
        "frames",
        "acknowledged",
        "lost",
        "twice",
        "invented",
        "wrong",
        "stale",
        "told",
        "excused",
        "dropped",
    )
    variants = Counter(name for line in lines for name in line.get("variants", ()))
    struck: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for line in lines:
        kinds = [fault["kind"] for fault in line["faults"] if fault["what"] != "nothing to strike"]
        struck.update(kinds)
        runs.update(set(kinds))
        failed.update(set() if line["good"] else set(kinds))
    seconds = [sum(line["seconds"].values()) for line in lines]
    return {
        "runs": len(lines),
        "failed": sum(not line["good"] for line in lines),
        **{name: sum(verdict[name] for verdict in verdicts) for name in counts},
        "seconds_per_run": round(sum(seconds) / len(seconds), 2) if seconds else 0.0,
        "faults": {
            kind.value: {"struck": struck[kind], "runs": runs[kind], "failed_runs": failed[kind]}
            for kind in FaultKind
        },
        "variants": dict(sorted(variants.items())),
        "refused": sum(bool(line.get("refused")) for line in lines),
        "rounds": sum(line.get("rounds", 0) for line in lines),
        "relabelled": sum(line.get("relabelled", 0) for line in lines),
        "failed_seeds": sorted(line["seed"] for line in lines if not line["good"]),
    }


class _Workers:
    """Processes of runs, which can be stopped from another thread."""

    def __init__(self, request: Request, able: Ability) -> None:
        self._request = request
        self._able = able
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, seed: int) -> Line:
        """One run; its folder is kept when something was wrong."""
        request = self._request
        folder = request.out / "runs" / f"{request.kind.replace(', ', '-').replace(' ', '-')}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        line = {"run": request.kind, "plan": PLAN_VERSION, **self._result(seed, folder)}
        if line["good"]:
            picture = folder / "timeline.png"
            if picture.exists():
                picture.replace(request.out / f"timeline-{seed}.png")
            shutil.rmtree(folder, ignore_errors=True)
        return line

    def _result(self, seed: int, folder: Path) -> Line:
        able, request = self._able, self._request
        prefix = ["unshare", "--mount"] if able.options.disks else []
        short = request.profile is not None
        text = json.dumps(task(seed, folder, able.options, able.without, request.timeline, short))
        with self._lock:
            if self._stopped:
                raise DeploymentError("the campaign was stopped")
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            output, words = process.communicate(text, timeout=RUN_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            output, words = process.communicate()
            words = f"it hung for {RUN_S:.0f} s"
        finally:
            with self._lock:
                self._running.discard(process)
        with contextlib.suppress(json.JSONDecodeError):
            value: Line = json.loads(output)
            return value
        last = words.strip().split("\n")[-1] or "it said nothing"
        problem = f"the run ended with code {process.returncode}: {last}"
        return {
            "seed": seed,
            "good": False,
            "seconds": {},
            "faults": [],
            "verdict": None,
            "problems": [problem],
        }

    def stop(self) -> None:
        """End the runs under way; each ends its daemons."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
