"""A run of the fuzzer in pieces that can be continued, each in a process of its own."""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import struct
import time
import traceback
import tracemalloc
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.errors import ResidualInrError
from fuzzing.mutator import mutated
from fuzzing.targets import CORPUS, TARGETS, forget_folder, one_sentence, remove_folder

__all__ = ["Tally", "corpus_of", "run_piece"]

MEASURED_EVERY = 20
"""One of so many inputs is run with every allocation traced, which takes several times as long."""

SLOW_SECONDS = 5.0
"""An input that takes longer counts as a fault: a decoder that hangs is as good as one that crashes."""

ADDRESS_SPACE = 1 << 30
"""What a piece may map beyond what it began with, bytes: an allocation beyond fails, and is a fault."""


@dataclass
class Tally:
    """What came out so far.

    Attributes:
        inputs: Inputs given.
        accepted: Of them those that were read without an error.
        crashes: Anything but this system's own errors, with the number of the input.
        over_bound: Inputs for which more was allocated than the target's bound.
        peak_bytes: Most that was allocated for a measured input.
        longest_s: Longest time of an input that was not measured.
        seconds: Spent.
        faults: The first of them in words.
    """

    inputs: int = 0
    accepted: int = 0
    crashes: int = 0
    over_bound: int = 0
    peak_bytes: int = 0
    longest_s: float = 0.0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another piece in."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.crashes += other.crashes
        self.over_bound += other.over_bound
        self.seconds += other.seconds
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.longest_s = max(self.longest_s, other.longest_s)
        self.faults = [*self.faults, *other.faults][:20]


def corpus_of(name: str) -> list[bytes]:
    """The seeds of a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def fuzz(name: str, seed: int, first: int, count: int, place: mmap.mmap | None = None) -> Tally:
    """Give a target the inputs ``first`` to ``first + count - 1`` in this process."""
    target, seeds, tally = TARGETS[name], corpus_of(name), Tally()
    started = time.perf_counter()
    for number in range(first, first + count):
        if place is not None:
            struct.pack_into("<Q", place, 0, number)
        data = mutated(seeds, seed, name, number)
        measured = number % MEASURED_EVERY == 0
        if measured:
            tracemalloc.start()
        since = time.perf_counter()
        fault = ""
        try:
            target.run(data)
            tally.accepted += 1
        except ResidualInrError as error:
            try:
                one_sentence(error)
            except AssertionError as problem:
                fault = str(problem)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})"
        taken = time.perf_counter() - since
        tally.inputs += 1
        if measured:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            tally.peak_bytes = max(tally.peak_bytes, peak)
            if peak > target.bound:
                tally.over_bound += 1
                tally.faults.append(f"{name} {number}: {peak} bytes allocated")
        else:
            tally.longest_s = max(tally.longest_s, taken)
            if taken > SLOW_SECONDS and not fault:
                fault = f"took {taken:.1f} s"
        if fault:
            tally.crashes += 1
            tally.faults.append(f"{name} {number}: {fault}")
    tally.faults = tally.faults[:20]
    tally.seconds = time.perf_counter() - started
    return tally


def run_piece(name: str, seed: int, first: int, count: int) -> Tally:
    """The same in a process of its own with bounded memory; its death by a signal is one crash."""
    TARGETS[name].prepare()
    place = mmap.mmap(-1, 8)
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        # Image libraries write a line for every damaged picture.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        forget_folder()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = 1
        try:
            with os.fdopen(sink, "w") as pipe:
                json.dump(asdict(fuzz(name, seed, first, count, place)), pipe)
            code = 0
        except KeyboardInterrupt:
            code = 130
        finally:
            remove_folder()
            os._exit(code)
    os.close(sink)
    started = time.perf_counter()
    try:
        with os.fdopen(source) as pipe:
            text = pipe.read()
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    status = os.waitpid(child, 0)[1]
    if text:
        return Tally(**json.loads(text))
    if os.waitstatus_to_exitcode(status) == 130:
        raise KeyboardInterrupt
    # The input that killed it is named; those behind it are a piece of their own.
    (number,) = struct.unpack_from("<Q", place, 0)
    how = os.waitstatus_to_exitcode(status)
    fault = f"{name} {number}: the process ended with {how}"
    return Tally(inputs=number - first + 1, crashes=1, seconds=time.perf_counter() - started, faults=[fault])
