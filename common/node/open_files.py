"""How many files and connections this process may have open."""

from __future__ import annotations

import logging
import resource

__all__ = ["allow_open_files"]

_log = logging.getLogger(__name__)


def allow_open_files(wanted: int) -> int:
    """Raise the process's own limit as far as it is needed and the system lets it; returns the limit.

    A system often gives 1,024, of which a daemon of 1,000 peers would have none left for its store. Where
    even the highest that is allowed is too low, that is logged.

    Args:
        wanted: Files and connections that the process may come to need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        most = soft
    if most < wanted:
        _log.warning(
            "this process may open %d files and connections, its settings may need %d; raise the limit of "
            "the system (ulimit -n, or LimitNOFILE of a service), or lower limits.peers and limits.strangers",
            most,
            wanted,
        )
    return most
