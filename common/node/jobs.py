"""Work that may wait on a disk, done in one thread, with its outcome handed back to the I/O thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from common.node.mailbox import Mailbox

__all__ = ["Call", "Jobs"]

T = TypeVar("T")
Call = Callable[[], None]
"""Something to do in the I/O thread."""


class Jobs:
    """Runs jobs one after the other in a thread of its own.

    The state machines bound how many are outstanding; nothing here grows by itself.

    Args:
        name: Name of the thread.
        mailbox: Takes the calls that bring outcomes back.
    """

    def __init__(self, name: str, mailbox: Mailbox[Call]) -> None:
        self._mailbox = mailbox
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._open = 0

    @property
    def outstanding(self) -> int:
        """Jobs whose outcome has not been taken yet."""
        return self._open

    def run(
        self, job: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None:
        """Run ``job`` in the thread; then, in the I/O thread, ``then`` its result or ``failed`` its error."""
        self._open += 1

        def work() -> None:
            try:
                value = job()
            except Exception as caught:  # whatever the job raises belongs to its caller
                error = caught
                self._mailbox.post(lambda: self._done(lambda: failed(error)))
                return
            self._mailbox.post(lambda: self._done(lambda: then(value)))

        self._pool.submit(work)

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._pool.shutdown(wait=True)

    def _done(self, call: Call) -> None:
        self._open -= 1
        call()
