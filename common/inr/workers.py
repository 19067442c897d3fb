"""Threads that share the pieces of a decode, each with a matrix library of its own."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

__all__ = ["run_pieces"]

P = TypeVar("P")
AHEAD = 2
"""Pieces made ahead for each thread."""


def run_pieces(work: Callable[[P], None], pieces: Iterable[P]) -> None:
    """Call ``work`` with every piece, on as many threads as torch may use.

    Each thread computes alone, so what comes out does not depend on how many there are. Gradients are off.

    Args:
        work: Safe to call from several threads at once.
        pieces: In any number; made as they are needed.

    Raises:
        Exception: The first that ``work`` raised.
    """
    threads = torch.get_num_threads()

    def alone(piece: P) -> None:
        with torch.no_grad():
            work(piece)

    if threads == 1:
        for piece in pieces:
            alone(piece)
        return
    pool = _pool(threads)
    waiting: deque[Future[None]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(alone, piece))
        # What is made faster than it is worked on would fill the memory.
        if len(waiting) > AHEAD * threads:
            waiting.popleft().result()
    for future in waiting:
        future.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    started = threading.Barrier(threads + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        # A thread takes the latest count of all when it first asks: let it ask now.
        torch.get_num_threads()
        started.wait()

    pool = ThreadPoolExecutor(threads, "decode", begin)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    # A thread's own count is also what torch gives to threads that begin later.
    torch.set_num_threads(threads)
    return pool


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=_pool.cache_clear)
