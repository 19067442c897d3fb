"""The next batch is made beside the step on the present one, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

__all__ = ["DecodeAhead"]

T = TypeVar("T")
V = TypeVar("V")


class DecodeAhead(Generic[T, V]):
    """Makes things one ahead of the one that is in use.

    Args:
        make: What makes one; it runs in the thread.
    """

    def __init__(self, make: Callable[[T], V]) -> None:
        self._make = make
        self._making: Future[V] | None = None

    def each(self, items: Iterable[T]) -> Iterator[V]:
        """What is made of each item, in order; the next item is asked for when the one before is made."""
        with ThreadPoolExecutor(1, "decode") as pool:
            made: list[V] = []
            for item in items:
                self._making = pool.submit(self._make, item)
                yield from made
                made = [self._making.result()]
            yield from made

    def settle(self) -> None:
        """Return when the thread does nothing: what it reads may be changed until the next is asked for."""
        if self._making is not None:
            wait([self._making])
