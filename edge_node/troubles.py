"""Problems that are tried again: each is told once, and once when it has passed."""

from __future__ import annotations

import logging

__all__ = ["Troubles"]


class Troubles:
    """What does not work at present.

    Args:
        log: Where it is told.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._present: dict[str, str] = {}

    @property
    def present(self) -> list[str]:
        """One sentence for each thing that does not work at present."""
        return [f"{what}: {error}" for what, error in self._present.items()]

    def failing(self, what: str, error: Exception) -> None:
        """Something failed and is tried again: logged once, not at each attempt."""
        if self._present.get(what) != str(error):
            self._log.error("%s and is tried again: %s", what, error)
        self._present[what] = str(error)

    def working(self, what: str) -> None:
        """It has worked."""
        if self._present.pop(what, None) is not None:
            self._log.info("no longer: %s", what)
