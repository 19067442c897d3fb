"""Calls in several processes, each with its share of the processor."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

__all__ = ["as_done"]

T = TypeVar("T")
V = TypeVar("V")


def as_done(calls: Mapping[T, Callable[[], V]], processes: int, threads: int) -> Iterator[tuple[T, V]]:
    """Results of ``calls`` as they come; calls and results must survive pickling.

    On Ctrl-C, calls that have begun are finished, so that what they measure is kept, and no other begins.

    Args:
        calls: By the name under which a result is given back.
        processes: Calls at the same time.
        threads: OpenMP threads of each process.
    """
    # OpenMP reads this when torch is imported: a child must have it from its start. A forked child would
    # inherit the parent's OpenMP pool, which does not survive a fork.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_leave_interrupts_to_the_parent) as pool:
        running = {pool.submit(call): name for name, call in calls.items()}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
